import { randomUUID } from 'node:crypto';
import { delay } from '../connect/backoff.ts';
import { ConnectError } from '../connect/errors.ts';
import type { ConnectorSpec } from '../connect/spec.ts';
import { subscribe, unsubscribe } from '../log/start.ts';
import { declareTopic, ensureTopic } from '../log/topics.ts';
import { type ConnectorRow, deleteConnector, putConnector, readConnector, specOf } from '../state/connectors.ts';
import { connectorPk } from '../state/keys.ts';
import { abandonLease } from '../state/lease.ts';
import type { Key, Table } from '../state/table.ts';
import type { InvokeFunction, LifecycleEvent } from './ports.ts';
import { askAgain, restartTasks, wakeTasks } from './tasks.ts';

export interface ApplyOptions {
  readonly nowMs?: number;
  /**
   * `required`: problems that the connector's function finds, with the system or while it prepares it, are thrown as CHECK_FAILED, and
   * the connector stays as it was. `reported`: they are returned.
   */
  readonly check?: 'required' | 'reported';
  /** Waits before a check that found problems is tried again: rights that were just granted take seconds to be known everywhere. */
  readonly retryAfterMs?: readonly number[];
}

/**
 * Creates or updates a connector: a check of its system, its topics, its row, its subscriptions, its upstream leftovers (`created`, in
 * its own function), then a first run, also of tasks that had failed. One code path for the deploy, the CLI and REST. Every step can be repeated.
 */
export const applyConnector = async (
  table: Table,
  functions: InvokeFunction,
  spec: ConnectorSpec,
  { nowMs = Date.now(), check = 'reported', retryAfterMs = [] }: ApplyOptions = {},
): Promise<{ row: ConnectorRow; problems: readonly string[] }> => {
  const { problems: found, warnings } = await checkConnector(functions, spec, retryAfterMs);
  if (check === 'required') requireHealthy(spec, found);
  const before = await readConnector(table, spec.name);
  const row = await writeConnector(table, spec, before, nowMs);
  const { problems: left } = await ask(functions, row, { connector: row.name, lifecycle: 'created' });
  if (check === 'required' && left.length > 0) {
    if (before === undefined) await removeConnector(table, functions, spec.name);
    else await writeConnector(table, specOf(before), row, nowMs);
    requireHealthy(spec, left);
  }
  // A new release or config may be what a failed task was waiting for, or name another destination.
  await restartTasks(table, row);
  if (before !== undefined) await askAgain(table, row);
  // Whoever chose `manual`, or the times, chose the moment.
  if (row.trigger !== 'manual' && !row.trigger.startsWith('cron ')) await wakeTasks(functions, row, 'manual');
  return { row, problems: [...found, ...left, ...warnings] };
};

/** Longer than this nothing is tried again: a function that does not answer takes all its time for each try. */
const retryWithinMs = 60_000;

const checkConnector = async (
  functions: InvokeFunction,
  spec: ConnectorSpec,
  retryAfterMs: readonly number[],
): Promise<Found> => {
  const startedMs = Date.now();
  const check = () => ask(functions, spec, { connector: spec.name, lifecycle: 'check', spec });
  let found = await check();
  for (const ms of retryAfterMs) {
    if (found.problems.length === 0 || Date.now() - startedMs > retryWithinMs) break;
    await delay(ms);
    found = await check();
  }
  return found;
};

const requireHealthy = ({ name }: ConnectorSpec, problems: readonly string[]): void => {
  if (problems.length === 0) return;
  throw new ConnectError('CHECK_FAILED', `connector ${name}: ${problems.join('; ')}`);
};

const writeConnector = async (
  table: Table,
  spec: ConnectorSpec,
  before: ConnectorRow | undefined,
  nowMs: number,
): Promise<ConnectorRow> => {
  for (const { name, ...options } of spec.to ?? []) await declareTopic(table, name, options);
  if (spec.errors.deadLetterTopic !== undefined) await ensureTopic(table, spec.errors.deadLetterTopic);
  const row = await putConnector(table, spec, { incarnation: randomUUID() });
  for (const topic of spec.from ?? []) await subscribe(table, topic, spec.name, nowMs);
  const dropped = (before?.from ?? []).filter((topic) => !spec.from?.includes(topic));
  for (const topic of dropped) await unsubscribe(table, topic, spec.name);
  return row;
};

/**
 * Removes a connector: `deleted` runs in its own function first, because it has the network and the secret; what it could not remove
 * upstream is returned, and does not block. Its offsets go with it; the lease of a run that is under way stays until it expires.
 */
export const removeConnector = async (
  table: Table,
  functions: InvokeFunction,
  name: string,
  nowMs = Date.now(),
): Promise<readonly string[]> => {
  const row = await readConnector(table, name);
  const { problems } =
    row === undefined ? nothingFound : await ask(functions, row, { connector: name, lifecycle: 'deleted' });
  for (const topic of row?.from ?? []) await unsubscribe(table, topic, name);
  // The row first: a run in progress finds it gone and stops; what it still commits lies under an incarnation that nobody reads.
  await deleteConnector(table, name);
  // Also where the row was gone before: a removal that died left its tasks, and a failed one would block a new connector's.
  const left: Key[] = [];
  for (const item of await table.query(connectorPk(name)))
    if (!(await abandonLease(table, item, nowMs))) left.push(item);
  for (let at = 0; at < left.length; at += 100)
    await table.write(left.slice(at, at + 100).map(({ pk, sk }) => ({ delete: { pk, sk } })));
  return problems;
};

interface Found {
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

const nothingFound: Found = { problems: [], warnings: [] };

const ask = async (
  functions: InvokeFunction,
  { functionName }: Pick<ConnectorSpec, 'functionName'>,
  event: LifecycleEvent,
): Promise<Found> => {
  try {
    // A function of an older release knows no warnings.
    return { ...nothingFound, ...((await functions.request(functionName, event)) as Partial<Found>) };
  } catch (thrown) {
    return { ...nothingFound, problems: [`${event.lifecycle} did not run: ${(thrown as Error).message}`] };
  }
};

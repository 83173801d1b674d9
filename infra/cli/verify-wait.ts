import { delay } from '../../shared/connect/backoff.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { VerifiedTable } from '../../shared/connect/verify.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import { type ConnectorState, readState } from '../../shared/management/status.ts';
import { endRuns } from '../../shared/state/connectors.ts';
import { isHeld } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';
import type { Ask, Edge, TablePair } from './verify-edges.ts';

/** Between two looks, and at most: each may be a run that finds nothing, such as one of a source that rests. */
const lookMs = 200;
const maxLookMs = 2_000;

/** A continuous source that did not get so far by itself in this time has nothing more to read, or much. */
const quietMs = 10_000;

/** A pipeline that gets nowhere for so long is not waited for. */
const patienceMs = 10 * 60_000;

export interface Waiting {
  readonly table: Table;
  readonly functions: InvokeFunction;
  readonly edge: Edge;
  readonly ask: Ask;
  readonly signal: AbortSignal;
}

/** Resolves when the destination has everything that was before a position of the source. Runs what its trigger would run later. */
export const passedBy =
  (waiting: Waiting) =>
  async ({ table }: Pick<TablePair, 'table'>, position: unknown): Promise<void> => {
    await sourcePassed(waiting, table, position);
    if (waiting.edge.sink.name !== waiting.edge.source.name) await sinkPassed(waiting);
  };

const sourcePassed = async (waiting: Waiting, of: VerifiedTable, position: unknown): Promise<void> => {
  const { table, functions, edge, ask, signal } = waiting;
  const { name } = edge.source;
  let lookedAtMs = performance.now();
  let waitMs = lookMs;
  for (const isOver = patience(name); ; isOver()) {
    const state = await stateOf(table, name);
    const { passed } = await ask('source', { step: 'passed', table: of, position, offsets: state.progress.offsets });
    if (passed === 'yes') return;
    if (passed === 'no') await runFree(functions, state);
    else if ((await runFirstTask(functions, state)) === 'end') return;
    // A run that lasts writes nothing while nothing comes: what it has passed it commits when it ends.
    if (edge.source.continuous === true && performance.now() - lookedAtMs > quietMs) {
      await endRuns(table, name);
      lookedAtMs = performance.now();
    }
    await delay(waitMs, signal);
    waitMs = Math.min(2 * waitMs, maxLookMs);
  }
};

/** Of a continuous source that runs: where the destination owns its offsets, what a run has read is told when it ends. */
export const awaitEndOfRun = async (waiting: Pick<Waiting, 'table' | 'edge' | 'signal'>): Promise<void> => {
  const { name, continuous } = waiting.edge.source;
  const firstTask = async () => (await stateOf(waiting.table, name)).tasks[0]!.row;
  const before = await firstTask();
  if (continuous !== true || !isHeld(before, Date.now())) return;
  await endRuns(waiting.table, name);
  for (const isOver = patience(name); (await firstTask()).runs === before.runs; isOver())
    await delay(lookMs, waiting.signal);
};

/** A run of each task that does not run, and how many those were. */
const runFree = async (functions: InvokeFunction, { row, tasks }: ConnectorState): Promise<number> => {
  const free = tasks.filter((task) => !isHeld(task.row, Date.now()));
  await Promise.all(
    free.map(({ task }) =>
      functions.request(row.functionName, { connector: row.name, task, reason: 'manual', drain: true }),
    ),
  );
  return free.length;
};

/**
 * Runs the task that reads changes, unless it runs. `end`: the run began after this call and found nothing more behind what it committed, so
 * that all before the call is passed, also where no change is behind it that would be committed. A continuous one nearly always runs: it is
 * asked all the same, because a run that finds nothing more needs no lease to say so.
 */
export const runFirstTask = async (
  functions: InvokeFunction,
  { row, tasks }: ConnectorState,
): Promise<'end' | 'more'> => {
  if (row.continuous !== true && isHeld(tasks[0]!.row, Date.now())) return 'more';
  const event = { connector: row.name, task: 0, reason: 'manual' } as const;
  const { outcome } = (await functions.request(row.functionName, { ...event, drain: true })) as {
    readonly outcome: string;
  };
  // It had the lease, and the next one that lasts would come with its schedule only.
  if (row.continuous === true && outcome === 'drained') await functions.event(row.functionName, event);
  return outcome === 'idle' || outcome === 'drained' ? 'end' : 'more';
};

/** Until the sink is where the log ended when this was called. */
const sinkPassed = async ({ table, functions, edge, signal }: Waiting): Promise<void> => {
  const { name } = edge.sink;
  const ends = new Map((await stateOf(table, name)).lanes?.map((lane) => [JSON.stringify(lane.partition), lane.next]));
  for (const isOver = patience(name); ; isOver()) {
    const state = await stateOf(table, name);
    const { lanes = [] } = state;
    const isBehind = lanes.some(
      ({ partition, offset }) => offset.base + offset.index < (ends.get(JSON.stringify(partition)) ?? 0),
    );
    if (!isBehind) return;
    if ((await runFree(functions, state)) === 0) await delay(lookMs, signal);
  }
};

const patience = (name: string) => {
  const sinceMs = performance.now();
  return () => {
    if (performance.now() - sinceMs > patienceMs)
      throw new ConnectError(
        'UNAVAILABLE',
        `${name} is still behind after ${patienceMs / 60_000} minutes: see \`sluice status\``,
      );
  };
};

/** Throws where the connector does not go on by itself: what may pass is tried again, and waited for. */
export const stateOf = async (table: Table, name: string): Promise<ConnectorState> => {
  const state = await readState(table, name, Date.now());
  if (state === undefined) throw new ConnectError('NOT_FOUND', `there is no connector ${name}`);
  if (state.row.target !== 'STARTED')
    throw new ConnectError('STATE_CONFLICT', `${name} is ${state.row.target}: \`sluice connectors resume ${name}\``);
  const failed = state.tasks.find(({ state, row }) => state === 'FAILED' && row.retriable !== true);
  if (failed !== undefined)
    throw new ConnectError('NEEDS_OPERATOR', `${name} task ${failed.task} failed: ${failed.row.trace}`);
  return state;
};

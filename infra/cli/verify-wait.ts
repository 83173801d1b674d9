import { delay } from '../../shared/connect/backoff.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import { type ConnectorState, readState } from '../../shared/management/status.ts';
import { isHeld } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';
import type { Ask, Edge } from './verify-edges.ts';

/** Between two looks. */
const lookMs = 200;

/** A pipeline that gets nowhere for so long is not waited for. */
const patienceMs = 10 * 60_000;

export interface Waiting {
  readonly table: Table;
  readonly functions: InvokeFunction;
  readonly edge: Edge;
  readonly ask: Ask;
  readonly signal: AbortSignal;
}

/** Resolves when the destination has everything that was before a position of the source's log. Runs what its trigger would run later. */
export const passedBy =
  (waiting: Waiting) =>
  async (position: unknown): Promise<void> => {
    await sourcePassed(waiting, position);
    if (waiting.edge.sink.name !== waiting.edge.source.name) await sinkPassed(waiting);
  };

const sourcePassed = async ({ table, functions, edge, ask, signal }: Waiting, position: unknown): Promise<void> => {
  const { name } = edge.source;
  for (const isOver = patience(name); ; isOver()) {
    const state = await stateOf(table, name);
    const { passed } = await ask('source', { step: 'passed', position, offsets: state.progress.offsets });
    if (passed || (await runFirstTask(functions, state)) === 'end') return;
    await delay(lookMs, signal);
  }
};

/**
 * Runs the task that reads changes, unless it runs. `end`: the run began after this call and found nothing more behind what it committed, so
 * that all before the call is passed, also where no change is behind it that would be committed.
 */
export const runFirstTask = async (
  functions: InvokeFunction,
  { row, tasks }: ConnectorState,
): Promise<'end' | 'more'> => {
  if (isHeld(tasks[0]!.row, Date.now())) return 'more';
  const { outcome } = (await functions.request(row.functionName, {
    connector: row.name,
    task: 0,
    reason: 'manual',
  })) as { readonly outcome: string };
  return outcome === 'idle' || outcome === 'drained' ? 'end' : 'more';
};

/** Until the sink is where the log ended when this was called. */
const sinkPassed = async ({ table, functions, edge, signal }: Waiting): Promise<void> => {
  const { name } = edge.sink;
  const ends = new Map((await stateOf(table, name)).lanes?.map((lane) => [JSON.stringify(lane.partition), lane.next]));
  for (const isOver = patience(name); ; isOver()) {
    const { row, tasks, lanes = [] } = await stateOf(table, name);
    const isBehind = lanes.some(
      ({ partition, offset }) => offset.base + offset.index < (ends.get(JSON.stringify(partition)) ?? 0),
    );
    if (!isBehind) return;
    const free = tasks.filter((task) => !isHeld(task.row, Date.now()));
    await Promise.all(
      free.map(({ task }) => functions.request(row.functionName, { connector: name, task, reason: 'manual' })),
    );
    if (free.length === 0) await delay(lookMs, signal);
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

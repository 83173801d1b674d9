import { delay } from '../../shared/connect/backoff.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import { type ConnectorState, readStates } from '../../shared/management/status.ts';
import { restartConnector } from '../../shared/management/tasks.ts';
import { isHeld } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';

const lookMs = 100;

/** How a drained run ended: every connector as it is, and those that failed. */
export interface Drained {
  readonly states: readonly ConnectorState[];
  readonly failed: readonly ConnectorState[];
}

/**
 * Runs every source until it has been caught up once, then every reader of the log until it is at the heads. The dispatcher wakes
 * readers while sources still write; here is made sure that the end is reached, whatever a wake-up lost. Failed tasks are restarted
 * once, at the start. `onLook` sees the states several times a second.
 */
export const drain = async (
  table: Table,
  functions: InvokeFunction,
  signal: AbortSignal,
  onLook: (states: readonly ConnectorState[]) => void,
): Promise<Drained> => {
  const nowMs = () => Date.now();
  for (const { row, tasks } of await readStates(table, nowMs()))
    if (tasks.some((task) => task.state === 'FAILED')) await restartConnector(table, functions, row.name);
  const atStart = await readStates(table, nowMs());
  const sources = Promise.all(atStart.filter(readsUpstream).map((state) => drainSource(functions, state, signal)));
  let sourcesDone = false;
  void sources.finally(() => {
    sourcesDone = true;
  });
  const inFlight = new Set<string>();
  for (;;) {
    const done = sourcesDone;
    const states = await readStates(table, nowMs());
    onLook(states);
    for (const state of states.filter((one) => (one.lagRecords ?? 0) > 0))
      wakeReader(functions, state, inFlight, nowMs());
    const failed = states.filter(
      ({ row, tasks }) => row.target === 'STARTED' && tasks.some((task) => task.state === 'FAILED'),
    );
    if (done && states.every((state) => isAtRest(state, nowMs()) || failed.includes(state))) {
      await sources;
      return { states, failed };
    }
    await delay(lookMs, signal);
  }
};

const readsUpstream = ({ row }: ConnectorState): boolean => row.target === 'STARTED' && row.from === undefined;

const isAtRest = ({ row, tasks, lagRecords = 0 }: ConnectorState, nowMs: number): boolean =>
  row.target !== 'STARTED' || (lagRecords === 0 && tasks.every((task) => !isHeld(task.row, nowMs)));

const drainSource = async (functions: InvokeFunction, { row }: ConnectorState, signal: AbortSignal): Promise<void> => {
  await Promise.all(
    Array.from({ length: row.tasks }, (_, task) =>
      drainTask(functions, row.functionName, { connector: row.name, task }, signal),
    ),
  );
};

/** Invokes a task until a run of it, started after this call, found the end. */
const drainTask = async (
  functions: InvokeFunction,
  functionName: string,
  target: { connector: string; task: number },
  signal: AbortSignal,
): Promise<void> => {
  while (!signal.aborted) {
    const answer = (await functions.request(functionName, { ...target, reason: 'manual' })) as { outcome: string };
    if (answer.outcome === 'idle' || answer.outcome === 'drained' || answer.outcome === 'failed') return;
    // Another invocation holds the lease, or the connector changed: look again when it may be over.
    if (answer.outcome !== 'more') await delay(lookMs, signal);
  }
};

const wakeReader = (
  functions: InvokeFunction,
  { row, tasks }: ConnectorState,
  inFlight: Set<string>,
  nowMs: number,
): void => {
  for (const { task, state, row: lease } of tasks) {
    const id = `${row.name}#${task}`;
    if (state !== 'RUNNING' || isHeld(lease, nowMs) || inFlight.has(id)) continue;
    inFlight.add(id);
    functions
      .request(row.functionName, { connector: row.name, task, reason: 'manual' })
      .catch(() => {}) // What a run can't say itself shows in its task's row, or the next look tries again.
      .finally(() => inFlight.delete(id));
  }
};

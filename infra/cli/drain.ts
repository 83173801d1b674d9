import { delay } from '../../shared/connect/backoff.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import { type ConnectorState, readStates } from '../../shared/management/status.ts';
import { restartConnector } from '../../shared/management/tasks.ts';
import { isHeld, readTask } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';

/** Between two looks, or four times as long as the look took: it shares the machine with what it looks at. */
const lookMs = 100;

/** The same while sources still run, and it is not the end that is waited for. */
const busyLookMs = 250;

/** So many looks in a row a reader is left to the dispatcher, who wakes it within moments: of two runs one would only start, and find it held. */
const patientLooks = 3;

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
  interrupted: AbortSignal,
  onLook: (states: readonly ConnectorState[]) => void,
): Promise<Drained> => {
  for (const { row, tasks } of await readStates(table, Date.now()))
    if (tasks.some((task) => task.state === 'FAILED')) await restartConnector(table, functions, row.name);
  const atStart = await readStates(table, Date.now());
  const over = new AbortController();
  const signal = AbortSignal.any([interrupted, over.signal]);
  const invoke = enduringInvoke(functions);
  let sourcesDone = false;
  const sources = Promise.all(
    atStart.filter(readsUpstream).map((state) => drainSource(table, invoke, state, signal)),
  ).then(() => {
    sourcesDone = true;
  });
  try {
    // The look ends with the states; the sources only where they, or the signal, ended them with an error.
    return await Promise.race([look(table, invoke, signal, () => sourcesDone, onLook), sources.then(() => never)]);
  } finally {
    over.abort(new Error('the drain is over'));
  }
};

const never = new Promise<never>(() => {});

/** Looks at the states, and wakes whoever reads the log and is behind, until everything is at rest. */
const look = async (
  table: Table,
  invoke: EnduringInvoke,
  signal: AbortSignal,
  sourcesDone: () => boolean,
  onLook: (states: readonly ConnectorState[]) => void,
): Promise<Drained> => {
  const inFlight = new Set<string>();
  const waiting = new Map<string, number>();
  for (;;) {
    const done = sourcesDone();
    const nowMs = Date.now();
    const states = await readStates(table, nowMs);
    const tookMs = Date.now() - nowMs;
    onLook(states);
    // Who waits for a backlog gets all that the sources bring at once, unless they wait for him.
    const allThere = done || states.some(({ row }) => row.held !== undefined);
    for (const state of states.filter(isBehind))
      if (allThere || state.row.backlog === undefined) wakeReader(invoke, state, { inFlight, waiting }, nowMs);
    invoke.requireAlive();
    const failed = states.filter(
      ({ row, tasks }) => row.target === 'STARTED' && tasks.some((task) => task.state === 'FAILED'),
    );
    if (done && states.every((state) => isAtRest(state, nowMs) || failed.includes(state))) return { states, failed };
    await delay(Math.max(done ? lookMs : busyLookMs, 4 * tookMs), signal);
  }
};

/** A reader of the log that has records to read, or a batch or an order that a dead run left behind. */
const isBehind = ({ row, lagRecords = 0, unfinished }: ConnectorState): boolean =>
  row.from !== undefined && (lagRecords > 0 || unfinished);

const readsUpstream = ({ row }: ConnectorState): boolean => row.target === 'STARTED' && row.from === undefined;

const isAtRest = (state: ConnectorState, nowMs: number): boolean =>
  state.row.target !== 'STARTED' || (!isBehind(state) && state.tasks.every((task) => !isHeld(task.row, nowMs)));

/** A function that dies this often, one invocation after the other, does not live. More than the deaths that single out a poison record. */
const mostDeaths = 20;

type Target = { readonly connector: string; readonly task: number };

type Run = { readonly outcome: string; readonly batches: number };

interface EnduringInvoke {
  /** One run; undefined where the function died. */
  (functionName: string, target: Target): Promise<Run | undefined>;
  /** Throws what a function last died of that died too often. */
  requireAlive(): void;
}

/** Invokes tasks whose functions may be killed: another invocation goes on after them. */
const enduringInvoke = (functions: InvokeFunction): EnduringInvoke => {
  const deaths = new Map<string, number>();
  let dead: unknown;
  const invoke = async (functionName: string, target: Target): Promise<Run | undefined> => {
    const id = `${target.connector}#${target.task}`;
    try {
      const { outcome, batches = 0 } = (await functions.request(functionName, { ...target, reason: 'manual' })) as {
        outcome: string;
        batches?: number;
      };
      deaths.delete(id);
      return { outcome, batches };
    } catch (cause) {
      deaths.set(id, (deaths.get(id) ?? 0) + 1);
      if (deaths.get(id)! >= mostDeaths) dead = cause;
      return undefined;
    }
  };
  return Object.assign(invoke, {
    requireAlive() {
      if (dead !== undefined) throw dead;
    },
  });
};

/** Tasks may wait for each other's work: they go round until a round in which nobody did any. */
const drainSource = async (
  table: Table,
  invoke: EnduringInvoke,
  { row }: ConnectorState,
  signal: AbortSignal,
): Promise<void> => {
  const tasks = Array.from({ length: row.tasks }, (_, task) => ({ connector: row.name, task }));
  for (;;) {
    const ends = await Promise.all(tasks.map((target) => drainTask(table, invoke, row.functionName, target, signal)));
    const outcomes = ends.map((end) => end?.outcome);
    if (!outcomes.includes('waiting') || outcomes.includes('failed') || ends.every((end) => end?.hasMoved !== true))
      return;
  }
};

interface DrainedTask {
  readonly outcome: string;
  /** It committed something, or may have. */
  readonly hasMoved: boolean;
}

/** Invokes a task until a run of it, started after this call, found the end. */
const drainTask = async (
  table: Table,
  invoke: EnduringInvoke,
  functionName: string,
  target: Target,
  signal: AbortSignal,
): Promise<DrainedTask | undefined> => {
  // A read of its row costs less than a run that finds the lease held, for which there may have to be a process.
  const isBusy = async () => isHeld(await readTask(table, target.connector, target.task), Date.now());
  let hasMoved = false;
  while (!signal.aborted) {
    for (; await isBusy(); hasMoved = true) await delay(busyLookMs, signal);
    const { outcome, batches } = (await invoke(functionName, target)) ?? { outcome: undefined, batches: 0 };
    if (outcome === 'idle' || outcome === 'waiting' || outcome === 'drained' || outcome === 'failed')
      return { outcome, hasMoved: hasMoved || batches > 0 };
    hasMoved = true;
    // Another invocation was quicker, the connector changed, or the function died: look again when it may be over.
    if (outcome !== 'more') await delay(lookMs, signal);
  }
  return undefined;
};

const wakeReader = (
  invoke: EnduringInvoke,
  { row, tasks }: ConnectorState,
  { inFlight, waiting }: { readonly inFlight: Set<string>; readonly waiting: Map<string, number> },
  nowMs: number,
): void => {
  for (const { task, state, row: lease } of tasks) {
    const id = `${row.name}#${task}`;
    const isFree = state === 'RUNNING' && !isHeld(lease, nowMs) && !inFlight.has(id);
    const looks = isFree ? (waiting.get(id) ?? 0) + 1 : 0;
    waiting.set(id, looks);
    if (looks < patientLooks) continue;
    inFlight.add(id);
    // What a run ended with shows in its task's row, or the next look tries again.
    void invoke(row.functionName, { connector: row.name, task }).finally(() => inFlight.delete(id));
  }
};

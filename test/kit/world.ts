import type { SinkTask, SourceTask } from '../../shared/connect/connector.ts';
import type { ErrorPolicy } from '../../shared/connect/spec.ts';
import type { Transform } from '../../shared/connect/transform.ts';
import { logSink } from '../../shared/log/append.ts';
import { memoryObjects, type ObjectStore } from '../../shared/log/objects.ts';
import { logSource } from '../../shared/log/read.ts';
import { ensureTopic } from '../../shared/log/topics.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { type Outcome, type RunRequest, type RunResult, runTask } from '../../shared/runtime/run.ts';
import { defaultErrorPolicy } from '../../shared/state/connectors.ts';
import { readTask, restartTask } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';
import {
  Crash,
  type FaultPlan,
  faultPlan,
  faultyObjects,
  faultySink,
  faultySource,
  faultyTable,
  type Process,
} from './faults.ts';

/** A clock that only moves when it is told to, or when somebody waits. */
export const manualClock = (startMs = Date.UTC(2026, 0, 1)): Clock & { advance(ms: number): void } => {
  let nowMs = startMs;
  return {
    now: () => nowMs,
    delay: async (ms) => {
      nowMs += ms;
    },
    advance: (ms) => {
      nowMs += ms;
    },
  };
};

export interface WorldTask {
  readonly name: string;
  /** Which one of its connector's tasks; the first unless said. */
  readonly taskId?: number;
  source(process: Process, table: Table, objects: ObjectStore): SourceTask<never> | SourceTask<unknown>;
  sink(process: Process, table: Table, objects: ObjectStore): SinkTask;
  readonly transforms?: readonly Transform[];
}

const leaseMs = 60_000;

/**
 * A pipeline of tasks on one table, run one after the other as triggers would: every operation goes through a fault plan, and after
 * a fault the tasks are run on until nothing is left, as the sweep and the coordinator's restarts would.
 */
export const createWorld = (
  table: Table,
  clock = manualClock(),
  objects: ObjectStore = memoryObjects(),
  errors: ErrorPolicy = defaultErrorPolicy,
  appendDeadLetters?: RunRequest['appendDeadLetters'],
) => {
  let ids = 0;
  const newId = () => `id-${ids++}`;

  const run = (task: WorldTask, process: Process): Promise<RunResult> => {
    const gated = faultyTable(table, process);
    const gatedObjects = faultyObjects(objects, process);
    return runTask({
      identity: { connector: task.name, incarnation: 'i1', deployment: 'test' },
      taskId: task.taskId ?? 0,
      requestId: newId(),
      table: gated,
      budget: { maxRecords: 5, maxBytes: 1 << 20 },
      errors,
      ...(appendDeadLetters === undefined ? {} : { appendDeadLetters }),
      transforms: task.transforms ?? [],
      openSource: async () => faultySource(task.source(process, gated, gatedObjects) as SourceTask<unknown>, process),
      openSink: async () => faultySink(task.sink(process, gated, gatedObjects), process),
      stillCurrent: async () => true,
      stop: new AbortController().signal,
      abort: new AbortController().signal,
      leaseExpiresAtMs: clock.now() + leaseMs,
      clock,
      newId,
      log: () => {},
    });
  };

  /** Runs a task until it is idle; a dead holder's lease is waited out, a failed task restarted. */
  const drain = async (task: WorldTask, plan: FaultPlan): Promise<void> => {
    for (let round = 0; round < 100; round++) {
      const process = plan.process();
      const running = run(task, process);
      const ended = await Promise.race([running.then(endOf, asCrash), process.stopped]);
      if (ended === 'idle') return;
      if (ended === 'asleep') await whileAsleep(task, plan, running);
      else if (ended !== 'drained' && ended !== 'more' && ended !== 'superseded') clock.advance(leaseMs + 1);
      if (ended === 'failed') await restart(task);
    }
    throw new Error(`${task.name} does not come to rest`);
  };

  /** The sleeper's lease expires, others do its work; then it wakes up and goes on as if nothing had happened. */
  const whileAsleep = async (task: WorldTask, plan: FaultPlan, running: Promise<RunResult>): Promise<void> => {
    clock.advance(leaseMs + 1);
    await drain(task, faultPlan());
    plan.wakeUp();
    const result = await running.then((r) => r.outcome, asCrash);
    if (result === 'failed') await restart(task);
  };

  const restart = async (task: WorldTask): Promise<void> => {
    const taskId = task.taskId ?? 0;
    const row = await readTask(table, task.name, taskId);
    if (row.state === 'FAILED' && row.retriable !== true && !row.trace?.includes('after the crash'))
      throw new Error(`${task.name}: ${row.trace}`);
    await restartTask(table, task.name, taskId, true);
  };

  return { table, objects, clock, run, drain, restart };
};

/** A source that can't be asked is never idle: a run that found nothing is. */
const endOf = ({ outcome, batches }: RunResult): Outcome => (outcome === 'drained' && batches === 0 ? 'idle' : outcome);

const asCrash = (thrown: unknown): 'crashed' => {
  // A run that was hit before it held its lease throws; its trigger is simply lost.
  if (thrown instanceof Crash || (thrown as { retriable?: boolean }).retriable === true) return 'crashed';
  throw thrown;
};

export const toLog =
  (topic: string, owner: string, clock: Clock): WorldTask['sink'] =>
  (_process, table, objects) => {
    let ids = 0;
    return logSink({
      table,
      objects,
      owner: { connector: owner, incarnation: 'i1' },
      now: clock.now,
      newId: () => `${topic}-${Math.random()}-${ids++}`,
    });
  };

export const fromLog =
  (topic: string | readonly string[], clock: Clock): WorldTask['source'] =>
  (_process, table, objects) =>
    logSource({ table, objects, topics: [topic].flat(), task: 0, tasks: 1, now: clock.now });

export const makeTopic = (table: Table, topic: string, queues: number) => ensureTopic(table, topic, { queues });

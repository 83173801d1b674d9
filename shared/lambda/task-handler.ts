import { randomUUID } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import type { Lag, Offsets, OpenContext, Problem, SinkTask, SourceTask } from '../connect/connector.ts';
import { ConnectError, toConnectError } from '../connect/errors.ts';
import type { ConnectorSpec } from '../connect/spec.ts';
import type { Transform } from '../connect/transform.ts';
import type { Verification } from '../connect/verify.ts';
import { logAppender } from '../log/append.ts';
import { lagFigures } from '../management/lag.ts';
import type {
  ConnectorAnswer,
  ConnectorEvent,
  LifecycleEvent,
  RunEvent,
  S3TestEvent,
  VerifyAnswer,
  VerifyEvent,
  WakeEvent,
} from '../management/ports.ts';
import { jsonLog } from '../observe/log.ts';
import { systemClock } from '../runtime/clock.ts';
import { createLedger } from '../runtime/ledger.ts';
import { type RunResult, runTask } from '../runtime/run.ts';
import { type ConnectorRow, isCurrent, readConnector, requireConnector } from '../state/connectors.ts';
import { wakeKey } from '../state/keys.ts';
import { type MeasuredLag, writeLag } from '../state/lag.ts';
import { loadProgress } from '../state/offsets.ts';
import type { Table } from '../state/table.ts';
import { answerTo } from '../verify/answer.ts';
import { deadlineOf, type LambdaContext } from './deadline.ts';
import { type Environment, readEnvironment, required, takeUsed } from './environment.ts';
import { forgetSecrets } from './secrets.ts';

type Step = Exclude<LifecycleEvent['lifecycle'], 'lag'>;

/** One end of a connector's function: a system, or the topic log. */
export interface End<Task> {
  /** Undefined: this task has nothing to do (a source that splits into fewer tasks than it may). */
  open(
    row: ConnectorRow,
    context: Omit<OpenContext<never>, 'config'>,
    environment: Environment,
  ): Promise<Task | undefined>;
  readonly lifecycle?: {
    readonly [step in Step | 'warnings']?: (
      row: ConnectorRow,
      context: Omit<OpenContext<never>, 'config'>,
    ) => Promise<readonly Problem[]>;
  };
  /** How far a source is behind these offsets, where it can tell. */
  lag?(row: ConnectorRow, context: Omit<OpenContext<never>, 'config'>, offsets: Offsets<unknown>): Promise<Lag>;
  /** Undefined: the rows of this system can't be compared. */
  verify?(row: ConnectorRow, context: Omit<OpenContext<never>, 'config'>): Promise<Verification | undefined>;
}

export interface TaskEnds {
  readonly source: End<SourceTask<unknown>>;
  readonly sink: End<SinkTask>;
  transforms?(row: ConnectorRow): readonly Transform[];
}

/*
 * A batch's megabytes lie outside the heap, which is small: V8 takes them for a heap that grows fast, and begins to mark all of it with every
 * second batch, long before its limit (100 batches of 4 MB: 50 collections, a third of the CPU). Told to wait until a tenth of the limit is
 * left it collects 10 times, and a heap that does grow stays as large as before; without incremental marking it would not.
 */
setFlagsFromString('--incremental-marking-soft-trigger=10');

/**
 * The handler of every connector's function: a run of one task, or a step of the connector's life. A run answers with what it did; it
 * fails as an invocation only where the state table can't be reached.
 */
export const taskHandler =
  (ends: TaskEnds) =>
  async (given: ConnectorEvent | WakeEvent | S3TestEvent, lambda: LambdaContext): Promise<ConnectorAnswer> => {
    if ('Event' in given) return { outcome: 'idle' };
    const environment = readEnvironment();
    const event = 'Records' in given ? runOf(given) : given;
    using deadline = deadlineOf(lambda);
    const row = await rowOf(environment.table, event);
    // A trigger is only a hint (DESIGN §1): its connector may have been removed since.
    if (row === undefined) return { outcome: 'idle' };
    const base = {
      connector: row.name,
      incarnation: row.incarnation,
      deployment: environment.deployment,
      signal: deadline.abort,
      tasks: row.tasks,
    };
    // Awaited here: the deadline's timers go when this block is left.
    if ('verify' in event) return await verify(ends, row, { ...base, taskId: 0 }, event, deadline.stop);
    if ('lifecycle' in event)
      return event.lifecycle === 'lag'
        ? await measureLag(ends.source, row, { ...base, taskId: 0 }, environment.table)
        : await lifecycle(ends, row, { ...base, taskId: 0 }, event.lifecycle);
    if ('Records' in given && isCurrent(row, row, 0)) await wakeOthers(environment.table, row, 0);
    return await run(ends, row, { ...base, taskId: event.task }, environment, deadline, lambda.awsRequestId, event);
  };

/** Undefined: a trigger of a connector that is no more. */
const rowOf = async (table: Table, event: ConnectorEvent): Promise<ConnectorRow | undefined> => {
  if ('verify' in event) return requireConnector(table, event.connector);
  if (!('lifecycle' in event) || event.lifecycle === 'lag') return readConnector(table, event.connector);
  return event.spec === undefined ? requireConnector(table, event.connector) : candidateOf(event.spec);
};

/** A connector that is checked before it has a row. */
const candidateOf = (spec: ConnectorSpec): ConnectorRow => ({
  ...spec,
  target: 'STARTED',
  generation: 0,
  incarnation: '',
});

/** An event does not say which task it concerns: the first one runs here. */
const runOf = ({ Records }: WakeEvent): RunEvent => ({
  connector: required('SLUICE_CONNECTOR'),
  task: 0,
  reason: Records[0]?.eventSource === 'aws:sqs' ? 'sqs' : 's3',
});

/**
 * The other tasks, by their WAKE rows: the one write that an event may cost although nothing is there, because which task has something
 * only its source can say. A holder that will look again is left out by the dispatcher.
 */
const wakeOthers = async (table: Table, { name, tasks }: ConnectorRow, taskId: number): Promise<void> => {
  const others = Array.from({ length: tasks }, (_, task) => task).filter((task) => task !== taskId);
  // Not in one transaction, which costs twice as much.
  await Promise.all(others.map((task) => wakeLater(table, name, task)));
};

const wakeLater = async (table: Table, connector: string, task: number): Promise<void> => {
  await table.write([{ put: { ...wakeKey(connector, task), atMs: Date.now() } }]);
};

const run = async (
  ends: TaskEnds,
  row: ConnectorRow,
  context: Omit<OpenContext<never>, 'config'>,
  environment: Environment,
  deadline: ReturnType<typeof deadlineOf>,
  requestId: string,
  event: RunEvent,
): Promise<ConnectorAnswer> => {
  const { table, objects } = environment;
  const { taskId } = context;
  const log = jsonLog({ connector: row.name, task: taskId, requestId });
  // One that comes too early, too late or for a task that is no more does nothing.
  if (!isCurrent(row, row, taskId)) return { outcome: row.held === undefined ? 'idle' : 'held' };
  const { append } = logAppender({ table, objects, owner: context });
  const result = await runTask({
    identity: context,
    taskId,
    requestId,
    table,
    budget: { maxRecords: row.maxRecords, maxBytes: row.maxBytes },
    errors: row.errors,
    transforms: ends.transforms?.(row) ?? [],
    openSource: async () => (await ends.source.open(row, context, environment)) ?? nothingToRead,
    openSink: async () => (await ends.sink.open(row, context, environment))!,
    appendDeadLetters: (batch) => append(batch, []),
    stillCurrent: async () => isCurrent(row, await readConnector(table, row.name), taskId),
    wakeOthers: () => wakeOthers(table, row, taskId),
    // `sluice run` ends when everything is drained, and so must what else would never.
    continuous: row.continuous === true && event.drain !== true && process.env.SLUICE_DRAIN !== '1',
    stop: deadline.stop,
    abort: deadline.abort,
    leaseExpiresAtMs: deadline.leaseExpiresAtMs,
    clock: systemClock,
    newId: randomUUID,
    log,
  });
  // An event says it once, and its holder may have looked already: it finds this row when it is done (invariant 9).
  const isEvent = event.reason === 's3' || event.reason === 'sqs';
  if (isEvent && result.outcome === 'busy') await wakeLater(table, row.name, taskId);
  // Refused in the middle of the run: the next one is opened with what the secrets are by then (hazard B13).
  if (result.error?.code === 'AUTHENTICATION_FAILED') forgetSecrets();
  log('debug', 'units', takeUsed());
  return summary(result, event, log);
};

const nothingToRead: SourceTask<unknown> = {
  poll: async () => {
    throw new Error('a task with nothing to read is not polled');
  },
  more: async () => false,
  close: async () => {},
};

/** The one line per invocation that metrics are made of. An idle run's is left to Lambda's own report. */
const summary = (result: RunResult, { reason }: RunEvent, log: ReturnType<typeof jsonLog>): ConnectorAnswer => {
  const { error, ...figures } = result;
  const failure = error === undefined ? {} : { code: error.code, error: error.message };
  if (result.outcome !== 'idle') log(error === undefined ? 'info' : 'error', 'run', { reason, ...figures, ...failure });
  return { ...figures, ...failure };
};

/** Asks the system itself: the runs of the connector go on meanwhile. */
const verify = async (
  ends: TaskEnds,
  row: ConnectorRow,
  context: Omit<OpenContext<never>, 'config'>,
  { verify: question, side }: VerifyEvent,
  stop: AbortSignal,
): Promise<VerifyAnswer> => {
  try {
    const verification = await ends[side].verify?.(row, context);
    if (verification === undefined)
      throw new ConnectError(
        'CONFIG_INVALID',
        `the rows of ${(side === 'sink' ? row.sinkPlugin : undefined) ?? row.plugin ?? 'a processor'} can't be compared`,
      );
    try {
      return { answer: await answerTo(question, verification, stop) };
    } finally {
      await verification.close();
    }
  } catch (thrown) {
    const { code, message } = toConnectError(thrown);
    return { refused: { code, message } };
  }
};

const lifecycle = async (
  ends: TaskEnds,
  row: ConnectorRow,
  context: Omit<OpenContext<never>, 'config'>,
  step: Step,
): Promise<ConnectorAnswer> => {
  const ask = async (asked: Step | 'warnings'): Promise<readonly Problem[]> => {
    const answers = [ends.source, ends.sink].map(async (end) => {
      try {
        return (await end.lifecycle?.[asked]?.(row, context)) ?? [];
      } catch (thrown) {
        return [toConnectError(thrown).message];
      }
    });
    return (await Promise.all(answers)).flat();
  };
  const problems = await ask(step);
  return { problems, warnings: step === 'check' && problems.length === 0 ? await ask('warnings') : [] };
};

/**
 * Asks the source how far behind it is, and keeps its answer where status and the coordinator read it; also why it has none, so that it is
 * not asked again at once. The line that it logs is what metrics are made of.
 */
const measureLag = async (
  { lag: measure }: End<SourceTask<unknown>>,
  row: ConnectorRow,
  context: Omit<OpenContext<never>, 'config'>,
  table: Table,
): Promise<ConnectorAnswer> => {
  if (measure === undefined) return { outcome: 'idle' };
  const { offsets } = await loadProgress(table, context);
  const measured = await measure(row, context, createLedger(offsets).polled).then(
    (lag): MeasuredLag => ({ atMs: Date.now(), lag }),
    (thrown): MeasuredLag => ({ atMs: Date.now(), error: toConnectError(thrown).message }),
  );
  await writeLag(table, context, measured);
  const log = jsonLog({ connector: row.name });
  if (measured.error !== undefined) log('warn', `lag could not be measured: ${measured.error}`);
  else log('info', 'lag', lagFigures(measured.lag));
  log('debug', 'units', takeUsed());
  return { outcome: 'idle' };
};

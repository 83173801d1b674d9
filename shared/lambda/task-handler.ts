import { randomUUID } from 'node:crypto';
import type { OpenContext, Problem, SinkTask, SourceTask } from '../connect/connector.ts';
import { toConnectError } from '../connect/errors.ts';
import type { Transform } from '../connect/transform.ts';
import { logAppender } from '../log/append.ts';
import type { ConnectorAnswer, ConnectorEvent, LifecycleEvent, RunEvent } from '../management/ports.ts';
import { jsonLog } from '../observe/log.ts';
import { systemClock } from '../runtime/clock.ts';
import { type RunResult, runTask } from '../runtime/run.ts';
import { type ConnectorRow, isCurrent, readConnector, requireConnector } from '../state/connectors.ts';
import { deadlineOf, type LambdaContext } from './deadline.ts';
import { type Environment, readEnvironment, takeUsed } from './environment.ts';

/** One end of a connector's function: a system, or the topic log. */
export interface End<Task> {
  /** Undefined: this task has nothing to do (a source that splits into fewer tasks than it may). */
  open(
    row: ConnectorRow,
    context: Omit<OpenContext<never>, 'config'>,
    environment: Environment,
  ): Promise<Task | undefined>;
  readonly lifecycle?: {
    readonly [step in LifecycleEvent['lifecycle']]?: (
      row: ConnectorRow,
      context: Omit<OpenContext<never>, 'config'>,
    ) => Promise<readonly Problem[]>;
  };
}

export interface TaskEnds {
  readonly source: End<SourceTask<unknown>>;
  readonly sink: End<SinkTask>;
  transforms?(row: ConnectorRow): readonly Transform[];
}

/**
 * The handler of every connector's function: a run of one task, or a step of the connector's life. A run answers with what it did; it
 * fails as an invocation only where the state table can't be reached.
 */
export const taskHandler =
  (ends: TaskEnds) =>
  async (event: ConnectorEvent, lambda: LambdaContext): Promise<ConnectorAnswer> => {
    const environment = readEnvironment();
    using deadline = deadlineOf(lambda);
    const row = await requireConnector(environment.table, event.connector);
    const base = {
      connector: row.name,
      incarnation: row.incarnation,
      deployment: environment.deployment,
      signal: deadline.abort,
    };
    if ('lifecycle' in event) return lifecycle(ends, row, { ...base, taskId: 0 }, event.lifecycle);
    return run(ends, row, { ...base, taskId: event.task }, environment, deadline, lambda.awsRequestId, event);
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
  // A trigger is only a hint (DESIGN §1): one that comes too early, too late or for a task that is no more does nothing.
  if (!isCurrent(row, row, taskId)) return { outcome: 'idle' };
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
    stop: deadline.stop,
    abort: deadline.abort,
    leaseExpiresAtMs: deadline.leaseExpiresAtMs,
    clock: systemClock,
    newId: randomUUID,
    log,
  });
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

const lifecycle = async (
  ends: TaskEnds,
  row: ConnectorRow,
  context: Omit<OpenContext<never>, 'config'>,
  step: LifecycleEvent['lifecycle'],
): Promise<ConnectorAnswer> => {
  const asked = [ends.source, ends.sink].map(async (end) => {
    try {
      return (await end.lifecycle?.[step]?.(row, context)) ?? [];
    } catch (thrown) {
      return [toConnectError(thrown).message];
    }
  });
  return { problems: (await Promise.all(asked)).flat() };
};

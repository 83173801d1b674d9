import type * as z from 'zod';
import type {
  OpenContext,
  Problem,
  SinkConnector,
  SinkTask,
  SourceConnector,
  SourceTask,
} from '../connect/connector.ts';
import { ConnectError, isCode } from '../connect/errors.ts';
import { logSink } from '../log/append.ts';
import { logSource } from '../log/read.ts';
import { requireOrder } from '../log/topics.ts';
import { checkedOffsets, openChecked } from '../runtime/checked-source.ts';
import type { ConnectorRow } from '../state/connectors.ts';
import { forgetSecrets, resolveSecrets } from './secrets.ts';
import type { End } from './task-handler.ts';

/** The topic log, as what a sink connector and a processor read from. */
export const fromLog: End<SourceTask<unknown>> = {
  open: async (row, { taskId }, { table, objects }) =>
    logSource({
      table,
      objects,
      topics: row.from ?? [],
      subscriber: row.name,
      task: taskId,
      tasks: row.tasks,
    }) as SourceTask<unknown>,
};

/** The topic log, as what a source connector and a processor write to. */
export const toLog: End<SinkTask> = {
  open: async (_row, context, { table, objects }) => logSink({ table, objects, owner: context }),
};

/** A source connector: its config checked, its secrets resolved, its share of the work taken. */
export const fromSystem = (connector: SourceConnector): End<SourceTask<unknown>> => ({
  open: (row, context) =>
    withFreshSecrets(async () => {
      const config = await readConfig(connector.config, row.config, row.name);
      const shares = connector.tasks?.(config, row.tasks) ?? [config];
      const share = shares[context.taskId];
      return share === undefined ? undefined : openChecked(connector, { ...context, config: share });
    }),
  lifecycle: lifecycleOf(connector, (row) => row.config),
  ...(connector.lag === undefined
    ? {}
    : {
        lag: (row, context, offsets) =>
          withFreshSecrets(async () => {
            const config = await readConfig(connector.config, row.config, row.name);
            return connector.lag!({ ...context, config }, checkedOffsets(connector, offsets));
          }),
      }),
  verify: verificationOf(connector, (row) => row.config),
});

/** A sink connector. In a direct connector its config stands beside the source's. */
export const toSystem = (connector: SinkConnector): End<SinkTask> => {
  const configOf = (row: ConnectorRow): unknown => row.sinkConfig ?? row.config;
  return {
    open: (row, context, { table }) =>
      withFreshSecrets(async () => {
        const config = await readConfig(connector.config, configOf(row), row.name);
        const order = connector.order?.(config);
        if (order !== undefined) await requireOrder(table, row.from ?? [], order);
        return connector.open({ ...context, config });
      }),
    lifecycle: lifecycleOf(connector, configOf),
    verify: verificationOf(connector, configOf),
  };
};

/** A refused login may mean that a secret was rotated: the task is opened once more with what the secrets are now (hazard B13). */
const withFreshSecrets = async <Task>(open: () => Promise<Task>): Promise<Task> => {
  try {
    return await open();
  } catch (thrown) {
    if (!isCode(thrown, 'AUTHENTICATION_FAILED') || !forgetSecrets()) throw thrown;
    return open();
  }
};

/** The steps of a connector's life, each with its config as a run gets it. */
const lifecycleOf = (
  connector: SourceConnector | SinkConnector,
  configOf: (row: ConnectorRow) => unknown,
): NonNullable<End<never>['lifecycle']> => {
  const step =
    (call: (context: OpenContext<unknown>) => Promise<readonly Problem[]>) =>
    async (row: ConnectorRow, context: Omit<OpenContext<never>, 'config'>): Promise<readonly Problem[]> => {
      // An operator waits for the answer, who may just have changed a secret.
      forgetSecrets();
      return call({ ...context, config: await readConfig(connector.config, configOf(row), row.name) });
    };
  return {
    check: step(async (context) => (await connector.check?.(context)) ?? []),
    warnings: step(async (context) => (await connector.warnings?.(context)) ?? []),
    created: step(async (context) => {
      await connector.created?.(context);
      return [];
    }),
    deleted: step(async (context) => {
      await connector.deleted?.(context);
      return [];
    }),
  };
};

const verificationOf =
  (
    connector: SourceConnector | SinkConnector,
    configOf: (row: ConnectorRow) => unknown,
  ): NonNullable<End<never>['verify']> =>
  (row, context) =>
    withFreshSecrets(async () =>
      connector.verify?.({ ...context, config: await readConfig(connector.config, configOf(row), row.name) }),
    );

/** Every problem at once, by the path of its key; values are not shown, because some are secrets. */
const readConfig = async (schema: z.ZodType, config: unknown, name: string): Promise<unknown> => {
  const parsed = schema.safeParse(await resolveSecrets(config ?? {}));
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `config.${issue.path.join('.')}: ${issue.message}`);
  throw new ConnectError('CONFIG_INVALID', `connector ${name}: ${problems.join('; ')}`);
};

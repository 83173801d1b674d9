import { defineSource, type OpenContext } from '../../shared/connect/connector.ts';
import { tellsOf } from '../../shared/connect/database-config.ts';
import { useOnce } from '../../shared/sql/use-once.ts';
import { checkCdc } from './cdc-check.ts';
import { PostgresCdcConfig, topicsOf } from './cdc-config.ts';
import { PostgresCdcOffset } from './cdc-offset.ts';
import { createTask } from './cdc-task.ts';
import { type Connection, connect } from './client.ts';
import { measureLag, warningsOf } from './lag.ts';
import { dropUpstream, makeUpstream } from './publication.ts';
import { readSlot, slotNames } from './slot.ts';
import { verifySource } from './verify.ts';

/** The rows of tables, and then their changes from a replication slot, in the order in which transactions committed. */
export const postgresCdcSource = defineSource({
  type: 'postgres-cdc',
  config: PostgresCdcConfig,
  offset: PostgresCdcOffset,
  replay: 'exact',
  topics: topicsOf,
  tells: tellsOf,
  // Ranges of tables are read by all; changes are one after the other.
  tasks: (config, maxTasks) => Array.from({ length: config.snapshotMode === 'initial' ? maxTasks : 1 }, () => config),
  check: checkCdc,
  verify: verifySource,
  created: (context) => withConnection(context, (connection) => makeUpstream(connection, context)),
  deleted: (context) => withConnection(context, (connection) => dropUpstream(connection, context)),
  warnings: (context) =>
    withConnection(context, async (connection) => {
      const names = slotNames(context.config, context);
      return warningsOf(await readSlot(connection, names.slot), names);
    }),
  hold: false,
  lag: (context, offsets) =>
    withConnection(context, (connection) =>
      measureLag(connection, slotNames(context.config, context), offsets, context.config.topicPrefix),
    ),
  open: async (context) => createTask(context),
});

const withConnection = async <T>(
  { config, connector, signal }: OpenContext<PostgresCdcConfig>,
  work: (connection: Connection) => Promise<T>,
): Promise<T> => useOnce(await connect(config, `sluice ${connector}`, signal), signal, work);

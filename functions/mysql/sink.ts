import { defineSink } from '../../shared/connect/connector.ts';
import { orderOf } from '../../shared/connect/database-config.ts';
import { createAtomic } from '../../shared/sql/atomic.ts';
import { createSessions, createTask } from '../../shared/sql/session.ts';
import { createVisibility } from '../../shared/sql/visibility.ts';
import { checkSink } from './check.ts';
import { silentChange } from './checks.ts';
import { type Connection, connect } from './client.ts';
import { MysqlSinkConfig } from './config.ts';
import { createOffsetTable } from './offsets.ts';
import { createMysqlRuns, createMysqlStaged, createStagingTables } from './staging.ts';
import { nameProblem } from './table.ts';
import { createTargets, type MysqlTarget } from './target.ts';
import { verifySink } from './verify.ts';
import { createWriter } from './write.ts';

/** Rows and offsets go into MySQL or MariaDB in one transaction, so every record arrives exactly once. */
export const mysqlSink = defineSink({
  type: 'mysql',
  config: MysqlSinkConfig,
  delivery: 'exactly-once',
  order: orderOf,
  check: checkSink,
  verify: verifySink,
  async open(context) {
    const { config, connector } = context;
    const sessions = createSessions('MySQL', async (signal) => {
      const connection = await connect(config, `sluice ${connector}`, signal);
      const staging = createStagingTables(connection, config);
      return { connection, targets: createTargets(connection, config), writer: createWriter(connection), staging };
    });
    // A wrong password is told at open, not at the first record.
    await sessions.use(context.signal, async () => {});
    const offsets = createOffsetTable(context);
    const controlled =
      config.transactions === 'atomic'
        ? createAtomic<Connection, MysqlTarget>(offsets, createMysqlStaged(context))
        : config.visibility === 'batch'
          ? createVisibility<Connection, MysqlTarget>(offsets, createMysqlRuns(context))
          : undefined;
    return createTask(sessions, offsets, context, { nameProblem, silentChange }, controlled);
  },
});

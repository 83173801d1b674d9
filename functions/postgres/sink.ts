import { defineSink } from '../../shared/connect/connector.ts';
import { orderOf } from '../../shared/connect/database-config.ts';
import { createAtomic } from '../../shared/sql/atomic.ts';
import { createSessions, createTask } from '../../shared/sql/session.ts';
import { createVisibility } from '../../shared/sql/visibility.ts';
import { checkSink } from './check.ts';
import { type Connection, connect } from './client.ts';
import { PostgresSinkConfig } from './config.ts';
import { createOffsetTable } from './offsets.ts';
import { createPostgresRuns, createPostgresStaged, createStagingTables } from './staging.ts';
import { nameProblem } from './table.ts';
import { createTargets, type PostgresTarget } from './target.ts';
import { silentChange } from './types.ts';
import { verifySink } from './verify.ts';
import { createWriter } from './write.ts';

/** Rows and offsets go into PostgreSQL in one transaction, so every record arrives exactly once. */
export const postgresSink = defineSink({
  type: 'postgres',
  config: PostgresSinkConfig,
  delivery: 'exactly-once',
  order: orderOf,
  check: checkSink,
  verify: verifySink,
  async open(context) {
    const { config, connector } = context;
    const sessions = createSessions('PostgreSQL', async (signal) => {
      const connection = await connect(config, `sluice ${connector}`, signal);
      const staging = createStagingTables(connection, config);
      return { connection, targets: createTargets(connection, config), writer: createWriter(connection), staging };
    });
    // A wrong password is told at open, not at the first record.
    await sessions.use(context.signal, async () => {});
    const offsets = createOffsetTable(config.schema, context);
    const controlled =
      config.transactions === 'atomic'
        ? createAtomic<Connection, PostgresTarget>(offsets, createPostgresStaged(config.schema, context))
        : config.visibility === 'batch'
          ? createVisibility<Connection, PostgresTarget>(offsets, createPostgresRuns(config.schema, context))
          : undefined;
    return createTask(sessions, offsets, context, { nameProblem, silentChange }, controlled);
  },
});

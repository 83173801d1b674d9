import { defineSink } from '../../shared/connect/connector.ts';
import { oneQueue } from '../../shared/connect/database-config.ts';
import { createSessions, createTask } from '../../shared/sql/session.ts';
import { createVisibility } from '../../shared/sql/visibility.ts';
import { checkSink } from './check.ts';
import { connect } from './client.ts';
import { PostgresSinkConfig } from './config.ts';
import { createOffsetTable } from './offsets.ts';
import { createPostgresRuns, createStagingTables } from './staging.ts';
import { nameProblem } from './table.ts';
import { createTargets } from './target.ts';
import { silentChange } from './types.ts';
import { createWriter } from './write.ts';

/** Rows and offsets go into PostgreSQL in one transaction, so every record arrives exactly once. */
export const postgresSink = defineSink({
  type: 'postgres',
  config: PostgresSinkConfig,
  delivery: 'exactly-once',
  oneQueue,
  check: checkSink,
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
    const visibility =
      config.visibility === 'batch' ? createVisibility(offsets, createPostgresRuns(config.schema, context)) : undefined;
    return createTask(sessions, offsets, context, { nameProblem, silentChange }, visibility);
  },
});

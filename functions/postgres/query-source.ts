import { defineSource } from '../../shared/connect/connector.ts';
import { QueryOffset, queryTasks, queryTells, queryTopics } from '../../shared/connect/query-config.ts';
import { createQueryTask } from '../../shared/sql/query-task.ts';
import { verifyQuery } from '../../shared/sql/query-verify.ts';
import { connect } from './client.ts';
import { conditionOf } from './key-condition.ts';
import { outputSettings } from './output-settings.ts';
import { checkQuery } from './query-check.ts';
import { PostgresQueryConfig } from './query-config.ts';
import { createReader } from './query-reader.ts';

/** The rows of tables or of a query: all of them each time, or those that are new or changed. */
export const postgresQuerySource = defineSource({
  type: 'postgres-query',
  config: PostgresQueryConfig,
  offset: QueryOffset,
  // In each mode: a row that was read may have changed, or be gone, when it is read again behind the same offset.
  replay: 'shifting',
  topics: queryTopics,
  tells: queryTells,
  tasks: queryTasks,
  check: checkQuery,
  async verify({ config, connector, signal }) {
    const connection = await connect(config, `sluice ${connector} verify`, signal);
    // Pages come in the key's order by its index: a sort of the table would be made for each.
    await connection.run(`${outputSettings}; SET enable_sort = off; SET enable_incremental_sort = off`);
    return verifyQuery(config, createReader(connection, config), conditionOf);
  },
  async open({ config, connector, ...context }) {
    const connection = await connect(config, `sluice ${connector}`, context.signal);
    await connection.run(outputSettings);
    return createQueryTask(config, createReader(connection, config), context);
  },
});

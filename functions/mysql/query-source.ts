import { defineSource } from '../../shared/connect/connector.ts';
import { QueryOffset, queryTasks, queryTells, queryTopics } from '../../shared/connect/query-config.ts';
import { createQueryTask } from '../../shared/sql/query-task.ts';
import { verifyQuery } from '../../shared/sql/query-verify.ts';
import { connect } from './client.ts';
import { conditionOf } from './key-condition.ts';
import { checkQuery } from './query-check.ts';
import { MysqlQueryConfig } from './query-config.ts';
import { createReader } from './query-reader.ts';

/** The rows of tables or of a query: all of them each time, or those that are new or changed. */
export const mysqlQuerySource = defineSource({
  type: 'mysql-query',
  config: MysqlQueryConfig,
  offset: QueryOffset,
  // In each mode: a row that was read may have changed, or be gone, when it is read again behind the same offset.
  replay: 'shifting',
  topics: queryTopics,
  tells: queryTells,
  tasks: queryTasks,
  check: checkQuery,
  async verify({ config, connector, signal }) {
    const connection = await connect(config, `sluice ${connector} verify`, signal);
    return verifyQuery(config, createReader(connection, config), conditionOf);
  },
  async open({ config, connector, ...context }) {
    const connection = await connect(config, `sluice ${connector}`, context.signal);
    // What waits longest is a batch that is written before more is read.
    await connection.run('SET SESSION wait_timeout = 1000');
    return createQueryTask(config, createReader(connection, config), context);
  },
});

import type { OpenContext, Problem } from '../../shared/connect/connector.ts';
import { isOneTable } from '../../shared/connect/database-config.ts';
import { checkThrough, told } from '../../shared/sql/check.ts';
import { type Connection, connect } from './client.ts';
import type { MysqlSinkConfig } from './config.ts';
import { createOffsetsTable } from './offsets.ts';
import { createRunsTable, createStagedTable } from './staging.ts';
import { engineProblem, keyProblem, loadTable, sqlName, tableOf } from './table.ts';

/** Every problem at once, with the statement that mends it. */
export const checkSink = ({ config, connector, signal }: OpenContext<MysqlSinkConfig>): Promise<readonly Problem[]> =>
  checkThrough(
    () => connect(config, `sluice ${connector} check`, signal),
    signal,
    async (connection) => {
      const fixed = isOneTable(config.table) ? await tableProblems(connection, config).catch(told) : [];
      return [...(await readOnlyProblem(connection)), ...(await ownTableProblems(connection, config)), ...fixed];
    },
  );

const readOnlyProblem = async ({ query, server }: Connection): Promise<Problem[]> => {
  const [found] = await query<{ readOnly: unknown }>('SELECT @@read_only AS readOnly');
  return Number(found!.readOnly) === 0
    ? []
    : [`the server of ${server.database} is read-only: connect to the primary server`];
};

/** Tables that the sink keeps its own account in. */
const ownTableProblems = async (connection: Connection, config: MysqlSinkConfig): Promise<readonly Problem[]> => {
  const { database } = connection.server;
  const tables = [
    ['sluice_offsets', createOffsetsTable],
    ...(config.transactions === 'atomic' ? [['sluice_staged', createStagedTable] as const] : []),
    ...(config.visibility === 'batch' ? [['sluice_runs', createRunsTable] as const] : []),
  ] as const;
  const problems: Problem[] = [];
  for (const [name, statement] of tables) {
    const table = await loadTable(connection, { schema: database, name });
    if (table !== undefined) problems.push(...engineProblem(table));
    else if (!config.create)
      problems.push(
        `table ${sqlName({ schema: database, name })} is missing, and the first run needs the privilege to make it: ${statement(database)}`,
      );
  }
  return problems;
};

const tableProblems = async (connection: Connection, config: MysqlSinkConfig): Promise<readonly Problem[]> => {
  const name = tableOf('', config, connection.server.database);
  const table = await loadTable(connection, name);
  if (table !== undefined) return [...engineProblem(table), ...keyProblem(table, config.keyFields ?? [])];
  return config.create ? [] : [`table ${sqlName(name)} is missing, and create is false: make it, or set create: true`];
};

import type { OpenContext, Problem } from '../../shared/connect/connector.ts';
import { checkThrough } from '../../shared/sql/check.ts';
import { type Index, queryProblems } from '../../shared/sql/query-check.ts';
import { type Connection, connect } from './client.ts';
import { errnoOf } from './errors.ts';
import type { MysqlQueryConfig } from './query-config.ts';
import { createReader } from './query-reader.ts';
import { type MysqlTable, partsOf } from './query-tables.ts';

/** SELECT command denied: to a table, to a column. */
const denied = new Set([1142, 1143]);

export const checkQuery = ({ config, connector, signal }: OpenContext<MysqlQueryConfig>): Promise<readonly Problem[]> =>
  checkThrough(
    () => connect(config, `sluice ${connector} check`, signal),
    signal,
    (connection) =>
      queryProblems(config, createReader(connection, config), {
        indexes: (table) => indexesOf(connection, table),
        async grant({ from }, error) {
          if (!denied.has(errnoOf(error) ?? 0)) return undefined;
          const [account] = await connection.query<{ name: string }>(
            "SELECT REPLACE(CURRENT_USER(), '@', '`@`') AS name",
          );
          return `GRANT SELECT ON ${from} TO \`${account!.name}\``;
        },
      }),
  );

const indexesOf = async (connection: Connection, { name }: MysqlTable): Promise<readonly Index[] | undefined> => {
  if (name === undefined) return undefined;
  const [table] = await connection.query<{ type: string }>(
    'SELECT TABLE_TYPE AS type FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?',
    partsOf(name),
  );
  if (table?.type !== 'BASE TABLE') return undefined;
  const rows = await connection.query<{ index: string; column: string; duplicates: unknown }>(
    `SELECT INDEX_NAME AS \`index\`, COLUMN_NAME AS \`column\`, NON_UNIQUE AS duplicates FROM information_schema.STATISTICS
     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY SEQ_IN_INDEX`,
    partsOf(name),
  );
  return [...Map.groupBy(rows, ({ index }) => index).values()].map((parts) => ({
    columns: parts.map(({ column }) => column),
    isUnique: Number(parts[0]!.duplicates) === 0,
  }));
};

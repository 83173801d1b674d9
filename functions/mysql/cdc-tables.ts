import { isPattern, tableFilter } from '../../shared/connect/table-names.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import type { Connection } from './client.ts';

type Tables = Pick<MysqlCdcConfig, 'tables' | 'excludeTables'>;

/** The server's own: no pattern means them. */
const systemDatabases = ['information_schema', 'mysql', 'performance_schema', 'sys'];

/** Whether the config reads a table of this name, whether or not there is one now. */
export const isReadBy = ({ tables, excludeTables }: Tables): ((table: string) => boolean) => {
  const isIncluded = tableFilter({ tables, excludeTables });
  return (table) =>
    isIncluded(table) && (tables.includes(table) || !systemDatabases.includes(table.slice(0, table.indexOf('.'))));
};

/** The tables to read, in one order for all tasks: those that the config names, and of a pattern those that are there. */
export const tablesOf = async (connection: Connection, config: Tables): Promise<readonly string[]> => {
  const named = config.tables.filter((table) => !isPattern(table));
  const known = named.length === config.tables.length ? [] : await allTables(connection);
  return [...new Set([...named, ...known])].filter(isReadBy(config)).sort();
};

const allTables = async (connection: Connection): Promise<readonly string[]> => {
  const tables = await connection.query<{ readonly name: string }>(
    `SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS name FROM information_schema.TABLES
     WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')`,
  );
  return tables.map(({ name }) => name);
};

/** Patterns that no table matches. */
export const idlePatterns = ({ tables, excludeTables }: Tables, found: readonly string[]): readonly string[] =>
  tables.filter(isPattern).filter((pattern) => !found.some(tableFilter({ tables: [pattern], excludeTables })));

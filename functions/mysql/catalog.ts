import type { ColumnSchema } from '@vlasky/zongji';
import type { Connection } from './client.ts';
import { partsOf } from './query-tables.ts';

/** The columns of a table, and those of its primary key. */
export interface CatalogTable {
  readonly columns: readonly ColumnSchema[];
  readonly key: readonly string[];
}

/** By `database.table`. */
export type Catalog = ReadonlyMap<string, CatalogTable>;

/** The tables of these names that the account may read. */
export const catalogOf = async (connection: Connection, tables: readonly string[]): Promise<Catalog> => {
  if (tables.length === 0) return new Map();
  const names = tables.map(partsOf);
  const where = `(TABLE_SCHEMA, TABLE_NAME) IN (${names.map(() => '(?, ?)').join()})`;
  const columns = await connection.query<ColumnSchema & { database: string; table: string }>(
    `SELECT TABLE_SCHEMA AS \`database\`, TABLE_NAME AS \`table\`, COLUMN_NAME AS COLUMN_NAME, COLLATION_NAME AS COLLATION_NAME,
       CHARACTER_SET_NAME AS CHARACTER_SET_NAME, COLUMN_COMMENT AS COLUMN_COMMENT, COLUMN_TYPE AS COLUMN_TYPE
     FROM information_schema.COLUMNS WHERE ${where} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION`,
    names.flat(),
  );
  const keys = await connection.query<{ database: string; table: string; column: string }>(
    `SELECT TABLE_SCHEMA AS \`database\`, TABLE_NAME AS \`table\`, COLUMN_NAME AS \`column\` FROM information_schema.STATISTICS
     WHERE INDEX_NAME = 'PRIMARY' AND ${where} ORDER BY SEQ_IN_INDEX`,
    names.flat(),
  );
  const catalog = new Map<string, { readonly columns: ColumnSchema[]; readonly key: string[] }>();
  for (const { database, table, ...column } of columns) {
    const name = `${database}.${table}`;
    const entry = catalog.get(name) ?? { columns: [], key: [] };
    entry.columns.push(column);
    catalog.set(name, entry);
  }
  for (const { database, table, column } of keys) catalog.get(`${database}.${table}`)?.key.push(column);
  return catalog;
};

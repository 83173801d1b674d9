import { isPattern, tableFilter } from '../../shared/connect/table-names.ts';
import type { Form, QueryColumn, QueryTable, TimeKind } from '../../shared/sql/query-table.ts';
import { type Connection, quote } from './client.ts';
import { type ColumnType, columnTypeOf } from './column-type.ts';
import type { MysqlQueryConfig } from './query-config.ts';
import { isNullable, typeOf } from './result-type.ts';

export interface MysqlColumn extends QueryColumn {
  readonly type: ColumnType;
}

export type MysqlTable = QueryTable<MysqlColumn>;

/** The tables and views that the config names, or its query. */
export const findTables = async (connection: Connection, config: MysqlQueryConfig): Promise<readonly MysqlTable[]> => {
  const { query, tables = [], excludeTables, zeroDates } = config;
  if (query !== undefined) {
    const from = `(${query.trim().replace(/;$/, '')}\n)`;
    const described = await connection.describe(`SELECT * FROM ${from} AS q`);
    const columns = described.map((column) => columnOf(column.name, typeOf(column), isNullable(column), zeroDates));
    return [{ name: undefined, from, columns, primaryKey: [] }];
  }
  const isIncluded = tableFilter({ tables, excludeTables });
  const known = tables.some(isPattern) ? await allTables(connection) : tables;
  const names = known.filter(isIncluded);
  if (names.length === 0) return [];
  const where = `(TABLE_SCHEMA, TABLE_NAME) IN (${names.map(() => '(?, ?)').join()})`;
  const values = names.flatMap(partsOf);
  const columns = await connection.query<ColumnRow>(
    `SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS \`table\`, COLUMN_NAME AS \`column\`, COLUMN_TYPE AS type, IS_NULLABLE AS nullable
     FROM information_schema.COLUMNS WHERE ${where} ORDER BY ORDINAL_POSITION`,
    values,
  );
  const keys = await connection.query<{ readonly table: string; readonly column: string }>(
    `SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS \`table\`, COLUMN_NAME AS \`column\` FROM information_schema.STATISTICS
     WHERE INDEX_NAME = 'PRIMARY' AND ${where} ORDER BY SEQ_IN_INDEX`,
    values,
  );
  const columnsOf = Map.groupBy(columns, ({ table }) => table);
  const keysOf = Map.groupBy(keys, ({ table }) => table);
  return names.flatMap((name) => {
    const rows = columnsOf.get(name);
    if (rows === undefined) return [];
    return {
      name,
      from: partsOf(name).map(quote).join('.'),
      columns: rows.map(({ column, type, nullable }) => columnOf(column, type, nullable === 'YES', zeroDates)),
      primaryKey: (keysOf.get(name) ?? []).map(({ column }) => column),
    };
  });
};

interface ColumnRow {
  readonly table: string;
  readonly column: string;
  readonly type: string;
  readonly nullable: string;
}

export const partsOf = (table: string): [database: string, name: string] => {
  const dot = table.indexOf('.');
  return [table.slice(0, dot), table.slice(dot + 1)];
};

const allTables = async (connection: Connection): Promise<readonly string[]> => {
  const tables = await connection.query<{ readonly name: string }>(
    `SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS name FROM information_schema.TABLES
     WHERE TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1`,
  );
  return tables.map(({ name }) => name);
};

const columnOf = (
  name: string,
  columnType: string,
  nullable: boolean,
  zeroDates: MysqlQueryConfig['zeroDates'],
): MysqlColumn => {
  const type = columnTypeOf(columnType, zeroDates);
  const { type: kind, scale } = type.schema;
  const isInteger = /^int|^decimal$/.test(kind) && (kind !== 'decimal' || scale === 0);
  return { name, type, isNullable: nullable, isInteger, form: formOf(type), time: timeOf(columnType, type) };
};

const formOf = ({ schema: { type, name } }: ColumnType): Form => {
  if (/^int|^decimal$|^float64$/.test(type)) return 'number';
  if (type === 'float32') return 'float';
  if (type === 'bytes') return name === undefined ? 'bytes' : 'text';
  return type === 'timestamp' || type === 'date' ? 'time' : 'text';
};

const timeOf = (columnType: string, { schema }: ColumnType): TimeKind | undefined => {
  if (schema.type === 'date') return { isLocal: true, isDate: true, digits: 0 };
  if (schema.type !== 'timestamp') return undefined;
  const digits = Number(/\((\d)\)/.exec(columnType)?.[1] ?? 0);
  return { isLocal: schema.local === true, isDate: false, digits };
};

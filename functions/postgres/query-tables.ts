import { tableFilter } from '../../shared/connect/table-names.ts';
import type { QueryColumn, QueryTable, TimeKind } from '../../shared/sql/query-table.ts';
import { type Connection, quote } from './client.ts';
import type { PostgresQueryConfig } from './query-config.ts';
import { readTypes } from './table-facts.ts';
import { type CatalogType, type ValueType, valueTypeOf } from './value-type.ts';

export interface PostgresColumn extends QueryColumn {
  readonly type: ValueType;
  /** What selects its value as its type writes it. */
  readonly text: string;
}

export type PostgresTable = QueryTable<PostgresColumn>;

interface TableRow {
  readonly oid: number;
  readonly schema: string;
  /** With its schema's. */
  readonly name: string;
  readonly isPartition: boolean;
  readonly key: readonly string[] | null;
}

interface ColumnRow {
  readonly name: string;
  readonly type: number;
  readonly modifier: number;
  readonly isNullable: boolean;
}

/** The tables and views that the config names, or its query. */
export const findTables = async (
  connection: Connection,
  config: PostgresQueryConfig,
): Promise<readonly PostgresTable[]> => {
  const { query, tables = [], excludeTables } = config;
  if (query !== undefined) {
    const from = `(${query.trim().replace(/;$/, '')}\n)`;
    const described = await connection.describe(`SELECT * FROM ${from} AS q LIMIT 0`);
    const rows = described.map((column) => ({ ...column, isNullable: true }));
    return [{ name: undefined, from, columns: await columnsOf(connection, rows), primaryKey: [] }];
  }
  const isIncluded = tableFilter({ tables, excludeTables });
  const all = await connection.query<TableRow>(tablesQuery);
  // A pattern takes a partitioned table as one.
  const included = all.filter(({ name, isPartition }) => isIncluded(name) && (!isPartition || tables.includes(name)));
  const rows = await connection.query<ColumnRow & { readonly table: number }>(columnsQuery, [
    included.map(({ oid }) => oid),
  ]);
  const columns = await columnsOf(connection, rows);
  return included.map(({ oid, schema, name, key }) => ({
    name,
    from: `${quote(schema)}.${quote(name.slice(schema.length + 1))}`,
    columns: columns.filter((_, i) => rows[i]!.table === oid),
    primaryKey: key ?? [],
  }));
};

/** Tables, foreign ones, views. Keys in the order of their index. */
const tablesQuery = `SELECT c.oid::int8::float8 AS oid, n.nspname AS schema, n.nspname || '.' || c.relname AS name, c.relispartition AS "isPartition",
    (SELECT array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum)) FROM pg_index i
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = c.oid AND i.indisprimary) AS key
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  ORDER BY 2, 3`;

const columnsQuery = `SELECT attrelid::int8::float8 AS "table", attname AS name, atttypid::int8::float8 AS type, atttypmod AS modifier,
    NOT attnotnull AS "isNullable"
  FROM pg_attribute WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum`;

const columnsOf = async (connection: Connection, rows: readonly ColumnRow[]): Promise<readonly PostgresColumn[]> => {
  const types = await readTypes(
    connection,
    rows.map(({ type }) => type),
  );
  return rows.map((row) => columnOf(row, types));
};

const columnOf = (
  { name, type: oid, modifier, isNullable }: ColumnRow,
  types: ReadonlyMap<number, CatalogType>,
): PostgresColumn => {
  const type = valueTypeOf(oid, modifier, (one) => types.get(one));
  const { schema, reading } = type;
  const isInteger =
    reading === 'integer' ||
    reading === 'int64' ||
    (schema.type === 'decimal' && 'scale' in schema && schema.scale === 0);
  const domain = types.get(oid);
  return {
    name,
    type,
    isNullable,
    isInteger,
    form: 'text',
    time: timeOf(type, modifier === -1 && domain !== undefined ? domain.modifier : modifier),
    text: textOf(`q.${quote(name)}`, oid),
  };
};

const timeOf = ({ reading }: ValueType, modifier: number): TimeKind | undefined => {
  if (reading === 'date') return { isLocal: true, isDate: true, digits: 0 };
  if (reading !== 'timestamp' && reading !== 'timestamptz') return undefined;
  return { isLocal: reading === 'timestamp', isDate: false, digits: modifier === -1 ? 6 : modifier };
};

/** Types whose cast to text is what they are written as; others have casts of their own (char(n), inet), or none that is known here. */
const plainCasts = new Set([
  ...[17, 20, 21, 23, 25, 26, 114, 700, 701, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3802],
]);

/** A row of nulls is not null, as IS NOT NULL would have it. */
const textOf = (sql: string, oid: number): string =>
  plainCasts.has(oid) ? `${sql}::text` : `CASE WHEN ${sql} IS DISTINCT FROM NULL THEN format('%s', ${sql}) END`;

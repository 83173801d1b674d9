import { ConnectError } from '../../shared/connect/errors.ts';
import type { WantedColumn } from '../../shared/sql/layout.ts';
import {
  makeOnce as makeUnless,
  tableOf as namedTable,
  prepareTable as prepared,
  type TableName,
} from '../../shared/sql/table.ts';
import { type Connection, quote, sqlStateOf } from './client.ts';
import type { PostgresSinkConfig } from './config.ts';
import { type ColumnType, columnType, describeMisfit, takes } from './types.ts';
import { widened } from './widen.ts';

/** A table as it is now. */
export interface Table extends TableName {
  /** Quoted, for statements. */
  readonly sql: string;
  readonly columns: ReadonlyMap<string, ColumnType>;
  /** The columns of each primary key and unique index that ON CONFLICT can name. */
  readonly uniqueKeys: readonly (readonly string[])[];
}

const MAX_NAME_BYTES = 63;
const systemColumns = new Set(['tableoid', 'xmin', 'cmin', 'xmax', 'cmax', 'ctid']);

/** Why a name cannot be a column's; undefined where it can. PostgreSQL would cut a long one in silence. */
export const nameProblem = (name: string): string | undefined => {
  if (name === '') return 'a column needs a name';
  if (name.includes('\0')) return 'PostgreSQL has no U+0000 in names';
  if (systemColumns.has(name)) return `${name} is the name of a system column of PostgreSQL`;
  const bytes = Buffer.byteLength(name);
  return bytes > MAX_NAME_BYTES ? `PostgreSQL's names end at ${MAX_NAME_BYTES} bytes, this has ${bytes}` : undefined;
};

export const sqlName = ({ schema, name }: TableName): string => `${quote(schema)}.${quote(name)}`;

/** The table of a topic. */
export const tableOf = (topic: string, { table, schema }: PostgresSinkConfig): TableName =>
  namedTable(topic, table, schema, nameProblem, 'schema.table');

export const loadTable = async (connection: Connection, { schema, name }: TableName): Promise<Table | undefined> => {
  const [found] = await connection.query<{ oid: string; kind: string }>(
    'SELECT c.oid, c.relkind AS kind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2',
    [schema, name],
  );
  if (found === undefined) return undefined;
  if (found.kind !== 'r' && found.kind !== 'p')
    throw new ConnectError('CONFIG_INVALID', `${sqlName({ schema, name })} is no table, and records go to tables only`);
  const columns = await connection.query<ColumnType & { readonly column: string }>(
    `SELECT a.attname AS column, format_type(a.atttypid, a.atttypmod) AS name, t.typcategory AS category,
       format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END, NULL) AS base,
       CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END AS modifier
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
    [found.oid],
  );
  const keys = await connection.query<{ columns: readonly string[] }>(
    `SELECT array_agg(a.attname::text) AS columns
     FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
     WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
     GROUP BY i.indexrelid`,
    [found.oid],
  );
  return {
    schema,
    name,
    sql: sqlName({ schema, name }),
    columns: new Map(columns.map(({ column, ...type }) => [column, type])),
    uniqueKeys: keys.map(({ columns }) => columns),
  };
};

/** The table that records with these columns and this key ([]: none) can be written to. */
export const prepareTable = (
  connection: Connection,
  config: PostgresSinkConfig,
  name: TableName,
  wanted: readonly WantedColumn[],
  key: readonly string[],
  known: Table | undefined,
): Promise<Table> =>
  prepared(
    {
      sql: sqlName(name),
      quote,
      load: () => loadTable(connection, name),
      has: ({ columns }, column) => columns.has(column),
      createStatement: () => createStatement(name, wanted, key),
      addStatement: (missing) => addStatement(name, missing),
      widenStatement: async (table, isEvolved) => widenStatement(table, wanted, isEvolved),
      make: (statement) => makeOnce(connection, statement),
      problems: (table) => misfits(table, wanted, key),
    },
    config,
    wanted,
    known,
  );

const createStatement = (name: TableName, wanted: readonly WantedColumn[], key: readonly string[]): string => {
  // Only the key is NOT NULL: a field that is optional tomorrow must find room in the table of today.
  const lines = wanted.map((column) => `${quote(column.name)} ${columnType(column.schema)}`);
  if (key.length > 0) lines.push(`PRIMARY KEY (${key.map(quote).join(', ')})`);
  return `CREATE TABLE IF NOT EXISTS ${sqlName(name)} (${lines.join(', ')})`;
};

const addStatement = (name: TableName, missing: readonly WantedColumn[]): string =>
  `ALTER TABLE ${sqlName(name)} ${missing
    .map((column) => `ADD COLUMN IF NOT EXISTS ${quote(column.name)} ${columnType(column.schema)}`)
    .join(', ')}`;

const widenStatement = (table: Table, wanted: readonly WantedColumn[], isEvolved: boolean): string | undefined => {
  const changes = wanted.flatMap(({ name, schema }) => {
    const type = table.columns.get(name);
    const to = type && widened(type, schema, isEvolved);
    return to === undefined ? [] : [`ALTER COLUMN ${quote(name)} TYPE ${to} USING ${quote(name)}::${to}`];
  });
  return changes.length === 0 ? undefined : `ALTER TABLE ${table.sql} ${changes.join(', ')}`;
};

/** What a statement with IF NOT EXISTS still fails with when another session makes the same thing at the same moment. */
const madeByAnother = new Set(['23505', '42P07', '42701', '42710', 'XX000']);

export const makeOnce = (connection: Connection, statement: string): Promise<void> =>
  makeUnless(connection, statement, (error) => madeByAnother.has(sqlStateOf(error) ?? ''));

/** A table of rows that wait to be shown: the columns, keys and checks of the one they go to, so that rows are refused already here. */
export const makeStaging = async (connection: Connection, staging: TableName, table: string): Promise<void> => {
  await makeOnce(connection, `CREATE TABLE IF NOT EXISTS ${sqlName(staging)} (LIKE ${table} INCLUDING ALL)`);
};

/** Every reason why records of these columns cannot be written. */
const misfits = (table: Table, wanted: readonly WantedColumn[], key: readonly string[]): readonly string[] => {
  const problems: string[] = [];
  for (const { name, schema } of wanted) {
    const type = table.columns.get(name);
    if (type === undefined || takes(type, schema)) continue;
    const alter = `ALTER TABLE ${table.sql} ALTER COLUMN ${quote(name)} TYPE ${columnType(schema)} USING ${quote(name)}::${columnType(schema)}`;
    problems.push(`column ${quote(name)} ${describeMisfit(type, schema)}: ${alter}`);
  }
  const keyless = key.filter((name) => !table.columns.has(name));
  if (keyless.length > 0) problems.push(`the key's column ${keyless.map(quote).join(', ')} is missing`);
  else problems.push(...keyProblem(table, key));
  return problems;
};

/** Why ON CONFLICT cannot name this key; [] where it can, or where there is none. */
export const keyProblem = ({ sql, uniqueKeys }: Table, key: readonly string[]): readonly string[] => {
  const isKey = (columns: readonly string[]) => columns.length === key.length && columns.every((c) => key.includes(c));
  if (key.length === 0 || uniqueKeys.some(isKey)) return [];
  const list = `(${key.map(quote).join(', ')})`;
  return [`upsert needs a primary key or unique index on exactly ${list}: ALTER TABLE ${sql} ADD PRIMARY KEY ${list}`];
};

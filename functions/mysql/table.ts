import { holdsJson } from '../../shared/connect/batch.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { WantedColumn } from '../../shared/sql/layout.ts';
import {
  makeOnce as makeUnless,
  tableOf as namedTable,
  prepareTable as prepared,
  type TableName,
} from '../../shared/sql/table.ts';
import { type Connection, quote } from './client.ts';
import type { MysqlSinkConfig } from './config.ts';
import { errnoOf } from './errors.ts';
import { type ColumnType, columnType, describeMisfit, keyMisfit, keyTypes, takes } from './types.ts';
import { widened } from './widen.ts';

/** A table as it is now. */
export interface Table extends TableName {
  /** Quoted, for statements. */
  readonly sql: string;
  readonly engine: string;
  /** Whether its engine has transactions. */
  readonly transactional: boolean;
  /** By `columnKey`. */
  readonly columns: ReadonlyMap<string, ColumnType>;
  /** The columns of each primary key and unique index, by `columnKey`. */
  readonly uniqueKeys: readonly (readonly string[])[];
}

const MAX_NAME_CHARACTERS = 64;

/** Names of columns that differ in case only are one column. */
export const columnKey = (name: string): string => name.toLowerCase();

/** Why a name cannot be a column's; undefined where it can. */
export const nameProblem = (name: string): string | undefined => {
  if (name === '') return 'a column needs a name';
  if (name.includes('\0')) return 'MySQL has no U+0000 in names';
  if (name.endsWith(' ')) return 'MySQL has no space at the end of a name';
  if (/[\u{10000}-\u{10ffff}]|\p{Surrogate}/u.test(name)) return 'MySQL has no characters above U+FFFF in names';
  return name.length > MAX_NAME_CHARACTERS
    ? `MySQL's names end at ${MAX_NAME_CHARACTERS} characters, this has ${name.length}`
    : undefined;
};

export const sqlName = ({ schema, name }: TableName): string => `${quote(schema)}.${quote(name)}`;

/** The table of a topic. */
export const tableOf = (topic: string, { table }: MysqlSinkConfig, database: string): TableName =>
  namedTable(topic, table, database, nameProblem, 'database.table');

export const loadTable = async (connection: Connection, { schema, name }: TableName): Promise<Table | undefined> => {
  const [found] = await connection.query<{ kind: string; engine: string | null; transactions: string | null }>(
    `SELECT t.TABLE_TYPE AS kind, t.ENGINE AS engine, e.TRANSACTIONS AS transactions
     FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
     WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ?`,
    [schema, name],
  );
  if (found === undefined) return undefined;
  const columns = await connection.query<ColumnRow>(
    `SELECT COLUMN_NAME AS \`column\`, COLUMN_TYPE AS name, DATA_TYPE AS base, CHARACTER_MAXIMUM_LENGTH AS capacity,
       COLLATION_NAME AS collation, NUMERIC_SCALE AS scale, DATETIME_PRECISION AS fraction, IS_NULLABLE AS nullable
     FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`,
    [schema, name],
  );
  const keys = await connection.query<{ name: string; column: string | null; prefix: unknown }>(
    `SELECT INDEX_NAME AS name, COLUMN_NAME AS \`column\`, SUB_PART AS prefix
     FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY SEQ_IN_INDEX`,
    [schema, name],
  );
  const byName = Map.groupBy(keys, (key) => key.name);
  // A key of a prefix or an expression tells other rows apart.
  const whole = [...byName.values()].filter((parts) =>
    parts.every(({ column, prefix }) => column !== null && prefix === null),
  );
  return {
    schema,
    name,
    sql: sqlName({ schema, name }),
    engine: found.engine ?? found.kind,
    transactional: found.transactions === 'YES',
    columns: new Map(columns.map((row) => [columnKey(row.column), columnOf(row)])),
    uniqueKeys: whole.map((parts) => parts.map(({ column }) => columnKey(column!))),
  };
};

interface ColumnRow {
  readonly column: string;
  readonly name: string;
  readonly base: string;
  readonly capacity: string | number | null;
  readonly collation: string | null;
  readonly scale: string | number | null;
  readonly fraction: string | number | null;
  readonly nullable: string;
}

const columnOf = ({ name, base, capacity, collation, scale, fraction, nullable }: ColumnRow): ColumnType => ({
  name,
  base: base.toLowerCase(),
  collation,
  capacity: capacity === null ? null : Number(capacity),
  scale: scale === null ? null : Number(scale),
  fraction: fraction === null ? null : Number(fraction),
  nullable: nullable === 'YES',
});

/** The table that records with these columns and this key ([]: none) can be written to. */
export const prepareTable = async (
  connection: Connection,
  config: MysqlSinkConfig,
  name: TableName,
  wanted: readonly WantedColumn[],
  key: readonly string[],
  known: Table | undefined,
): Promise<Table> => {
  const { keyCollation } = connection.server;
  const impossible = [...twins(wanted), ...jsonKeys(wanted, key)];
  if (impossible.length > 0)
    throw new ConnectError('CONFIG_INVALID', `records cannot go to ${sqlName(name)}: ${impossible.join('; ')}`);
  return prepared(
    {
      sql: sqlName(name),
      quote,
      load: () => loadTable(connection, name),
      has: ({ columns }, column) => columns.has(columnKey(column)),
      createStatement: () => createStatement(name, wanted, key, keyCollation),
      addStatement: (missing) =>
        `ALTER TABLE ${sqlName(name)} ${missing.map((one) => `ADD ${definition(one)}`).join(', ')}`,
      widenStatement: (table, isEvolved) => widenStatement(connection, table, wanted, key, isEvolved),
      make: (statement) => makeOnce(connection, statement),
      problems: (table) => misfits(table, config, wanted, key, keyCollation),
    },
    config,
    wanted,
    known,
  );
};

const definition = ({ name, schema }: WantedColumn): string => `${quote(name)} ${columnType(schema)}`;

const keyDefinitions = (wanted: readonly WantedColumn[], key: readonly string[], collation: string) => {
  const columns = wanted.filter(({ name }) => key.includes(name));
  const types = keyTypes(
    columns.map(({ schema }) => schema),
    collation,
  );
  return new Map(columns.map(({ name }, i) => [name, `${quote(name)} ${types[i]} NOT NULL`]));
};

const createStatement = (
  name: TableName,
  wanted: readonly WantedColumn[],
  key: readonly string[],
  collation: string,
): string => {
  const keys = keyDefinitions(wanted, key, collation);
  // Only the key is NOT NULL: a field that is optional tomorrow must find room in the table of today.
  const lines = wanted.map((column) => keys.get(column.name) ?? `${definition(column)} NULL`);
  if (key.length > 0) lines.push(`PRIMARY KEY (${key.map(quote).join(', ')})`);
  return `CREATE TABLE IF NOT EXISTS ${sqlName(name)} (${lines.join(', ')}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4`;
};

/** A column is defined anew as a whole: everything but its type stays as SHOW CREATE TABLE has it. */
const widenStatement = async (
  connection: Connection,
  { sql, columns }: Table,
  wanted: readonly WantedColumn[],
  key: readonly string[],
  isEvolved: boolean,
): Promise<string | undefined> => {
  const changes = wanted.flatMap(({ name, schema }) => {
    const type = columns.get(columnKey(name));
    // A text in a key is another key.
    const to = type && widened(type, schema, isEvolved && !key.includes(name));
    return to === undefined ? [] : [{ name, from: type!.name, to }];
  });
  if (changes.length === 0) return undefined;
  const [shown] = await connection.query<{ 'Create Table': string }>(`SHOW CREATE TABLE ${sql}`);
  const lines = new Map(
    shown!['Create Table'].split('\n').flatMap((line) => {
      const [, name, rest] = /^\s*`((?:[^`]|``)*)` (.*?),?$/.exec(line) ?? [];
      return name === undefined ? [] : [[columnKey(name.replaceAll('``', '`')), rest!]];
    }),
  );
  const modified = changes.flatMap(({ name, from, to }) => {
    const defined = lines.get(columnKey(name));
    return defined?.startsWith(from) === true ? [`MODIFY ${quote(name)} ${to}${defined.slice(from.length)}`] : [];
  });
  return modified.length === 0 ? undefined : `ALTER TABLE ${sql} ${modified.join(', ')}`;
};

const TABLE_EXISTS = 1050;
const COLUMN_EXISTS = 1060;

export const makeOnce = (connection: Connection, statement: string): Promise<void> =>
  makeUnless(connection, statement, (error) => [TABLE_EXISTS, COLUMN_EXISTS].includes(errnoOf(error)!));

/** A table of rows that wait to be shown: the columns and keys of the one they go to, so that rows are refused already here. */
export const makeStaging = (connection: Connection, staging: TableName, table: string): Promise<void> =>
  makeOnce(connection, `CREATE TABLE IF NOT EXISTS ${sqlName(staging)} LIKE ${table}`);

/** Every reason why records of these columns cannot be written. */
const misfits = (
  table: Table,
  { evolve }: MysqlSinkConfig,
  wanted: readonly WantedColumn[],
  key: readonly string[],
  collation: string,
): readonly string[] => {
  const problems = [...engineProblem(table)];
  const keys = keyDefinitions(wanted, key, collation);
  for (const column of wanted) {
    const type = table.columns.get(columnKey(column.name));
    const problem = type === undefined ? undefined : misfitOf(type, column, keys.has(column.name));
    if (problem !== undefined)
      problems.push(
        `column ${quote(column.name)} ${problem}: ALTER TABLE ${table.sql} MODIFY ${keys.get(column.name) ?? definition(column)}`,
      );
    // Names that this server takes for one, such as `e` and `é`: nothing was added.
    if (type === undefined && evolve !== 'ignore')
      problems.push(`column ${quote(column.name)} cannot be added beside the others: rename the field`);
  }
  const keyless = key.filter((name) => !table.columns.has(columnKey(name)));
  if (keyless.length > 0) problems.push(`the key's column ${keyless.map(quote).join(', ')} is missing`);
  else problems.push(...keyProblem(table, key));
  return problems;
};

const misfitOf = (type: ColumnType, { schema }: WantedColumn, isKey: boolean): string | undefined =>
  takes(type, schema) ? (isKey ? keyMisfit(type, schema) : undefined) : describeMisfit(type, schema);

/** Rows and offsets are one transaction, or they are not exactly once. */
export const engineProblem = ({ sql, engine, transactional }: Table): string[] => {
  if (transactional) return [];
  if (/VIEW|VERSIONED/i.test(engine)) return [`${sql} is no table (${engine}), and records go to tables only`];
  return [`its engine ${engine} has no transactions: ALTER TABLE ${sql} ENGINE = InnoDB`];
};

const twins = (wanted: readonly WantedColumn[]): string[] => {
  const byKey = Map.groupBy(wanted, ({ name }) => columnKey(name));
  const clashes = [...byKey.values()].filter((columns) => columns.length > 1);
  return clashes.map(
    (columns) => `the fields ${columns.map(({ name }) => name).join(' and ')} are one column in MySQL`,
  );
};

const jsonKeys = (wanted: readonly WantedColumn[], key: readonly string[]): string[] =>
  wanted
    .filter(({ name, schema }) => key.includes(name) && holdsJson(schema))
    .map(({ name }) => `the key's field ${name} is JSON, which has no key in MySQL: declare its type`);

/** Why no row can be found by this key; [] where it can, or where there is none. */
export const keyProblem = ({ sql, uniqueKeys }: Table, key: readonly string[]): readonly string[] => {
  const keys = key.map(columnKey);
  const isKey = (columns: readonly string[]) =>
    columns.length === keys.length && columns.every((c) => keys.includes(c));
  if (key.length === 0 || uniqueKeys.some(isKey)) return [];
  const list = `(${key.map(quote).join(', ')})`;
  return [`upsert needs a primary key or unique index on exactly ${list}: ALTER TABLE ${sql} ADD PRIMARY KEY ${list}`];
};

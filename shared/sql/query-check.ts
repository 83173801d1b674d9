import type { Problem } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import type { QueryConfig } from '../connect/query-config.ts';
import { maxPageRows } from './query-page.ts';
import type { QueryReader } from './query-reader.ts';
import { conditionsOf, cursorOf, selectOf } from './query-statement.ts';
import { columnOf, fieldsOf, isNamed, keyOf, missingTables, nameOf, type QueryTable } from './query-table.ts';

export interface Index {
  readonly columns: readonly string[];
  readonly isUnique: boolean;
}

/** What a check asks of a system beside its tables. */
export interface QueryFacts<T extends QueryTable> {
  /** Of a table; undefined for what has none, such as a view. */
  indexes(table: T): Promise<readonly Index[] | undefined>;
  /** What lets the account read, where an error says that it may not. */
  grant(table: T, error: ConnectError): Promise<string | undefined>;
}

/** Every reason why rows could not be read, would be missed or would be slow to find, with what mends it. */
export const queryProblems = async <T extends QueryTable>(
  config: QueryConfig,
  reader: QueryReader<T>,
  facts: QueryFacts<T>,
): Promise<readonly Problem[]> => {
  const look = await reader.look().catch(notRetriable);
  if (look instanceof ConnectError) return [look.message];
  const problems = [...missingTables(config, look.tables)];
  for (const name of [...(config.columns ?? []), ...(config.excludeColumns ?? [])])
    if (!look.tables.some((table) => table.columns.some((column) => isNamed(table, column.name, name))))
      problems.push(`columns, excludeColumns: there is no column ${name}`);
  for (const table of look.tables) {
    const named = columnProblems(table, config);
    problems.push(...named);
    // What is read is not known before the columns are.
    if (named.length > 0) continue;
    const denied = await readingProblem(table, config, reader, facts);
    if (denied !== undefined) problems.push(denied);
    else problems.push(...(await tableProblems(table, config, reader, await facts.indexes(table))));
  }
  return problems;
};

/** It is the problem that was looked for; what may pass by itself is thrown. */
const notRetriable = (error: unknown): ConnectError => {
  if (error instanceof ConnectError && !error.retriable) return error;
  throw error;
};

const columnProblems = (table: QueryTable, config: QueryConfig): readonly Problem[] => {
  const { incrementingColumn, timestampColumns = [], keyFields = [] } = config;
  const named = [
    ...[incrementingColumn ?? []].flat().map((name) => ['incrementingColumn', name] as const),
    ...timestampColumns.map((name) => ['timestampColumns', name] as const),
    ...keyFields.map((name) => ['keyFields', name] as const),
  ];
  return named.flatMap(([key, name]) => {
    try {
      const { time } = columnOf(table, name, key);
      return key !== 'timestampColumns' || time !== undefined
        ? []
        : [`timestampColumns: ${name} of ${nameOf(table)} is no timestamp, datetime or date`];
    } catch (error) {
      return [notRetriable(error).message];
    }
  });
};

/** By reading a row. */
const readingProblem = async <T extends QueryTable>(
  table: T,
  config: QueryConfig,
  { connection, dialect }: QueryReader<T>,
  facts: QueryFacts<T>,
): Promise<Problem | undefined> => {
  try {
    const cursor = cursorOf(table, config, dialect);
    const fields = fieldsOf(table, config).map(({ name }) => `q.${dialect.quote(name)}`);
    const unsorted = { ...cursor, parts: [] };
    await connection.query(
      selectOf(table, fields, unsorted, config, conditionsOf(cursor, { after: null }, dialect), 1),
    );
    return undefined;
  } catch (error) {
    const problem = notRetriable(error);
    const grant = await facts.grant(table, problem);
    return `${nameOf(table)} can't be read: ${problem.message}${grant === undefined ? '' : `: ${grant}`}`;
  }
};

const tableProblems = async <T extends QueryTable>(
  table: T,
  config: QueryConfig,
  reader: QueryReader<T>,
  indexes: readonly Index[] | undefined,
): Promise<readonly Problem[]> => [
  ...(config.validateNonNull && indexes !== undefined ? nullProblems(table, config) : []),
  ...numberProblems(table, config, reader, indexes),
  ...(await sizeProblems(table, config, reader, indexes)),
];

/** Whether a view's or a query's column may be null is not told. */
const nullProblems = (table: QueryTable, { timestampColumns = [], incrementingColumn }: QueryConfig): Problem[] => {
  const nullable = (column: string) => columnOf(table, column, '').isNullable;
  const lacking = (columns: string, mend: string) =>
    `${columns} of ${nameOf(table)} may be null, and rows without are never read: make it NOT NULL${mend}, or set validateNonNull to false`;
  return [
    ...(timestampColumns.length > 0 && timestampColumns.every(nullable)
      ? [lacking(timestampColumns.join(', '), ', add a column to timestampColumns that is')]
      : []),
    ...(incrementingColumn !== undefined && nullable(incrementingColumn) ? [lacking(incrementingColumn, '')] : []),
  ];
};

const numberProblems = <T extends QueryTable>(
  table: T,
  { mode, incrementingColumn: column }: QueryConfig,
  { dialect }: QueryReader<T>,
  indexes: readonly Index[] | undefined,
): Problem[] => {
  if (column === undefined) return [];
  const name = nameOf(table);
  const problems: Problem[] = [];
  if (!columnOf(table, column, '').isInteger)
    problems.push(`${column} of ${name} is no integer: name a column that counts as incrementingColumn`);
  if (mode === 'incrementing' && indexes !== undefined && !indexes.some(isUniqueOn(column)))
    problems.push(
      `${column} of ${name} is not unique, and a second row with the last number would never be read: CREATE UNIQUE INDEX ${dialect.quote(`${column}_unique`)} ON ${table.from} (${dialect.quote(column)})`,
    );
  return problems;
};

/** What is no problem of a small table. */
const sizeProblems = async <T extends QueryTable>(
  table: T,
  config: QueryConfig,
  reader: QueryReader<T>,
  indexes: readonly Index[] | undefined,
): Promise<Problem[]> => {
  const { mode, timestampColumns = [] } = config;
  const { dialect } = reader;
  const name = nameOf(table);
  if (mode === 'bulk' && table.primaryKey.length === 0 && keyOf(table, config).length === 0)
    return (await isLarge(table, reader))
      ? [
          `${name} has no key, and more than ${maxPageRows} rows, which can't be read in parts: ALTER TABLE ${table.from} ADD PRIMARY KEY (…), or name columns that are unique as keyFields`,
        ]
      : [];
  // An index on what several columns come to is not looked for.
  const [first, ...others] = timestampColumns;
  if (first === undefined || others.length > 0 || indexes === undefined) return [];
  const isIndexed = indexes.some(({ columns }) => columns[0] === first);
  return isIndexed || !(await isLarge(table, reader))
    ? []
    : [
        `${first} of ${name} has no index, so each look reads all of it: CREATE INDEX ${dialect.quote(`${first}_index`)} ON ${table.from} (${dialect.quote(first)})`,
      ];
};

const isUniqueOn =
  (column: string) =>
  ({ columns, isUnique }: Index): boolean =>
    isUnique && columns.length === 1 && columns[0] === column;

const isLarge = async <T extends QueryTable>({ from }: T, { connection }: QueryReader<T>): Promise<boolean> => {
  const limit = maxPageRows + 1;
  const [row] = await connection.query<{ count: unknown }>(
    `SELECT COUNT(*) AS count FROM (SELECT 1 FROM ${from} AS q LIMIT ${limit}) AS counted`,
  );
  return Number(row!.count) === limit;
};

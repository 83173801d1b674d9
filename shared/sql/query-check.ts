import type { Problem } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import type { QueryConfig } from '../connect/query-config.ts';
import { maxPageRows } from './query-page.ts';
import { behindOf, cursorOf, selectOf } from './query-statement.ts';
import { columnOf, fieldsOf, isNamed, keyOf, missingTables, nameOf, type QueryTable } from './query-table.ts';
import type { QueryReader } from './query-task.ts';

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
  const problems = missingTables(config, look.tables).map(
    (table) => `there is no table ${table}, or the account may not read it: mend tables, or GRANT SELECT ON it`,
  );
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
    await connection.query(selectOf(table, fields, unsorted, config, behindOf(cursor, null, dialect), 1));
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
): Promise<readonly Problem[]> => {
  const { dialect } = reader;
  const { mode, incrementingColumn, timestampColumns = [] } = config;
  const problems: Problem[] = [];
  const name = nameOf(table);
  const nullable = (column: string) => columnOf(table, column, '').isNullable;
  // Whether a query's column may be null is not told.
  if (
    config.validateNonNull &&
    table.name !== undefined &&
    mode.includes('timestamp') &&
    timestampColumns.every(nullable)
  )
    problems.push(
      `${timestampColumns.join(', ')} of ${name} may be null, and rows without are never read: make it NOT NULL, add a column to timestampColumns that is, or set validateNonNull to false`,
    );
  if (incrementingColumn !== undefined && !columnOf(table, incrementingColumn, '').isInteger)
    problems.push(`${incrementingColumn} of ${name} is no integer: name a column that counts as incrementingColumn`);
  if (incrementingColumn !== undefined && indexes !== undefined && !indexes.some(isUniqueOn(incrementingColumn)))
    problems.push(
      `${incrementingColumn} of ${name} is not unique, and a second row with the last number would never be read: CREATE UNIQUE INDEX ${dialect.quote(`${incrementingColumn}_unique`)} ON ${table.from} (${dialect.quote(incrementingColumn)})`,
    );
  // An index on what several columns come to is not looked for.
  const first = timestampColumns.length === 1 ? timestampColumns[0] : undefined;
  const isSlow = first !== undefined && indexes?.some(({ columns }) => columns[0] === first) === false;
  const isKeyless = mode === 'bulk' && table.primaryKey.length === 0 && keyOf(table, config).length === 0;
  if ((isSlow || isKeyless) && (await isLarge(table, reader)))
    problems.push(
      isKeyless
        ? `${name} has no key, and more than ${maxPageRows} rows, which can't be read in parts: ALTER TABLE ${table.from} ADD PRIMARY KEY (…), or name columns that are unique as keyFields`
        : `${first} of ${name} has no index, so each look reads all of it: CREATE INDEX ${dialect.quote(`${first}_index`)} ON ${table.from} (${dialect.quote(first!)})`,
    );
  return problems;
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

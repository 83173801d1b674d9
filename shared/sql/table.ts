import { tableNameOf } from '../connect/database-config.ts';
import { ConnectError } from '../connect/errors.ts';
import type { Evolve } from './evolve.ts';
import type { WantedColumn } from './layout.ts';
import type { Connection } from './session.ts';

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** The table of a topic. `a.b` is table b of schema a, whether the dot comes from the template or from the topic. */
export const tableOf = (
  topic: string,
  template: string,
  schema: string,
  nameProblem: (name: string) => string | undefined,
  form: string,
): TableName => {
  const full = tableNameOf(template, topic);
  const parts = full.split('.');
  const named = parts.length === 1 ? { schema, name: full } : { schema: parts[0]!, name: parts[1]! };
  const problem =
    parts.length > 2
      ? `it has more than one dot, and a table is named \`table\` or \`${form}\``
      : (nameProblem(named.schema) ?? nameProblem(named.name));
  if (problem === undefined) return named;
  throw new ConnectError(
    'CONFIG_INVALID',
    `the records of topic ${topic} cannot go to table "${full}": ${problem}. Set \`table\`, to \${table} for what is behind the topic's last dot`,
  );
};

/** How the tables of a system are made and looked at. */
export interface TableKind<T extends { readonly sql: string }> {
  /** The table's name, quoted for statements. */
  readonly sql: string;
  quote(name: string): string;
  load(): Promise<T | undefined>;
  has(table: T, column: string): boolean;
  createStatement(): string;
  addStatement(missing: readonly WantedColumn[]): string;
  /** Gives columns the types that hold what they have and what the records carry; undefined: all do. */
  widenStatement(table: T, isEvolved: boolean): Promise<string | undefined>;
  /** Runs one of these statements; where another session was quicker that is good as well. */
  make(statement: string): Promise<void>;
  /** Every reason why the records cannot be written. */
  problems(table: T): readonly string[];
}

/**
 * The table that records with these columns can be written to: made, or given columns, where `config` allows. `known` is the table as
 * it was when last seen. Never inside a transaction of rows. Several tasks may do it at the same time.
 */
export const prepareTable = async <T extends { readonly sql: string }>(
  kind: TableKind<T>,
  config: { readonly create: boolean; readonly evolve: Evolve },
  wanted: readonly WantedColumn[],
  known: T | undefined,
): Promise<T> => {
  const change = async (statement: string): Promise<T> => {
    await kind.make(statement);
    const table = await kind.load();
    if (table !== undefined) return table;
    throw new ConnectError('UNAVAILABLE', `${kind.sql} was dropped while it was made`, { retriable: true });
  };

  let table = known ?? (await kind.load());
  if (table === undefined) {
    const statement = kind.createStatement();
    if (!config.create)
      throw new ConnectError('CONFIG_INVALID', `table ${kind.sql} is missing, and create is false: ${statement}`);
    table = await change(statement);
  }
  const missingOf = (one: T) => wanted.filter((column) => !kind.has(one, column.name));
  let missing = config.evolve === 'ignore' ? [] : missingOf(table);
  while (missing.length > 0) {
    const statement = kind.addStatement(missing);
    if (config.evolve === 'fail') {
      const names = missing.map((column) => kind.quote(column.name)).join(', ');
      throw new ConnectError('CONFIG_INVALID', `${table.sql} lacks ${names}, and evolve is fail: ${statement}`);
    }
    table = await change(statement);
    // Another session may have made some of them at the same moment, and so kept the rest from being made.
    const left = missingOf(table);
    missing = left.length < missing.length ? left : [];
  }
  if (config.evolve === 'widen-only' || config.evolve === 'evolve') {
    const statement = await kind.widenStatement(table, config.evolve === 'evolve');
    if (statement !== undefined) table = await change(statement);
  }
  const problems = kind.problems(table);
  if (problems.length > 0)
    throw new ConnectError('CONFIG_INVALID', `records do not fit table ${table.sql}: ${problems.join('; ')}`);
  return table;
};

/** Runs a statement that makes something, unless `isMade` by another session; a row's error inside it is nobody's row. */
export const makeOnce = async (
  connection: Connection,
  statement: string,
  isMade: (error: unknown) => boolean,
): Promise<void> => {
  try {
    await connection.run(statement);
  } catch (error) {
    if (isMade(error)) return;
    const { code, retriable, message } = error as ConnectError;
    throw new ConnectError(code, `${message}, at: ${statement}`, { retriable, cause: error });
  }
};

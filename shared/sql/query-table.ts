import { ConnectError } from '../connect/errors.ts';
import type { QueryConfig } from '../connect/query-config.ts';
import { isPattern } from '../connect/table-names.ts';

/** What comparing a time with the server's clock needs to know of it. */
export interface TimeKind {
  /** A wall clock without zone. */
  readonly isLocal: boolean;
  readonly isDate: boolean;
  /** Of a second's fraction, that are kept. */
  readonly digits: number;
}

/** How a statement writes a column's values. */
export type Form = 'number' | 'float' | 'bytes' | 'time' | 'text';

export interface QueryColumn {
  readonly name: string;
  readonly form: Form;
  readonly isNullable: boolean;
  readonly isInteger: boolean;
  /** Undefined: it holds no time. */
  readonly time: TimeKind | undefined;
}

/** A table, a view or the config's query, as it is now. */
export interface QueryTable<C extends QueryColumn = QueryColumn> {
  /** As the config writes it; undefined: it is the query. */
  readonly name: string | undefined;
  /** What stands behind FROM. */
  readonly from: string;
  readonly columns: readonly C[];
  /** In its order; [] where there is none. */
  readonly primaryKey: readonly string[];
}

/** Whether the config means a column of the table: by its name alone, or with the table's. */
export const isNamed = ({ name }: QueryTable, column: string, named: string): boolean =>
  named === column || named === `${name}.${column}`;

/** The columns that are told, in the table's order. */
export const fieldsOf = <C extends QueryColumn>(table: QueryTable<C>, config: QueryConfig): readonly C[] => {
  const names = (list: readonly string[], { name }: QueryColumn) => list.some((one) => isNamed(table, name, one));
  const keys = keyOf(table, config);
  return table.columns.filter(
    (column) =>
      keys.includes(column.name) ||
      ((config.columns === undefined || names(config.columns, column)) && !names(config.excludeColumns ?? [], column)),
  );
};

/** The columns of a record's key; [] where it has none. */
export const keyOf = (table: QueryTable, { keyFields }: QueryConfig): readonly string[] =>
  keyFields?.map((name) => columnOf(table, name, 'keyFields').name) ?? table.primaryKey;

export const nameOf = ({ name }: QueryTable): string => name ?? 'the query';

/** A column that the config names. */
export const columnOf = <C extends QueryColumn>(table: QueryTable<C>, name: string, key: string): C => {
  const column = table.columns.find((one) => one.name === name);
  if (column !== undefined) return column;
  throw new ConnectError(
    'CONFIG_INVALID',
    `${key}: ${nameOf(table)} has no column ${name}, its columns are ${table.columns.map((one) => one.name).join(', ')}`,
  );
};

/** What is wrong with tables of the config, not patterns, that are not there. */
export const missingTables = ({ tables = [] }: QueryConfig, found: readonly QueryTable[]): readonly string[] => {
  const names = new Set(found.map(({ name }) => name));
  return tables
    .filter((table) => !isPattern(table) && !names.has(table))
    .map((table) => `there is no table ${table}, or the account may not read it: mend tables, or GRANT SELECT ON it`);
};

export const requireTables = (config: QueryConfig, found: readonly QueryTable[]): void => {
  const missing = missingTables(config, found);
  if (missing.length > 0) throw new ConnectError('NOT_FOUND', missing.join('; '));
};

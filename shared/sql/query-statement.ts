import { createHash } from 'node:crypto';
import { ConnectError } from '../connect/errors.ts';
import type { QueryConfig } from '../connect/query-config.ts';
import { columnOf, type Form, keyOf, nameOf, type QueryTable, type TimeKind } from './query-table.ts';

/** What the statements of a system look like. SQL that is given or made is of table `q`. */
export interface Dialect {
  quote(name: string): string;
  /** What selects a column so that `literal` can give its value back. */
  text(sql: string, form: Form): string;
  /** A value, as it was selected, to compare the column with. */
  literal(text: string, form: Form): string;
  /** The server's clock minus a delay, cut to what such a column keeps: rows from then on are left for later. */
  bound(time: TimeKind, delayMs: number, zone: string): string;
  /** Milliseconds since 1970 as such a column has them. */
  instant(time: TimeKind, ms: number, zone: string): string;
  /** A condition: rows behind these values, in the order of the columns. */
  behind(columns: readonly string[], values: readonly string[]): string;
  /** A condition: rows with these values, or before them. */
  upTo(columns: readonly string[], values: readonly string[]): string;
  /** Rows without a value come first, so that they are found. */
  order(sql: string, isNullable: boolean): string;
}

/** In the order of what rows are read, and where reading begins and ends. No place is between rows with the same values. */
export interface Cursor {
  readonly parts: readonly CursorPart[];
  readonly bound?: string;
  readonly start?: string;
  /** No two rows have the same values. */
  readonly isUnique: boolean;
  /** As an offset has it. */
  readonly by: string;
}

interface CursorPart {
  readonly name: string;
  readonly form: Form;
  readonly sql: string;
  readonly text: string;
  readonly order: string;
  literal(text: string): string;
}

export const cursorOf = (table: QueryTable, config: QueryConfig, dialect: Dialect): Cursor => {
  const plain = (name: string, key: string): CursorPart => {
    const column = columnOf(table, name, key);
    const sql = `q.${dialect.quote(name)}`;
    return {
      name,
      form: column.form,
      sql,
      text: dialect.text(sql, column.form),
      order: dialect.order(sql, column.isNullable),
      literal: (text) => dialect.literal(text, column.form),
    };
  };
  const { mode, incrementingColumn, timestampColumns = [] } = config;
  const by = mode.includes('incrementing')
    ? [plain(incrementingColumn!, 'incrementingColumn')]
    : // Of rows with one timestamp, those that are read are told from those that are not by the primary key.
      (table.primaryKey.length > 0 ? table.primaryKey : keyOf(table, config)).map((name) => plain(name, 'keyFields'));
  const time = mode.includes('timestamp') ? timeOf(table, timestampColumns, config.dbTimezone) : undefined;
  const names = (parts: readonly CursorPart[]) => parts.map(({ name }) => name).join();
  const isUnique =
    table.primaryKey.length > 0 && table.primaryKey.every((name) => by.some((part) => part.name === name));
  if (time === undefined) return { parts: by, by: names(by), isUnique };
  const columns = timestampColumns.map((name) => `q.${dialect.quote(name)}`);
  const sql = columns.length === 1 ? columns[0]! : `COALESCE(${columns.join(', ')})`;
  const first: CursorPart = {
    name: timestampColumns.join('|'),
    form: 'time',
    sql,
    text: dialect.text(sql, 'time'),
    // Those without one are behind no bound.
    order: sql,
    literal: (text) => dialect.literal(text, 'time'),
  };
  const parts = [first, ...by];
  return {
    parts,
    by: names(parts),
    isUnique,
    bound: `${sql} < ${dialect.bound(time, config.timestampDelayIntervalMs, config.dbTimezone)}`,
    ...(config.timestampInitialMs === undefined
      ? {}
      : { start: `${sql} >= ${dialect.instant(time, config.timestampInitialMs, config.dbTimezone)}` }),
  };
};

/** What the first of several that is not null is: as coarse as the coarsest. */
const timeOf = (table: QueryTable, names: readonly string[], zone: string): TimeKind => {
  const times = names.map((name) => {
    const { time } = columnOf(table, name, 'timestampColumns');
    if (time !== undefined) return time;
    throw new ConnectError(
      'CONFIG_INVALID',
      `timestampColumns: ${name} of ${nameOf(table)} is no timestamp, datetime or date`,
    );
  });
  const isLocal = times.some((time) => time.isLocal);
  if (isLocal && zone !== 'UTC' && !times.every((time) => time.isLocal))
    throw new ConnectError(
      'CONFIG_INVALID',
      `timestampColumns: ${names.join(', ')} of ${nameOf(table)} are not of one kind, with and without a time zone, and dbTimezone is ${zone}: name one of them`,
    );
  return {
    isLocal,
    isDate: times.some((time) => time.isDate),
    digits: Math.min(...times.map((time) => time.digits)),
  };
};

/** The rows that meet the conditions, in the cursor's order: their fields, and then the cursor's values. */
export const selectOf = (
  { from }: QueryTable,
  fields: readonly string[],
  cursor: Cursor,
  config: QueryConfig,
  conditions: readonly string[],
  limit: number,
): string => {
  const selected = [...fields, ...cursor.parts.map(({ text }) => text)];
  const order = cursor.parts.length === 0 ? '' : ` ORDER BY ${cursor.parts.map((part) => part.order).join(', ')}`;
  return `SELECT ${selected.join(', ')} FROM ${from} AS q${whereOf(config, conditions)}${order} LIMIT ${limit}`;
};

/** Where rows are read: behind the values `after`, up to and with `to`. Both may be of the first columns only. */
export interface Span {
  readonly after: readonly string[] | null;
  /** Left out: up to the cursor's bound. */
  readonly to?: readonly string[] | undefined;
}

export const conditionsOf = (cursor: Cursor, { after, to }: Span, dialect: Dialect): readonly string[] => {
  const compared = (compare: Dialect['behind'], values: readonly string[]) =>
    compare(
      cursor.parts.slice(0, values.length).map(({ sql }) => sql),
      values.map((value, i) => cursor.parts[i]!.literal(value)),
    );
  const first = after === null ? cursor.start : compared(dialect.behind, after);
  const last = to === undefined ? cursor.bound : compared(dialect.upTo, to);
  return [first, last].filter((one) => one !== undefined);
};

/** The cursor's first column alone, its last value first, and what tells its rows from those that have none. */
export const backwards = (cursor: Cursor): { readonly cursor: Cursor; readonly condition: string } => {
  const first = cursor.parts[0]!;
  return {
    cursor: { ...cursor, parts: [{ ...first, order: `${first.sql} DESC` }] },
    condition: `${first.sql} IS NOT NULL`,
  };
};

/** A comment at the end of what a person wrote ends with its line. */
export const whereOf = ({ where }: QueryConfig, conditions: readonly string[]): string => {
  const all = [...(where === undefined ? [] : [`(${where}\n)`]), ...conditions];
  return all.length === 0 ? '' : ` WHERE ${all.join(' AND ')}`;
};

/** A hash of what chooses rows beside the cursor; undefined where nothing does. */
export const filterOf = ({ where, query }: QueryConfig): string | undefined =>
  where === undefined && query === undefined
    ? undefined
    : createHash('sha256')
        .update(JSON.stringify([where, query]))
        .digest('hex')
        .slice(0, 12);

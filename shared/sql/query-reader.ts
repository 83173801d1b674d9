import type { QueryOffset } from '../connect/query-config.ts';
import type { PageLimits, QueryRows } from './query-page.ts';
import type { Cursor, Dialect } from './query-statement.ts';
import type { QueryTable } from './query-table.ts';
import type { Connection } from './session.ts';

/** What a system knows of its tables, and how their rows come. */
export interface QueryReader<T extends QueryTable> {
  readonly connection: Connection;
  readonly dialect: Dialect;
  /** Which server it is, in offsets, and the tables of the config that are there. */
  look(): Promise<{ readonly identity: string; readonly tables: readonly T[] }>;
  rows(table: T, statement: Statement): Promise<QueryRows>;
  /** What parts the primary key of a table, as it is now, into ranges that are worth a task each. */
  bounds(table: T): Promise<NonNullable<QueryOffset['bounds']>>;
}

export interface Statement extends PageLimits {
  readonly topic: string;
  readonly cursor: Cursor;
  /** The whole of it, but for what it selects: the fields of the table and then `cursor`. */
  sql(fields: readonly string[]): string;
}

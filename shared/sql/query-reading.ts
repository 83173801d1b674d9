import type { Budget, Offsets, Partition, Poll } from '../connect/connector.ts';
import type { QueryConfig, QueryOffset } from '../connect/query-config.ts';
import { readPage } from './query-page.ts';
import { toPoll } from './query-poll.ts';
import type { QuerySource } from './query-position.ts';
import type { QueryReader } from './query-reader.ts';
import { conditionsOf, selectOf } from './query-statement.ts';
import type { QueryTable } from './query-table.ts';

/** A task that reads by queries. */
export interface Reading<T extends QueryTable = QueryTable> {
  readonly config: QueryConfig;
  readonly reader: QueryReader<T>;
  readonly incarnation: string;
  readonly task: number;
  /** So many read each table. */
  readonly tasks: number;
}

/** What there is to read, as a run has found it. */
export interface Looked<T extends QueryTable> {
  readonly identity: string;
  readonly sources: readonly QuerySource<T>[];
}

/** How a mode reads. */
export interface Mode<T extends QueryTable> {
  poll(looked: Looked<T>, offsets: Offsets<QueryOffset>, budget: Budget): Promise<Poll<QueryOffset>>;
  more(looked: Looked<T>, offsets: Offsets<QueryOffset>): Promise<boolean | 'waits'>;
}

/** Rows of a table that are read one after the other: behind their offset, up to and with the values `to`. */
export interface Slice<T extends QueryTable = QueryTable> {
  readonly source: QuerySource<T>;
  readonly partition: Partition;
  readonly from: QueryOffset;
  /** Left out: as far as the mode reads. */
  readonly to?: readonly string[] | undefined;
}

/** The next page. `ends`: where it is the last one, that all is read is committed with it. */
export const pollSlice = async <T extends QueryTable>(
  { config, reader }: Reading<T>,
  slice: Slice<T>,
  budget: Budget,
  ends: boolean,
): Promise<Poll<QueryOffset>> => {
  const { source, from, to } = slice;
  const { table, cursor, topic } = source;
  // Rows without a key have no place between them: where one was read, all were.
  if (cursor.parts.length === 0 && from.after !== null) return toPoll(slice, undefined, ends);
  const conditions = conditionsOf(cursor, { after: from.after, to }, reader.dialect);
  const page = await readPage(table, cursor, budget, source.rowBytes, (limits) =>
    reader.rows(table, {
      ...{ ...limits, topic, cursor },
      sql: (fields) => selectOf(table, fields, cursor, config, conditions, limits.maxRows),
    }),
  );
  if (page.rows.count > 0) source.rowBytes = Math.max(1, page.rows.bytes / page.rows.count);
  return toPoll(slice, page, ends);
};

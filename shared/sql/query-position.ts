import type { Partition } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import type { QueryConfig, QueryOffset } from '../connect/query-config.ts';
import { topicOf } from '../connect/table-names.ts';
import { type Cursor, cursorOf, type Dialect, filterOf } from './query-statement.ts';
import { nameOf, type QueryTable } from './query-table.ts';

/** A table or a query that is read, and where its records go. */
export interface QuerySource<T extends QueryTable = QueryTable> {
  readonly table: T;
  readonly cursor: Cursor;
  readonly partition: Partition;
  readonly topic: string;
  /** Of one row, about; unknown before the first. */
  rowBytes?: number;
  /** The stored offset behind which this run has found nothing more. */
  doneAt?: string | undefined;
}

export const sourceOf = <T extends QueryTable>(table: T, config: QueryConfig, dialect: Dialect): QuerySource<T> => {
  const { topicPrefix } = config;
  const topic = topicOf(config, nameOf(table));
  const partition: Partition =
    table.name === undefined ? { server: topicPrefix, query: topic } : { server: topicPrefix, table: table.name };
  return { table, cursor: cursorOf(table, config, dialect), partition, topic };
};

/** How the offset of a source begins, before the first of its rows. */
export const freshOffset = ({ cursor }: QuerySource, identity: string, config: QueryConfig): QueryOffset => {
  const filter = filterOf(config);
  return {
    ...{ server: identity, mode: config.mode, by: cursor.by, after: null },
    ...(filter === undefined ? {} : { filter }),
  };
};

/** Invariant 7: an offset says where rows go on only on the same server, in the same order, of the same rows. */
export const requireOurs = (
  stored: QueryOffset,
  { server, mode, by, filter }: QueryOffset,
  { table, cursor }: QuerySource,
): QueryOffset => {
  const lost = (what: string, back: string) =>
    new ConnectError(
      'LOST_POSITION',
      `${nameOf(table)}: ${what}. ${back}, reset the offsets to read all rows again (sluice offsets reset), or set one that fits (sluice offsets set)`,
    );
  if (stored.server !== server)
    throw lost(
      `the offset is of server ${stored.server}, and this is ${server}`,
      `Connect to that server; if this one has the same rows (it took over from the other), set the offset with server ${server}`,
    );
  if (stored.mode !== mode) throw lost(`the offset is of mode ${stored.mode}, and mode is ${mode}`, 'Set it back');
  if (stored.by !== by || (stored.after !== null && stored.after.length !== cursor.parts.length))
    throw lost(`the offset is one of the order by ${stored.by}, and rows are read by ${by}`, 'Set the columns back');
  if (stored.filter !== filter)
    throw lost('`where` or `query` was another when the offset was stored, and chose other rows', 'Set it back');
  return stored;
};

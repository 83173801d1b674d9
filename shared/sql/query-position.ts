import type { Offsets, Partition } from '../connect/connector.ts';
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
  /** bulk: this task has read of it, or seen that it had just ended. */
  isKnown?: boolean;
}

export const sourceOf = <T extends QueryTable>(table: T, config: QueryConfig, dialect: Dialect): QuerySource<T> => {
  const { topicPrefix } = config;
  const topic = topicOf(config, nameOf(table));
  const partition: Partition =
    table.name === undefined ? { server: topicPrefix, query: topic } : { server: topicPrefix, table: table.name };
  return { table, cursor: cursorOf(table, config, dialect), partition, topic };
};

/** How long bulk rests when all is read: a trigger that comes twice reads once. Those of several tasks come one after the other. */
const bulkRestMs = (tasks: number): number => (tasks === 1 ? 1_000 : 30_000);

/**
 * Where a table is read from; undefined where there is nothing to read now. A bulk that has ended begins again with the first run after its
 * rest, and never in a task that has read of it: however long its last rows take to be written, it does not wake itself for ever
 * (invariant 9).
 */
export const positionOf = (
  source: QuerySource,
  offsets: Offsets<QueryOffset>,
  { identity, config, tasks }: { readonly identity: string; readonly config: QueryConfig; readonly tasks: number },
): QueryOffset | undefined => {
  const { mode } = config;
  const stored = offsets.get(source.partition);
  const filter = filterOf(config);
  const fresh = { server: identity, mode, by: source.cursor.by, ...(filter === undefined ? {} : { filter }) };
  // The end of a bulk is no position: the next one reads all rows, whichever they are.
  if (mode === 'bulk' && stored?.mode === mode && stored.endedMs !== undefined) {
    if (Date.now() - stored.endedMs < bulkRestMs(tasks)) source.isKnown = true;
    return source.isKnown === true ? undefined : { ...fresh, after: null, run: nextRun(source, offsets) };
  }
  if (stored !== undefined) requireOurs(stored, fresh, source);
  return stored ?? { ...fresh, after: null, ...(mode === 'bulk' ? { run: nextRun(source, offsets) } : {}) };
};

/** Ranges of the last run are left where an operator took the table's own offset away: they are not those of this one. */
const nextRun = ({ partition, table }: QuerySource, offsets: Offsets<QueryOffset>): number => {
  let last = offsets.get(partition)?.run ?? 0;
  for (const { partition: of, offset } of offsets.all())
    if (of.range !== undefined && of.table === table.name && of.server === partition.server)
      last = Math.max(last, offset.run ?? 0);
  return last + 1;
};

/** Invariant 7: an offset says where rows go on only on the same server, in the same order, of the same rows. */
const requireOurs = (
  stored: QueryOffset,
  { server, mode, by, filter }: Pick<QueryOffset, 'server' | 'mode' | 'by' | 'filter'>,
  { table, cursor }: QuerySource,
): void => {
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
};

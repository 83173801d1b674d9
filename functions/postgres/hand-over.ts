import type { Partition } from '../../shared/connect/connector.ts';
import { emptiedWhileRepaired, type Repaired } from '../../shared/sql/repair.ts';
import { isSeen, isTruncateSeen, type RangeOffset } from '../../shared/sql/snapshot.ts';
import type { View } from './cdc-offset.ts';
import { parseLsn, type Slots, type Transaction } from './pgoutput.ts';
import { lost } from './slot.ts';
import type { TableLayout } from './table-layout.ts';
import { isVisible, parseXids } from './visibility.ts';

/** The views that rows of a table were read in, in the order of its key. */
export type TableViews = RangeOffset<View>['views'];

/** Whether the row of a change was read with the change in it. No tuple: the table was emptied. */
export type Seen = (layout: TableLayout, page: Buffer, tuple: Slots | undefined) => boolean;

/** What the rows of a snapshot were read with, by transaction; undefined: with nothing of it. */
export type SeenIn = (transaction: Transaction) => Seen | undefined;

/** What is known of a table whose rows were read. */
export interface ReadTable {
  readonly views: TableViews;
  /** Name of the first column of the key in whose order they were. */
  readonly firstOfKey: string | undefined;
  readonly repaired?: Repaired<View> | undefined;
  /** Behind the last of those views. */
  readonly repairedTo?: bigint;
}

export const latest = (lsns: readonly bigint[]): bigint => lsns.toSorted((a, b) => (a < b ? 1 : -1))[0] ?? 0n;

/** From here on no change is one that rows were read with. */
export const passedAt = (views: TableViews): bigint => latest(views.map(({ view }) => parseLsn(view.lsn)));

/** Transactions of another timeline are others, also where their ids are the same: what rows were read with may never have happened. */
export const requireOneHistory = (table: string, views: TableViews, timeline: number): void => {
  const other = views.find(({ view }) => view.timeline !== timeline);
  if (other !== undefined)
    throw lost(
      `rows of ${table} were read on timeline ${other.view.timeline}, and the server went to ${timeline} (a failover or a restore) before the changes since then were`,
    );
};

/**
 * Tells the changes that the rows of a snapshot hold already: by what was visible when its row was read, and not by where it stands in
 * the log, because a commit is there before it is visible (hazard D1). Behind the last view it costs nothing.
 */
export const createHandOver = (stream: Partition, tables: ReadonlyMap<string, ReadTable>): SeenIn => {
  const parsed = new Map(
    Array.from(tables, ([name, table]) => [
      name,
      { ...table, visible: table.views.map(({ view }) => parseXids(view.xids)) },
    ]),
  );
  const passed = latest(
    Array.from(tables.values(), ({ views, repairedTo = 0n }) => latest([passedAt(views), repairedTo])),
  );
  return ({ lsn, xid }) => {
    if (lsn >= passed) return undefined;
    const seenOf = new Map<TableLayout, readonly boolean[]>();
    return (layout, page, tuple) => {
      const name = `${layout.relation.schema}.${layout.relation.table}`;
      const table = parsed.get(name);
      if (table === undefined) return false;
      const key = integerOf(layout, page, tuple, table.firstOfKey);
      const again = key === undefined ? undefined : table.repaired?.of(key);
      const hasSeen = ({ xids }: View) => isVisible(parseXids(xids), xid);
      if (again !== undefined && hasSeen(again)) return true;
      if (tuple === undefined && table.repaired?.views.some(hasSeen) === true)
        throw emptiedWhileRepaired({ stream, table: name });
      if (table.views.length === 0) return false;
      let seen = seenOf.get(layout);
      if (seen === undefined) {
        seen = table.visible.map((visible) => isVisible(visible, xid));
        seenOf.set(layout, seen);
      }
      if (tuple === undefined) return isTruncateSeen(name, seen);
      return isSeen(table.views, seen, key);
    };
  };
};

/** The value of a column where it is an integer that was told. */
const integerOf = (
  { fields }: TableLayout,
  page: Buffer,
  tuple: Slots | undefined,
  name: string | undefined,
): bigint | undefined => {
  const field = fields.find((one) => one.name === name);
  if (field === undefined || tuple === undefined) return undefined;
  const start = tuple[2 * field.index]!;
  const { reading } = field.type;
  if (start < 0 || (reading !== 'integer' && reading !== 'int64')) return undefined;
  return BigInt(page.toString('latin1', start, tuple[2 * field.index + 1]));
};

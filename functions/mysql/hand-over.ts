import type { Partition } from '../../shared/connect/connector.ts';
import { emptiedWhileRepaired, type Repaired } from '../../shared/sql/repair.ts';
import { isSeen, isTruncateSeen, type RangeOffset } from '../../shared/sql/snapshot.ts';
import { type BinlogPlace, gtidSetOf } from './binlog.ts';

/**
 * Tells the changes that the rows of a snapshot hold already: a change is one of them where it was visible in the view that its row
 * was read in, wherever it stands in the log (hazard D1: a change is in the log before it is visible).
 */
export interface HandOver {
  /** By the GTID of a change, and then by the first column of its key where that is an integer; undefined where no row was read with it. */
  seenOf(table: string, gtid: string | undefined): ((firstOfKey: number | bigint | undefined) => boolean) | undefined;
  /** Whether the rows were all read after the table was emptied by the transaction of this GTID. */
  isTruncateSeen(table: string, gtid: string | undefined): boolean;
}

type Views = RangeOffset<BinlogPlace>['views'];

type RepairedRows = Repaired<BinlogPlace> | undefined;

const passedOver = () => true;

/**
 * What `viewsOf` and `repairedIn` say of a table does not change any more. Of a table that is not read yet every change is passed over:
 * its rows are to be read in views that have all of them.
 */
export const createHandOver = (
  stream: Partition,
  viewsOf: (table: string) => Views,
  repairedIn: (table: string) => RepairedRows = () => undefined,
  isRead: (table: string) => boolean = () => true,
): HandOver => {
  const known = new Map<string, Views>();
  const viewsOnce = (table: string): Views => {
    const views = known.get(table) ?? viewsOf(table);
    known.set(table, views);
    return views;
  };
  const hasSeen = ({ gtids }: BinlogPlace, gtid: string) => gtids !== undefined && gtidSetOf(gtids).has(gtid);
  const seenBy = (table: string, gtid: string) => viewsOnce(table).map(({ view }) => hasSeen(view, gtid));
  const repairs = new Map<string, RepairedRows>();
  const repairedOnce = (table: string): RepairedRows => {
    if (!repairs.has(table)) repairs.set(table, repairedIn(table));
    return repairs.get(table);
  };
  return {
    isTruncateSeen(table, gtid) {
      if (!isRead(table)) return true;
      if (gtid === undefined) return false;
      if (repairedOnce(table)?.views.some((view) => hasSeen(view, gtid))) throw emptiedWhileRepaired({ stream, table });
      return isTruncateSeen(table, seenBy(table, gtid));
    },
    seenOf(table, gtid) {
      if (!isRead(table)) return passedOver;
      if (gtid === undefined) return undefined;
      const views = viewsOnce(table);
      const seen = seenBy(table, gtid);
      const repaired = repairedOnce(table);
      const isRepaired = (key: number | bigint | undefined) => {
        const view = key === undefined ? undefined : repaired?.of(key);
        return view !== undefined && hasSeen(view, gtid);
      };
      if (!seen.includes(true)) return repaired === undefined ? undefined : isRepaired;
      return (firstOfKey) => isSeen(views, seen, firstOfKey) || isRepaired(firstOfKey);
    },
  };
};

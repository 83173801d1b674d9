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

/** `viewsOf` a table does not change any more. */
export const createHandOver = (viewsOf: (table: string) => Views): HandOver => {
  const known = new Map<string, Views>();
  const viewsOnce = (table: string): Views => {
    const views = known.get(table) ?? viewsOf(table);
    known.set(table, views);
    return views;
  };
  const seenBy = (views: Views, gtid: string) =>
    views.map(({ view }) => view.gtids !== undefined && gtidSetOf(view.gtids).has(gtid));
  return {
    isTruncateSeen: (table, gtid) => gtid !== undefined && isTruncateSeen(table, seenBy(viewsOnce(table), gtid)),
    seenOf(table, gtid) {
      const views = viewsOnce(table);
      if (views.length === 0 || gtid === undefined) return undefined;
      const seen = seenBy(views, gtid);
      if (seen.every((one) => !one)) return undefined;
      return (firstOfKey) => isSeen(views, seen, firstOfKey);
    },
  };
};

import type { Value } from '../../shared/connect/schema.ts';
import { isSeen, type RangeOffset } from '../../shared/sql/snapshot.ts';
import { type BinlogPlace, gtidSetOf } from './binlog.ts';
import type { RowSchema } from './row-schema.ts';

/**
 * Tells the changes that the rows of a snapshot hold already: a change is one of them where it was visible in the view that its row
 * was read in, wherever it stands in the log (hazard D1: a change is in the log before it is visible).
 */
export interface HandOver {
  /** By the GTID of a change; undefined where no row was read with it. */
  seenOf(table: string, gtid: string | undefined): ((schema: RowSchema, key: Value) => boolean) | undefined;
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
  return {
    seenOf(table, gtid) {
      const views = viewsOnce(table);
      if (views.length === 0 || gtid === undefined) return undefined;
      const seen = views.map(({ view }) => view.gtids !== undefined && gtidSetOf(view.gtids).has(gtid));
      if (seen.every((one) => !one)) return undefined;
      return ({ keyColumns: [first] }, key) =>
        isSeen(views, seen, first && (key as { readonly [name: string]: Value } | null)?.[first.name]);
    },
  };
};

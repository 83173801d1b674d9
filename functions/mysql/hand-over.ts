import type { Value } from '../../shared/connect/schema.ts';
import { gtidSetOf } from './binlog.ts';
import type { TableOffset } from './cdc-config.ts';
import type { RowSchema } from './row-schema.ts';

/**
 * Tells the changes that the rows of a snapshot hold already: a change is one of them where it was visible in the view that its row
 * was read in, wherever it stands in the log (hazard D1: a change is in the log before it is visible).
 */
export interface HandOver {
  /** By the GTID of a change; undefined where no row was read in a view. */
  seenOf(table: string, gtid: string | undefined): ((schema: RowSchema, key: Value) => boolean) | undefined;
}

type Views = TableOffset['views'];

export const createHandOver = (viewsOf: (table: string) => Views | undefined): HandOver => ({
  seenOf(table, gtid) {
    const views = viewsOf(table);
    if (views === undefined || views.length === 0 || gtid === undefined) return undefined;
    const seen = views.map(({ place }) => place.gtids !== undefined && gtidSetOf(place.gtids).has(gtid));
    if (seen.every((one) => !one)) return undefined;
    if (seen.every((one) => one)) return () => true;
    // The views are in their order, so the later ones have seen more.
    return (schema, key) => seen[viewOf(views, schema, key)]!;
  },
});

/** The view that the row of a key was read in; the first one where only the server knows the order of such keys. */
const viewOf = (views: Views, { keyColumns }: RowSchema, key: Value): number => {
  const [first] = keyColumns;
  const value = first && key !== null ? (key as { readonly [name: string]: Value })[first.name] : undefined;
  if (typeof value !== 'number' && typeof value !== 'bigint') return 0;
  // A key that begins like the one after which a view begins may be before it.
  return Math.max(
    0,
    views.findLastIndex(({ after }) => after === null || BigInt(value) > BigInt(after[0]!)),
  );
};

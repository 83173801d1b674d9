import { segmentSk } from '../../shared/state/keys.ts';
import type { Item, Table } from '../../shared/state/table.ts';

/** Segments of a queue, with the whole items. */
export const segmentItems = (table: Table, queue: string): Promise<readonly Item[]> =>
  table.query(`log#${queue}`, { to: segmentSk(Number.MAX_SAFE_INTEGER) });

/**
 * Removes what has ended, as TTL does: late, in any order, and some not yet. `isTaken`: whether this one goes now. Returns what went.
 */
export const removeEnded = async (
  table: Table,
  queue: string,
  nowMs: number,
  isTaken: () => boolean = () => true,
): Promise<readonly Item[]> => {
  const ended = (await segmentItems(table, queue)).filter(({ expires }) => Number(expires) * 1000 <= nowMs);
  const gone = ended.filter(isTaken);
  for (const { pk, sk } of gone) await table.write([{ delete: { pk, sk } }]);
  return gone;
};

/** Removes the objects whose class has ended, as the bucket's lifecycle does. */
export const removeEndedObjects = (stored: Map<string, Uint8Array>, nowMs: number): void => {
  for (const name of stored.keys()) {
    const [, days, date] = /^r(\d+)\/[^/]+\/([\d-]+)\//.exec(name)!;
    if (Date.parse(date!) + Number(days) * 86_400_000 <= nowMs) stored.delete(name);
  }
};

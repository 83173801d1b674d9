import { segmentsFrom } from '../../shared/log/start.ts';
import type { Log } from '../../shared/runtime/run.ts';
import { keptKey } from '../../shared/state/keys.ts';
import type { Item, Table, Write } from '../../shared/state/table.ts';
import type { Unread } from './unread.ts';

/** What ends within half of its retention is kept, and within this at least: many sweeps may fail before it is too late. */
const soonestMs = 5 * 60_000;

/** One transaction each. A queue with more than this to keep is gone on with by the next sweep, a minute later. */
const pageSize = 100;
const pagesPerSweep = 100;

/**
 * Keeps what a subscriber has not read past its topic's retention, up to its cap: the end of a segment is moved there once, before it
 * comes. `retainedUntil` says when the retention ended: a new reader begins after that, as if nothing had been kept. Returns what an
 * operator must know: readers that have used half of the time to the cap, and what is gone. Costs two reads per queue that has something
 * to keep, and a write per segment in its life.
 */
export const keepUnread = async (
  table: Table,
  unread: readonly Unread[],
  nowMs: number,
  log: Log,
  pages = pagesPerSweep,
): Promise<readonly string[]> => {
  const alarms: string[] = [];
  // What ends first, first: a sweep that is cut short has kept what could not wait.
  for (const queue of unread.toSorted((a, b) => endOf(a) - endOf(b))) {
    const { partition, segment, base, readers, retentionMs } = queue;
    const who = `${readers.join(', ')} ${readers.length === 1 ? 'has' : 'have'}`;
    const where = `topic ${partition.topic}, queue ${partition.queue} of generation ${partition.generation}`;
    if (segment === undefined || Number(segment.sk) !== base)
      alarms.push(
        `${where}: what ${who} not read is gone, from ${base} on: go on from what is left with \`sluice offsets reset\`, or remove the reader`,
      );
    else if (isPastHalf(segment, nowMs))
      alarms.push(
        `${where}: ${who} not read from ${base} on, which is kept until ${new Date(Number(segment.cap) * 1000).toISOString()} and then lost: start the reader or remove it`,
      );
    const soonMs = nowMs + Math.max(retentionMs / 2, soonestMs);
    if (segment === undefined || endsLate(segment, soonMs)) continue;
    try {
      await keepQueue(table, partition, Number(segment.sk), soonMs, pages);
    } catch (thrown) {
      // The next sweep tries again, and there are many until it is too late.
      log('error', `${where}: what is unread could not be kept: ${(thrown as Error).message}`);
    }
  }
  return alarms;
};

const endOf = ({ segment }: Unread): number => Number(segment?.expires ?? 0);

/** One that is kept is not late: behind it others may end sooner. */
const endsLate = ({ expires, retainedUntil }: Item, soonMs: number): boolean =>
  retainedUntil === undefined && Number(expires) * 1000 > soonMs;

const isPastHalf = ({ retainedUntil, cap }: Item, nowMs: number): boolean =>
  retainedUntil !== undefined && nowMs / 1000 > (Number(retainedUntil) + Number(cap)) / 2;

/** From the oldest unread segment on, page by page, until one ends late enough. What was kept before is not read again. */
const keepQueue = async (
  table: Table,
  partition: Unread['partition'],
  base: number,
  soonMs: number,
  pages: number,
): Promise<void> => {
  const key = keptKey(partition.topic, partition.generation, partition.queue);
  const kept = await table.get(key);
  const isOurs = kept !== undefined && Number(kept.from) <= base && base <= Number(kept.to);
  let to = isOurs ? Number(kept.to) : base;
  const begin = to;
  for (let page = 0; page < pages; page++) {
    const segments = await segmentsFrom(table, partition, to, pageSize);
    const late = segments.findIndex((segment) => endsLate(segment, soonMs));
    const ending = late === -1 ? segments : segments.slice(0, late);
    await keepSegments(table, ending);
    const last = ending.at(-1);
    if (last !== undefined) to = Number(last.sk) + Number(last.count);
    if (ending.length < pageSize) break;
  }
  if (to > begin) await table.write([{ put: { ...key, from: isOurs ? Number(kept.from) : base, to } }]);
};

/** All that can be kept, in one transaction. One that retention removed meanwhile is gone: the others are kept without it. */
const keepSegments = async (table: Table, segments: readonly Item[]): Promise<void> => {
  // A segment without a cap was written by a release whose objects do not live longer.
  let writes = segments.filter(({ cap, expires }) => cap !== undefined && Number(cap) > Number(expires)).map(keep);
  while (writes.length > 0) {
    const result = await table.write(writes);
    if (result.ok) return;
    const failed = new Set(result.failed.map(({ index }) => index));
    writes = writes.filter((_, index) => !failed.has(index));
  }
};

/** Only where it is as it was read: what was removed meanwhile must not come back as an item without a body. */
const keep = ({ pk, sk, expires, cap }: Item): Write => ({
  update: { pk, sk },
  set: { expires: cap!, retainedUntil: expires! },
  when: { expires: expires! },
});

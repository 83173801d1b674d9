import { emptyBatch, freeGroup, gatherBatch, sliceBatch } from '../connect/batch.ts';
import type { RecordInput } from '../connect/build.ts';
import { movedBytes, type Poll, type RejectedSourceRecord } from '../connect/connector.ts';
import { type Control, controlRecord } from '../connect/control.ts';
import type { QueryOffset } from '../connect/query-config.ts';
import { cursorOfRow, type Page } from './query-page.ts';
import type { QuerySource } from './query-position.ts';
import type { Slice } from './query-reading.ts';
import { nameOf } from './query-table.ts';

export const noPoll: Poll<QueryOffset> = {
  batch: emptyBatch,
  position(index) {
    throw new RangeError(`record ${index} of none`);
  },
  offsets: [],
  caughtUp: true,
};

/** A page as a poll. `ends`: where it is the last one, that all is read is committed with it. */
export const toPoll = (
  { source: { topic, table, cursor }, partition, from }: Slice,
  page: Page | undefined,
  ends: boolean,
): Poll<QueryOffset> => {
  const { rows, count, isLast, batch } = page ?? { rows: undefined, count: 0, isLast: true, batch: emptyBatch };
  const offsetAt = (row: number): QueryOffset => ({ ...from, after: cursorOfRow(rows!, row, cursor, table) });
  const last = count === 0 ? from : offsetAt(count - 1);
  const isEnd = isLast && ends;
  const refused = [...(rows?.refused ?? [])].filter(([row]) => row < count).sort(([a], [b]) => a - b);
  const bad = new Set(refused.map(([row]) => row));
  const good = Uint32Array.from({ length: count }, (_, row) => row).filter((row) => !bad.has(row));
  const rejected = refused.map(
    ([row, error], i): RejectedSourceRecord<QueryOffset> => ({
      ...{ index: row - i, error, raw: rows!.raw(row) },
      ...{ topic, partition, offset: offsetAt(row) },
    }),
  );
  return {
    batch: bad.size === 0 ? sliceBatch(batch, 0, count) : gatherBatch(batch, good),
    position: (index) => ({ partition, offset: offsetAt(good[index]!) }),
    offsets: count > 0 || isEnd ? [{ partition, offset: isEnd ? { ...last, endedMs: Date.now() } : last }] : [],
    caughtUp: isLast,
    // That all is read is worth a commit, even where the last page has no row: else it would begin again.
    ...(isEnd ? { moved: movedBytes } : {}),
    ...(rejected.length === 0 ? {} : { rejected }),
    ...(rows === undefined ? {} : { release: () => freeGroup(rows.group) }),
  };
};

/** The same however often the run is begun: its offset says it. */
export const runName = ({ table }: QuerySource, incarnation: string, { run, to }: QueryOffset): string =>
  [incarnation, nameOf(table), run, ...(to ?? [])].join('/');

/** The begin of a run or its end. */
export const runRecord = (
  source: QuerySource,
  incarnation: string,
  event: 'begin' | 'end',
  offset: QueryOffset,
): RecordInput => {
  const run = runName(source, incarnation, offset);
  const control: Control =
    event === 'begin'
      ? { event, run, scope: offset.mode === 'bulk' ? 'replace' : 'merge' }
      : { event, run, records: undefined };
  return controlRecord(source.topic, control);
};

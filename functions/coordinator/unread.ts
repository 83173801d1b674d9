import { segmentsFrom } from '../../shared/log/start.ts';
import type { ConnectorState, LaneState } from '../../shared/management/status.ts';
import type { Item, Table } from '../../shared/state/table.ts';

/** A queue that some subscriber has not read to its end: what the log has to keep. */
export interface Unread {
  readonly partition: LaneState['partition'];
  readonly retentionMs: number;
  /** The base of the oldest segment that somebody has not read, and who that is. */
  readonly base: number;
  readonly readers: readonly string[];
  /** That segment; if it is gone, the first one after it; if nothing is left, undefined. */
  readonly segment?: Item;
  /** Uncompressed, from that segment to the head. */
  readonly bytes: number;
}

/** Costs one read per queue that is behind, and nothing where everybody has caught up. */
export const findUnread = async (table: Table, states: readonly ConnectorState[]): Promise<readonly Unread[]> => {
  const behind = states.flatMap(({ row, lanes = [] }) =>
    lanes.filter(({ offset, next }) => offset.base < next).map((lane) => ({ ...lane, reader: row.name })),
  );
  const queues = Map.groupBy(behind, ({ partition: p }) => `${p.topic}#${p.generation}#${p.queue}`);
  return Promise.all(
    [...queues.values()].map(async (lanes) => {
      const { partition, retentionMs } = lanes[0]!;
      const base = Math.min(...lanes.map(({ offset }) => offset.base));
      const readers = lanes.filter(({ offset }) => offset.base === base).map(({ reader }) => reader);
      const [segment] = await segmentsFrom(table, partition, base, 1);
      const end = Math.max(...lanes.map(({ bytes }) => bytes));
      const bytes = segment === undefined ? 0 : end - Number(segment.bytesBefore ?? 0);
      return { partition, retentionMs, base, readers, bytes, ...(segment === undefined ? {} : { segment }) };
    }),
  );
};

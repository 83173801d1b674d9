import { segmentsFrom } from '../../shared/log/start.ts';
import type { ConnectorState, LaneState } from '../../shared/management/status.ts';
import type { Log } from '../../shared/runtime/run.ts';
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

/**
 * Costs one read per queue that is behind, and nothing where everybody has caught up. A queue that can't be read now is left to the next
 * sweep: the others are kept without it.
 */
export const findUnread = async (
  table: Table,
  states: readonly ConnectorState[],
  log: Log,
): Promise<readonly Unread[]> => {
  const behind = states.flatMap(({ row, lanes = [] }) =>
    lanes.filter(({ offset, next }) => offset.base < next).map((lane) => ({ ...lane, reader: row.name })),
  );
  const queues = Map.groupBy(behind, ({ partition: p }) => `${p.topic}#${p.generation}#${p.queue}`);
  const found = [...queues].map(async ([name, lanes]) => {
    try {
      return [await oldestUnread(table, lanes)];
    } catch (thrown) {
      log('error', `what is unread of ${name} could not be read: ${(thrown as Error).message}`);
      return [];
    }
  });
  return (await Promise.all(found)).flat();
};

const oldestUnread = async (
  table: Table,
  lanes: readonly (LaneState & { readonly reader: string })[],
): Promise<Unread> => {
  const { partition, retentionMs } = lanes[0]!;
  const base = Math.min(...lanes.map(({ offset }) => offset.base));
  const readers = lanes.filter(({ offset }) => offset.base === base).map(({ reader }) => reader);
  const [segment] = await segmentsFrom(table, partition, base, 1);
  const end = Math.max(...lanes.map(({ bytes }) => bytes));
  const bytes = segment === undefined ? 0 : end - Number(segment.bytesBefore ?? 0);
  return { partition, retentionMs, base, readers, bytes, ...(segment === undefined ? {} : { segment }) };
};

import {
  type OffsetCommit,
  type Partition,
  type Poll,
  partitionKey,
  pollOf,
  type SinkTask,
  type SourceTask,
  type StoredOffset,
} from '../../shared/connect/connector.ts';
import type { ConnectRecord } from '../../shared/connect/record.ts';
import { fenced } from '../../shared/state/offsets.ts';
import type { Process } from './faults.ts';

/** A record of the test world: `n` counts up per key, so that order and loss show. `pad` makes it large. */
export interface Row {
  readonly key: string;
  readonly n: number;
  readonly pad?: string;
}

export type ArrayOffset = { readonly next: number };

/** A source over arrays, one partition each. */
export const arraySource = (
  partitions: ReadonlyMap<string, readonly Row[]>,
  topic: string,
  onCommit: (partition: string, next: number) => Promise<void> = async () => {},
): SourceTask<ArrayOffset> => ({
  async poll(offsets, budget): Promise<Poll<ArrayOffset>> {
    const records = [];
    let left = budget.maxRecords;
    let caughtUp = true;
    for (const [name, rows] of partitions) {
      const partition: Partition = { name };
      const from = offsets.get(partition)?.next ?? 0;
      const taken = rows.slice(from, from + left);
      left -= taken.length;
      if (from + taken.length < rows.length) caughtUp = false;
      for (const [i, { key, n, pad = '' }] of taken.entries())
        records.push({ topic, key, value: { key, n, pad }, partition, offset: { next: from + i + 1 } });
    }
    return pollOf(records, { caughtUp });
  },
  async commit(positions) {
    for (const { partition, offset } of positions) await onCommit(String(partition.name), offset.next);
  },
  close: async () => {},
});

/** The same, able to say whether there is more: such a source is not polled before the lease is held. */
export const askedSource = (
  partitions: ReadonlyMap<string, readonly Row[]>,
  topic: string,
): SourceTask<ArrayOffset> => ({
  ...arraySource(partitions, topic),
  more: async (offsets) => [...partitions].some(([name, rows]) => rows.length > (offsets.get({ name })?.next ?? 0)),
});

export const rowOf = (record: ConnectRecord): Row => {
  const { key, n } = record.value as unknown as Row;
  return { key, n };
};

/** A destination that keeps its own offsets: rows and offsets change in one step, or not at all. */
export const owningDestination = () => {
  const rows: Row[] = [];
  const offsets = new Map<string, StoredOffset>();
  const orders = new Set<string>();
  const commit = (commits: readonly OffsetCommit[]): boolean => {
    if (commits.some((c) => offsets.get(c.key)?.writeId === c.writeId)) return false;
    const stale = commits.find((c) => (offsets.get(c.key)?.seq ?? 0) !== c.seq);
    if (stale !== undefined) throw fenced(stale, offsets.get(stale.key)?.seq);
    for (const { key, partition, offset, seq, writeId } of commits)
      offsets.set(key, { key, partition, offset, seq: seq + 1, writeId });
    return true;
  };
  const sink = (): SinkTask => ({
    async put(batch, context) {
      const added = [...batch].map(rowOf);
      if (commit(context.offsets)) rows.push(...added);
      return { committed: true };
    },
    offsets: async () => structuredClone([...offsets.values()]),
    async reset(id, positions) {
      if (orders.has(id)) return;
      orders.add(id);
      for (const { partition, offset } of positions) {
        const key = partitionKey(partition);
        offsets.set(key, { key, partition, offset, seq: (offsets.get(key)?.seq ?? 0) + 1, writeId: id });
      }
    },
    close: async () => {},
  });
  /** As it is now; what it returns brings that back, as a failover or a backup does. */
  const backup = () => {
    const kept = { rows: [...rows], offsets: [...offsets] };
    return () => {
      rows.splice(0, rows.length, ...kept.rows);
      offsets.clear();
      for (const [key, offset] of kept.offsets) offsets.set(key, offset);
    };
  };
  return { rows, sink, backup };
};

/** A destination that can't join the commit: it keeps every record in the order of arrival. */
export const appendingDestination = () => {
  const rows: Row[] = [];
  const sink = (): SinkTask => ({
    async put(batch) {
      rows.push(...[...batch].map(rowOf));
      return { committed: false };
    },
    close: async () => {},
  });
  return { rows, sink };
};

/** A destination that can't join the commit: each record is written by itself, the last write of a key stays. */
export const keyedDestination = () => {
  const last = new Map<string, number>();
  const sink = ({ op }: Process): SinkTask => ({
    async put(batch) {
      for (const record of batch) {
        const { key, n } = rowOf(record);
        await op(`write ${key}`, async () => last.set(key, n));
      }
      return { committed: false };
    },
    close: async () => {},
  });
  return { last, sink };
};

/** A destination with two phases: what is staged is invisible until it is promoted. */
export const stagedDestination = () => {
  const staged = new Map<string, readonly Row[]>();
  const visible = new Map<string, readonly Row[]>();
  let attempts = 0;
  const promote = (id: string): void => {
    const rows = staged.get(id);
    if (rows === undefined) return;
    visible.set(id, rows);
    staged.delete(id);
  };
  const sink = ({ op }: Process): SinkTask => ({
    async put(batch, context) {
      if (batch.count === 0) return { committed: false };
      const id = `attempt-${attempts++}`;
      await op('stage', async () => staged.set(id, [...batch].map(rowOf)));
      await context.commit({ id, data: { id } });
      await op('rename', async () => promote(id));
      return { committed: true };
    },
    promote: async ({ id }) => promote(id),
    close: async () => {},
  });
  return { rows: () => [...visible.values()].flat(), sink };
};

import {
  type OffsetCommit,
  type Offsets,
  type Position,
  partitionKey,
  type StoredOffset,
} from '../connect/connector.ts';

/**
 * Where a run stands in each partition: what is committed (with `seq`), and what the polls so far will have committed when their
 * batches are. Polling runs ahead of committing; a run that fails forgets both.
 */
export interface Ledger {
  /** What the next poll resumes after. */
  readonly polled: Offsets<unknown>;
  /** A poll went this far. */
  advance(positions: readonly Position<unknown>[]): void;
  commitsFor(positions: readonly Position<unknown>[], writeId: string): readonly OffsetCommit[];
  committed(commits: readonly OffsetCommit[]): void;
  /** As committed, for the idle cache of offsets that a destination owns. */
  stored(): readonly StoredOffset[];
}

export const createLedger = (offsets: readonly StoredOffset[]): Ledger => {
  const done = new Map(offsets.map((stored) => [stored.key, stored]));
  // An operator's null means from the beginning: to a source, a partition without an offset.
  const ahead = new Map<string, Position<unknown>>(
    offsets.filter(({ offset }) => offset !== null).map((stored) => [stored.key, stored]),
  );
  return {
    polled: {
      get: (partition) => ahead.get(partitionKey(partition))?.offset,
      all: () => ahead.values(),
    },
    advance(positions) {
      for (const { partition, offset } of positions) ahead.set(partitionKey(partition), { partition, offset });
    },
    commitsFor: (positions, writeId) =>
      positions.map(({ partition, offset }) => {
        const key = partitionKey(partition);
        return { key, partition, offset, seq: done.get(key)?.seq ?? 0, writeId };
      }),
    committed(commits) {
      for (const { key, partition, offset, seq, writeId } of commits)
        done.set(key, { key, partition, offset, seq: seq + 1, writeId });
    },
    stored: () => [...done.values()],
  };
};

/** Invariant 4: whether nobody has moved an offset between two strong reads. */
export const sameProgress = (before: readonly StoredOffset[], now: readonly StoredOffset[]): boolean => {
  const seqs = new Map(before.map(({ key, seq }) => [key, seq]));
  return before.length === now.length && now.every(({ key, seq }) => seqs.get(key) === seq);
};

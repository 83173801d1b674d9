import { emptyBatch, type RecordBatch, sliceBatch } from '../connect/batch.ts';
import { type Poll, type Position, partitionKey, type RejectedSourceRecord } from '../connect/connector.ts';
import { canonicalJson } from '../connect/json.ts';
import type { Value } from '../connect/schema.ts';
import { maxPartitionsPerCommit } from '../log/topics.ts';

/** Records [from, to) of a poll, with the offsets that are committed with them. Pieces are prefixes in source order. */
export interface Piece {
  readonly poll: Poll<unknown>;
  readonly batch: RecordBatch;
  readonly from: number;
  readonly to: number;
  readonly offsets: readonly Position<unknown>[];
  readonly rejected: readonly RejectedSourceRecord<unknown>[];
}

export interface PieceLimits {
  /** Partitions whose offsets one commit can hold. */
  readonly maxPartitions: number;
  /** How many records of a batch one put can take. */
  take(batch: RecordBatch): number;
}

/** Cuts a poll into pieces that one commit can hold (hazard A7). Most polls are one piece. */
export function* piecesOf(poll: Poll<unknown>, limits: PieceLimits): Generator<Piece> {
  const { batch, offsets, rejected = [] } = poll;
  if (offsets.length <= limits.maxPartitions && limits.take(batch) >= batch.count) {
    yield { poll, batch, from: 0, to: batch.count, offsets, rejected };
    return;
  }
  let from = 0;
  const settled = new Map<string, string>();
  while (from < batch.count) {
    const rest = sliceBatch(batch, from, batch.count);
    const to = from + Math.min(limits.take(rest), withinPartitions(poll, from, limits.maxPartitions));
    const piece = slicePiece(poll, from, boundaryBefore(poll, from, to));
    for (const { partition, offset } of piece.offsets)
      settled.set(partitionKey(partition), canonicalJson(offset as Value));
    yield piece;
    from = piece.to;
  }
  // What is left: offsets that moved without a record, or past the last one.
  const moved = offsets.filter(
    ({ partition, offset }) => settled.get(partitionKey(partition)) !== canonicalJson(offset as Value),
  );
  const late = rejected.filter((one) => homeOf(poll, one) >= batch.count);
  for (let at = 0; at < moved.length || (at === 0 && late.length > 0); at += limits.maxPartitions)
    yield {
      poll,
      batch: emptyBatch,
      from: batch.count,
      to: batch.count,
      offsets: moved.slice(at, at + limits.maxPartitions),
      rejected: at === 0 ? late : [],
    };
}

/** Halves a piece for bisecting; undefined where its records can't be separated. */
export const halve = (piece: Piece): readonly [Piece, Piece] | undefined => {
  const { poll, from, to } = piece;
  if (to - from < 2) return undefined;
  const middle = boundaryNear(poll, from, to, from + ((to - from) >> 1));
  if (middle === undefined) return undefined;
  const left = slicePiece(poll, from, middle);
  const right = { ...slicePiece(poll, middle, to), offsets: piece.offsets };
  return [left, { ...right, rejected: piece.rejected.filter((one) => !left.rejected.includes(one)) }];
};

const slicePiece = (poll: Poll<unknown>, from: number, to: number): Piece => ({
  poll,
  batch: sliceBatch(poll.batch, from, to),
  from,
  to,
  offsets: lastPositions(poll, from, to),
  rejected: (poll.rejected ?? []).filter((one) => homeOf(poll, one) >= from && homeOf(poll, one) < to),
});

/** The record with which a rejected one is committed: the one before it where they share an offset, else the one after it. */
const homeOf = (poll: Poll<unknown>, { index, partition, offset }: RejectedSourceRecord<unknown>): number =>
  index > 0 && samePosition(poll.position(index - 1), { partition, offset }) ? index - 1 : index;

/** Where each partition stands after records [from, to). */
const lastPositions = (poll: Poll<unknown>, from: number, to: number): readonly Position<unknown>[] => {
  const last = new Map<string, Position<unknown>>();
  for (let i = from; i < to; i++) {
    const { partition, offset } = poll.position(i);
    last.set(partitionKey(partition), { partition, offset });
  }
  return [...last.values()];
};

const withinPartitions = (poll: Poll<unknown>, from: number, maxPartitions: number): number => {
  const seen = new Set<string>();
  for (let i = from; i < poll.batch.count; i++) {
    seen.add(partitionKey(poll.position(i).partition));
    if (seen.size > maxPartitions) return i - from;
  }
  return poll.batch.count - from;
};

/** Whether the batch may be cut before record i: records that share an offset stay together. */
const isBoundary = (poll: Poll<unknown>, i: number): boolean => {
  return i >= poll.batch.count || !samePosition(poll.position(i - 1), poll.position(i));
};

const samePosition = (a: Position<unknown>, b: Position<unknown>): boolean =>
  partitionKey(a.partition) === partitionKey(b.partition) &&
  canonicalJson(a.offset as Value) === canonicalJson(b.offset as Value);

/** The last boundary at or before `to`; records that share one offset are too many to separate, then the next one after it. */
const boundaryBefore = (poll: Poll<unknown>, from: number, to: number): number => {
  for (let i = to; i > from; i--) if (isBoundary(poll, i)) return i;
  let i = to + 1;
  while (!isBoundary(poll, i)) i++;
  return i;
};

/** The boundary strictly inside (from, to) that is nearest to `at`. */
const boundaryNear = (poll: Poll<unknown>, from: number, to: number, at: number): number | undefined => {
  for (let distance = 0; distance < to - from; distance++) {
    if (at - distance > from && isBoundary(poll, at - distance)) return at - distance;
    if (at + distance < to && isBoundary(poll, at + distance)) return at + distance;
  }
  return undefined;
};

/**
 * Offsets that moved without a record. They are not worth a commit of their own, but the records after them may rest on them (a
 * rotated file's new name, before its old name starts over), so they are committed no later than those.
 */
export const carriedOffsets = () => {
  const positions = new Map<string, Piece['offsets'][number]>();
  return {
    add(piece: Piece): void {
      for (const position of piece.offsets) positions.set(partitionKey(position.partition), position);
    },
    /** The pieces to put before this one: without those offsets that it moves on itself. */
    take(piece: Piece): readonly Piece[] {
      for (const { partition } of piece.offsets) positions.delete(partitionKey(partition));
      const left = [...positions.values()];
      positions.clear();
      const pieces: Piece[] = [];
      for (let at = 0; at < left.length; at += maxPartitionsPerCommit)
        pieces.push({
          ...piece,
          batch: emptyBatch,
          to: piece.from,
          rejected: [],
          offsets: left.slice(at, at + maxPartitionsPerCommit),
        });
      return pieces;
    },
  };
};

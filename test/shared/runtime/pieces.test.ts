import fc from 'fast-check';
import { expect, test } from 'vitest';
import { batchOf } from '../../../shared/connect/build.ts';
import {
  type Partition,
  type Poll,
  type Position,
  partitionKey,
  type RejectedSourceRecord,
} from '../../../shared/connect/connector.ts';
import { rowError } from '../../../shared/connect/errors.ts';
import { halve, type Piece, piecesOf } from '../../../shared/runtime/pieces.ts';

/** A stretch of a poll: good and bad records that share one offset, or an offset that moved without a record. */
interface Stretch {
  readonly partition: number;
  readonly parts: readonly ('good' | 'bad')[];
}

const stretch: fc.Arbitrary<Stretch> = fc.record({
  partition: fc.nat({ max: 5 }),
  parts: fc.array(fc.constantFrom('good' as const, 'good' as const, 'bad' as const), { maxLength: 4 }),
});

const partitionOf = (n: number): Partition => ({ table: `t${n}` });

const pollOfStretches = (stretches: readonly Stretch[]): Poll<unknown> => {
  const next = new Map<number, number>();
  const positions: Position<unknown>[] = [];
  const rejected: RejectedSourceRecord<unknown>[] = [];
  const offsets = new Map<string, Position<unknown>>();
  for (const { partition: n, parts } of stretches) {
    next.set(n, (next.get(n) ?? 0) + 1);
    const position = { partition: partitionOf(n), offset: { at: next.get(n)! } };
    offsets.set(partitionKey(position.partition), position);
    for (const part of parts)
      if (part === 'good') positions.push(position);
      else rejected.push({ ...position, index: positions.length, topic: 't', error: rowError('bad') });
  }
  return {
    batch: batchOf(positions.map((_, i) => ({ topic: 't', value: i }))),
    position: (index) => {
      if (index < 0 || index >= positions.length) throw new RangeError(`position ${index} of ${positions.length}`);
      return positions[index]!;
    },
    offsets: [...offsets.values()],
    caughtUp: true,
    rejected,
  };
};

const poll = fc.array(stretch, { maxLength: 14 }).map(pollOfStretches);
const numbers = ({ batch }: Pick<Piece, 'batch'>) => Array.from(batch, ({ value }) => value as number);
const at = ({ offset }: Position<unknown>) => (offset as { at: number }).at;
const nameOf = (position: Position<unknown>) => `${partitionKey(position.partition)}@${at(position)}`;

/** What must hold of pieces, however they were made of the poll. */
const expectWhole = (whole: Poll<unknown>, pieces: readonly Piece[]): void => {
  expect(pieces.flatMap(numbers)).toEqual(Array.from({ length: whole.batch.count }, (_, i) => i));
  let next = 0;
  const committed = new Map<string, number>();
  const told = new Set<RejectedSourceRecord<unknown>>();
  for (const piece of pieces) {
    expect([piece.from, piece.to, piece.batch.count]).toEqual([next, next + piece.batch.count, numbers(piece).length]);
    next = piece.to;
    for (const one of piece.rejected) {
      expect(told).not.toContain(one);
      told.add(one);
    }
    for (const position of piece.offsets) {
      const key = partitionKey(position.partition);
      expect(at(position)).toBeGreaterThanOrEqual(committed.get(key) ?? 0);
      committed.set(key, at(position));
    }
    // After a crash here the source goes on behind these offsets: what is not put or told yet must lie behind them.
    for (const one of whole.rejected ?? [])
      if (!told.has(one)) expect(at(one)).toBeGreaterThan(committed.get(partitionKey(one.partition)) ?? 0);
    for (let i = next; i < whole.batch.count; i++)
      expect(at(whole.position(i))).toBeGreaterThan(committed.get(partitionKey(whole.position(i).partition)) ?? 0);
  }
  expect(told.size).toBe(whole.rejected?.length ?? 0);
  expect(new Set([...committed].map(([key, n]) => `${key}@${n}`))).toEqual(new Set(whole.offsets.map(nameOf)));
};

const sharesOneOffset = (whole: Poll<unknown>, { from, to }: Piece) =>
  new Set(Array.from({ length: to - from }, (_, i) => nameOf(whole.position(from + i)))).size <= 1;

test('pieces are the poll, in order; each can be committed by itself', () => {
  fc.assert(
    fc.property(poll, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 9 }), (whole, maxPartitions, take) => {
      const pieces = [...piecesOf(whole, { maxPartitions, take: () => take })];
      expectWhole(whole, pieces);
      for (const piece of pieces) {
        expect(piece.offsets.length).toBeLessThanOrEqual(maxPartitions);
        if (piece.batch.count > take) expect(sharesOneOffset(whole, piece)).toBe(true);
      }
    }),
    { numRuns: 1_000 },
  );
});

test('a poll that fits is one piece', () => {
  fc.assert(
    fc.property(poll, (whole) => {
      const pieces = [...piecesOf(whole, { maxPartitions: 6, take: ({ count }) => count })];
      expect(pieces).toHaveLength(1);
      expectWhole(whole, pieces);
    }),
  );
});

test('halves of halves are the piece again, down to records that share an offset', () => {
  fc.assert(
    fc.property(poll, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 9 }), (whole, maxPartitions, take) => {
      const leavesOf = (piece: Piece): Piece[] => {
        const halves = halve(piece);
        if (halves === undefined) {
          expect(sharesOneOffset(whole, piece)).toBe(true);
          return [piece];
        }
        expect(halves[0].batch.count).toBeGreaterThan(0);
        expect(halves[1].batch.count).toBeGreaterThan(0);
        expect(halves[1].offsets).toEqual(piece.offsets);
        return halves.flatMap(leavesOf);
      };
      const leaves = [...piecesOf(whole, { maxPartitions, take: () => take })].flatMap(leavesOf);
      expectWhole(whole, leaves);
    }),
    { numRuns: 1_000 },
  );
});

test('a rejected record is told even where the poll names no offset behind it', () => {
  const whole = pollOfStretches([
    { partition: 0, parts: ['good'] },
    { partition: 1, parts: ['good'] },
    { partition: 0, parts: ['bad'] },
  ]);
  const silent = { ...whole, offsets: [whole.position(0), whole.position(1)] };
  const pieces = [...piecesOf(silent, { maxPartitions: 1, take: () => 1 })];
  expect(pieces.flatMap(({ rejected }) => rejected)).toEqual(whole.rejected);
});

test('halves are about equal', () => {
  const whole = pollOfStretches(Array.from({ length: 64 }, () => ({ partition: 0, parts: ['good'] })));
  const [piece] = [...piecesOf(whole, { maxPartitions: 1, take: ({ count }) => count })] as [Piece];
  expect(halve(piece)!.map(({ batch }) => batch.count)).toEqual([32, 32]);
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Poll, type Position, partitionKey, pollOf, type SinkTask } from '../../../shared/connect/connector.ts';
import { rowError } from '../../../shared/connect/errors.ts';
import { halve, piecesOf } from '../../../shared/runtime/pieces.ts';
import { appendingDestination, owningDestination, rowOf } from '../../kit/memory-connectors.ts';
import { createRunKit } from '../../kit/run-kit.ts';

/** Records of partitions p0, p1, …; `sharing` says which ones share the offset of the record before them. */
interface Made {
  readonly partition: number;
  readonly sharing: boolean;
}

const poll = (made: readonly Made[], rejectedAt: readonly number[] = []): Poll<unknown> => {
  const next = new Map<number, number>();
  const records = made.map(({ partition, sharing }, n) => {
    const before = next.get(partition) ?? 0;
    const isShared = sharing && before > 0 && made[n - 1]?.partition === partition;
    const offset = isShared ? before : before + 1;
    next.set(partition, offset);
    return { topic: 'rows', value: { n }, partition: { name: `p${partition}` }, offset: { next: offset } };
  });
  const good = records.filter((_, n) => !rejectedAt.includes(n));
  const rejected = rejectedAt
    .filter((n) => n < records.length)
    .map((n) => ({ ...records[n]!, error: rowError('bad'), index: records.slice(0, n).filter((_, m) => !rejectedAt.includes(m)).length }));
  return { ...pollOf(good, { caughtUp: true, offsets: lastOf(records) }), rejected };
};

const lastOf = (records: readonly Position<unknown>[]): Position<unknown>[] => [
  ...new Map(records.map(({ partition, offset }) => [partitionKey(partition), { partition, offset }])).values(),
];

const madeRecords = fc.array(fc.record({ partition: fc.nat(5), sharing: fc.boolean() }), { maxLength: 30 });
const keyOf = ({ partition, offset }: Position<unknown>) => `${partitionKey(partition)} ${JSON.stringify(offset)}`;

describe('pieces of a poll', () => {
  it('are prefixes in source order that hold every record, every rejected one and every offset once, within the limits', () => {
    fc.assert(
      fc.property(
        madeRecords,
        fc.uniqueArray(fc.nat(29), { maxLength: 6 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 8 }),
        (made, rejectedAt, maxPartitions, take) => {
          const whole = poll(made, rejectedAt.sort((a, b) => a - b));
          const pieces = [...piecesOf(whole, { maxPartitions, take: (batch) => Math.min(take, batch.count) })];
          expect(pieces.flatMap(({ batch }) => [...batch].map(({ value }) => value))).toEqual(
            [...whole.batch].map(({ value }) => value),
          );
          expect(pieces.flatMap(({ rejected }) => rejected)).toHaveLength(whole.rejected!.length);
          const stands = new Map<string, unknown>();
          for (const piece of pieces) {
            expect(piece.offsets.length).toBeLessThanOrEqual(maxPartitions);
            for (const { partition, offset } of piece.offsets) stands.set(partitionKey(partition), offset);
            // A record is never committed behind: after its piece, its partition stands at its offset or later.
            for (let i = piece.from; i < piece.to; i++) {
              const { partition, offset } = whole.position(i);
              const at = stands.get(partitionKey(partition)) as { next: number };
              expect(at.next).toBeGreaterThanOrEqual((offset as { next: number }).next);
            }
            for (const one of piece.rejected)
              expect((stands.get(partitionKey(one.partition)) as { next: number } | undefined)?.next ?? 0).toBeLessThanOrEqual(
                lastOffset(whole, one),
              );
          }
          expect([...stands].sort()).toEqual(whole.offsets.map(({ partition, offset }) => [partitionKey(partition), offset]).sort());
        },
      ),
    );
  });

  it('never separate records that share an offset, not even when they are halved', () => {
    fc.assert(
      fc.property(madeRecords, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 8 }), (made, maxPartitions, take) => {
        const whole = poll(made);
        const leaves = (piece: NonNullable<ReturnType<typeof halve>>[0]): (typeof piece)[] => {
          const halves = halve(piece);
          return halves === undefined ? [piece] : halves.flatMap(leaves);
        };
        const pieces = [...piecesOf(whole, { maxPartitions, take: (batch) => Math.min(take, batch.count) })].flatMap(leaves);
        let from = 0;
        for (const piece of pieces.filter(({ batch }) => batch.count > 0)) {
          expect(piece.from).toBe(from);
          from = piece.to;
          const isLast = piece.to === whole.batch.count;
          if (!isLast) expect(keyOf(whole.position(piece.to - 1))).not.toBe(keyOf(whole.position(piece.to)));
          // Halved to the end: what is left in one piece shares one offset.
          const keys = new Set(Array.from({ length: piece.to - piece.from }, (_, i) => keyOf(whole.position(piece.from + i))));
          expect(keys.size).toBe(1);
        }
        expect(from).toBe(whole.batch.count);
      }),
    );
  });
});

const lastOffset = (whole: Poll<unknown>, { partition }: Position<unknown>): number =>
  (whole.offsets.find((one) => partitionKey(one.partition) === partitionKey(partition))!.offset as { next: number }).next;

describe('a batch', () => {
  it('of more partitions than a commit holds is cut, and all of it arrives', async () => {
    const kit = createRunKit();
    const { rows, sink } = appendingDestination();
    const made = Array.from({ length: 120 }, (_, n) => ({ partition: n % 60, sharing: false }));
    const source = {
      poll: async (offsets: { all(): Iterable<unknown> }) =>
        [...offsets.all()].length > 0 ? pollOf([], { caughtUp: true }) : poll(made),
      close: async () => {},
    };
    expect(await kit.run({ openSource: async () => source, openSink: async () => sink() })).toMatchObject({ outcome: 'drained', records: 120 });
    expect(rows.map(({ n }) => n)).toEqual(made.map((_, n) => n));
    const commits = kit.events.filter((event) => event.startsWith('commit')).map((event) => event.split(',').length);
    expect(Math.max(...commits)).toBe(26);
    expect(Object.keys(await kit.committed())).toHaveLength(60);
  });

  it('is cut to what one put can take', async () => {
    const kit = createRunKit();
    const { rows, sink } = appendingDestination();
    const puts: number[][] = [];
    const openSink = async (): Promise<SinkTask> => ({
      ...sink(),
      take: () => 3,
      async put(batch, context) {
        puts.push([...batch].map((record) => rowOf(record).n));
        return sink().put(batch, context);
      },
    });
    const made = Array.from({ length: 7 }, (_, n) => ({ partition: 0, sharing: n === 3 }));
    const source = { poll: async () => poll(made), more: async () => puts.length === 0, close: async () => {} };
    await kit.run({ openSource: async () => source, openSink, budget: { maxRecords: 100, maxBytes: 1 << 20 } });
    expect(puts, '2 and 3 share an offset').toEqual([[0, 1], [2, 3, 4], [5, 6]]);
    expect(rows).toHaveLength(7);
  });
});

const mb = 1024 * 1024;

describe('a log that moves without a record (hazard C5)', () => {
  /** A quiet upstream: each poll passes so much of it, until `end`. */
  const quiet = (bytesPerPoll: number, end: number, onPoll = () => {}) => ({
    poll: async (offsets: { get(partition: { name: string }): unknown }): Promise<Poll<unknown>> => {
      onPoll();
      const from = (offsets.get({ name: 'a' }) as { next: number } | undefined)?.next ?? 0;
      const next = Math.min(from + bytesPerPoll, end);
      return pollOf([], { caughtUp: next === end, offsets: [{ partition: { name: 'a' }, offset: { next } }], moved: next - from });
    },
    close: async () => {},
  });

  it('has its offset committed alone, after 64 MB', async () => {
    const kit = createRunKit();
    const { rows, sink } = owningDestination();
    const openSink = async () => sink();
    expect(await kit.run({ openSource: async () => quiet(100 * mb, 100 * mb), openSink })).toMatchObject({ batches: 1, records: 0 });
    expect(rows).toEqual([]);
    expect(await kit.committed()).toEqual({ a: [{ next: 100 * mb }, 1] });
    expect(await kit.run({ openSource: async () => quiet(100 * mb, 100 * mb), openSink })).toMatchObject({ outcome: 'idle' });
  });

  it('is not written for less, once it is caught up', async () => {
    const kit = createRunKit();
    expect(await kit.run({ openSource: async () => quiet(mb, mb) })).toMatchObject({ outcome: 'idle' });
    expect(await kit.rows()).toEqual([]);
  });

  it('is passed in many small polls', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    expect(await kit.run({ openSource: async () => quiet(4 * mb, 200 * mb), openSink: async () => sink() })).toMatchObject({ outcome: 'drained' });
    expect(kit.writes().filter((event) => event.startsWith('commit'))).toEqual([`commit a ${64 * mb}`, `commit a ${128 * mb}`, `commit a ${192 * mb}`]);
  });

  it('is passed in runs that each get less than 64 MB far', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    const runs: number[] = [];
    for (;;) {
      const stop = new AbortController();
      let polls = 0;
      const source = quiet(4 * mb, 40 * mb, () => ++polls === 4 && stop.abort());
      const { outcome, batches } = await kit.run({ openSource: async () => source, openSink: async () => sink(), stop: stop.signal });
      runs.push(batches);
      if (outcome !== 'more') break;
    }
    expect(runs.length).toBeLessThan(5);
    expect((await kit.committed()).a?.[0]).toMatchObject({ next: expect.any(Number) });
  });
});

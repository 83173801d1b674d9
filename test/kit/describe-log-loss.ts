import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConnectError } from '../../shared/connect/errors.ts';
import { headKey, offsetKey, segmentKey } from '../../shared/state/keys.ts';
import { commitOffsets } from '../../shared/state/offsets.ts';
import { shapes } from '../../shared/state/shape.ts';
import {
  headOf,
  type LogStore,
  numbered,
  numbersOf,
  openReader,
  openWriter,
  range,
  segmentsOf,
  watchedObjects,
} from './log-kit.ts';

const dayMs = 24 * 3_600_000;

/** What is gone, broken or newer is told, never skipped (invariant 7). */
export const describeLogLoss = (makeStore: () => Promise<LogStore>): void => {
  describe('loss', () => {
    const lost = { code: 'LOST_POSITION' };

    test('expiry in any order: nothing is written below the head, and every unread gap is LOST_POSITION', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 }),
          fc.infiniteStream(fc.nat()),
          async (counts, choices) => {
            const store = await makeStore();
            const pick = <T>(list: readonly T[]): T => list[choices.next().value! % list.length]!;
            const old = openWriter(store, { connector: 'old' });
            const bases: number[] = [];
            let next = 0;
            for (const count of counts) {
              bases.push(next);
              await old.send(range(next, next + count).map((n) => numbered(n)));
              next += count;
            }
            // A reader that stands at every place.
            const readers = range(0, next + 1).map((at) => ({
              at,
              reader: openReader(store, { connector: `r${at}` }),
            }));
            for (const { at, reader } of readers) if (at > 0) await (await reader.poll({ maxRecords: at })).commit();
            const left = [...bases];
            while (left.length > 0) {
              const gone = pick(left);
              left.splice(left.indexOf(gone), 1);
              await store.table.write([{ delete: segmentKey('t', 0, 0, gone) }]);
              for (const { at, reader } of readers) {
                if (at === 0) continue;
                const needed = bases.filter((base, i) => base + counts[i]! > at);
                const poll = reader.poll();
                if (needed.every((base) => left.includes(base)))
                  expect(numbersOf((await poll).records)).toEqual(range(at, next));
                else await expect(poll).rejects.toMatchObject(lost);
              }
            }
            // A writer that has the head in its memory, another that has moved it, and a new one.
            for (const writer of [openWriter(store, { connector: 'new' }), old])
              await writer.send([numbered(next), numbered(next + 1)]);
            expect((await segmentsOf(store)).map(({ sk }) => Number(sk))).toEqual([next, next + 2]);
            for (const { at, reader } of readers) {
              if (at === 0) continue;
              if (at === next)
                expect(numbersOf((await reader.poll()).records)).toEqual([next, next + 1, next, next + 1]);
              else await expect(reader.poll()).rejects.toMatchObject(lost);
            }
          },
        ),
        { numRuns: 8 },
      );
    });

    test('a new reader starts at the oldest segment that has not expired, and stops at a hole after it', async () => {
      const store = await makeStore();
      let nowMs = 0;
      const now = () => nowMs;
      const writer = openWriter(store, { now, topicDefaults: { retentionMs: dayMs } });
      for (const n of range(0, 5)) {
        await writer.send([numbered(n)]);
        nowMs += dayMs / 5;
      }
      // Expired, not yet removed: 0. Then the table removes 3 before its time.
      const reader = openReader(store, { now, connector: 'new' });
      expect(numbersOf((await reader.poll()).records)).toEqual([1, 2, 3, 4]);
      await store.table.write([{ delete: segmentKey('t', 0, 0, 3) }]);
      await expect(reader.poll()).rejects.toMatchObject(lost);
      nowMs += 10 * dayMs;
      expect(await reader.poll()).toMatchObject({ records: [], poll: { caughtUp: true } });
      await writer.send([numbered(5)]);
      expect(numbersOf((await reader.poll()).records)).toEqual([5]);
    });

    test('a hole after what one poll read is found by the next', async () => {
      const store = await makeStore();
      const writer = openWriter(store);
      for (const n of range(0, 3)) await writer.send([numbered(n)]);
      await store.table.write([{ delete: segmentKey('t', 0, 0, 1) }]);
      const reader = openReader(store);
      const { records, commit, poll } = await reader.poll({ maxRecords: 1 });
      expect(numbersOf(records)).toEqual([0]);
      expect(poll.caughtUp).toBe(false);
      await commit();
      await expect(reader.poll()).rejects.toMatchObject(lost);
      expect(await reader.more()).toBe(true);
    });

    describe('an object', () => {
      const withObject = async () => {
        const base = await makeStore();
        const objects = watchedObjects(base.objects);
        const store = { ...base, objects };
        await openWriter(store, { now: () => 0, topicDefaults: { retentionMs: dayMs } }).send(
          range(0, 5).map((n) => numbered(n, { bytes: 3_000 })),
        );
        const pollAt = (nowMs: number) => openReader(store, { now: () => nowMs }).poll();
        // The offset makes the reader want this segment also when it has expired.
        const [segment] = await segmentsOf(store);
        await commitOffsets(store.table, { connector: 'reader', incarnation: 'i1' }, [
          {
            key: '{"generation":0,"queue":0,"topic":"t"}',
            partition: { topic: 't', generation: 0, queue: 0 },
            offset: { base: 0, index: 0 },
            seq: 0,
            writeId: 'w',
          },
        ]);
        return { store, objects, pollAt, segment: segment! };
      };

      test.each<[string, (bytes: Uint8Array) => Uint8Array | undefined]>([
        ['missing', () => undefined],
        ['empty', (bytes) => bytes.subarray(0, 0)],
        ['truncated', (bytes) => bytes.subarray(0, -1)],
      ])('%s is CORRUPT before it expires and LOST_POSITION after', async (_, damage) => {
        const { objects, pollAt } = await withObject();
        expect((await pollAt(dayMs - 1_000)).records).toHaveLength(5);
        objects.damage(damage);
        await expect(pollAt(dayMs - 1_000)).rejects.toMatchObject({ code: 'CORRUPT' });
        await expect(pollAt(dayMs + 1_000)).rejects.toMatchObject(lost);
        objects.damage((bytes) => bytes);
        expect((await pollAt(dayMs + 1_000)).records).toHaveLength(5);
      });

      test('with one bit changed is CORRUPT at any time, wherever the bit is', async () => {
        const { objects, pollAt, segment } = await withObject();
        for (const at of [0, 4, Math.floor(Number(segment.bytes) / 2), Number(segment.bytes) - 1]) {
          objects.damage((bytes) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte)));
          for (const nowMs of [0, 2 * dayMs]) await expect(pollAt(nowMs)).rejects.toMatchObject({ code: 'CORRUPT' });
        }
      });

      test('of another commit is CORRUPT', async () => {
        const { store, objects, pollAt } = await withObject();
        await openWriter(store, { connector: 'other' }).send(range(0, 5).map((n) => numbered(n, { bytes: 3_000 })));
        const other = await store.objects.get(objects.names[1]!, 0, 1e6);
        objects.damage((bytes) => other!.subarray(0, bytes.length));
        await expect(pollAt(0)).rejects.toMatchObject({ code: 'CORRUPT' });
      });
    });

    test.each<[string, (segment: Record<string, unknown>) => Record<string, unknown>]>([
      [
        'a body with a changed byte',
        ({ body }) => ({ body: (body as Uint8Array).map((byte, i) => (i === 9 ? byte ^ 4 : byte)) }),
      ],
      ["a checksum that is not the body's", ({ crc32 }) => ({ crc32: Number(crc32) ^ 1 })],
      ['another raw length', ({ rawLength }) => ({ rawLength: Number(rawLength) + 8 })],
    ])('an item with %s is CORRUPT', async (_, change) => {
      const store = await makeStore();
      await openWriter(store).send(range(0, 5).map((n) => numbered(n)));
      const [segment] = await segmentsOf(store);
      await store.table.write([{ put: { ...segment!, ...(change(segment!) as object) } }]);
      await expect(openReader(store).poll()).rejects.toMatchObject({ code: 'CORRUPT' });
    });

    test('an item that counts other records than its body holds is CORRUPT', async () => {
      const store = await makeStore();
      const writer = openWriter(store);
      await writer.send(range(0, 5).map((n) => numbered(n)));
      await store.table.write([{ update: segmentKey('t', 0, 0, 0), set: { count: 4 } }]);
      await expect(openReader(store).poll()).rejects.toMatchObject({ code: 'CORRUPT' });
    });

    test('a missing head is CORRUPT, for readers and writers', async () => {
      const store = await makeStore();
      await openWriter(store).send([numbered(0)]);
      await store.table.write([{ delete: headKey('t', 0, 0) }]);
      await expect(openReader(store).poll()).rejects.toMatchObject({ code: 'CORRUPT' });
      await expect(openWriter(store).send([numbered(1)])).rejects.toMatchObject({ code: 'CORRUPT' });
    });

    test.each([
      ['behind the last record', { base: 7, index: 0 }],
      ['inside a segment that is not there any more', { base: 5, index: 2 }],
      ['past the end of a segment', { base: 0, index: 6 }],
    ])('a table that was restored, so that an offset is %s, is LOST_POSITION', async (_, offset) => {
      const store = await makeStore();
      await openWriter(store).send(range(0, 5).map((n) => numbered(n)));
      const reader = openReader(store);
      await (await reader.poll({ maxRecords: 1 })).commit();
      const partition = '{"generation":0,"queue":0,"topic":"t"}';
      const key = offsetKey('reader', 'i1', partition);
      await store.table.write([{ update: key, set: { offset: JSON.stringify(offset) }, when: { seq: 1 } }]);
      // The run is woken, so that it finds out; and it finds out before anything is appended over the difference.
      expect(await reader.more()).toBe(true);
      await expect(reader.poll()).rejects.toMatchObject(lost);
    });

    test.each(['segment', 'head', 'topic', 'offset'] as const)(
      'a newer %s stops a reader with SHAPE_TOO_NEW',
      async (shape) => {
        const store = await makeStore();
        await openWriter(store).send(range(0, 3).map((n) => numbered(n)));
        const reader = openReader(store);
        await (await reader.poll({ maxRecords: 1 })).commit();
        const key = {
          segment: segmentKey('t', 0, 0, 0),
          head: headKey('t', 0, 0),
          topic: { pk: 'topic#t', sk: 'META' },
          offset: offsetKey('reader', 'i1', '{"generation":0,"queue":0,"topic":"t"}'),
        }[shape];
        await store.table.write([{ update: key, set: { v: shapes[shape] + 1 }, when: { v: shapes[shape] } }]);
        await expect(reader.poll()).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
      },
    );

    test('an upload that fails commits nothing', async () => {
      const store = await makeStore();
      const put = () => Promise.reject(new ConnectError('UNAVAILABLE', 'the disk is full', { retriable: true }));
      await openWriter(store).send([numbered(0)]);
      const writer = openWriter({ ...store, objects: { ...store.objects, put } });
      await expect(writer.send([numbered(1, { bytes: 9_000 })])).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      expect(await writer.stored()).toMatchObject({ seq: 1 });
      expect((await headOf(store)).next).toBe(1);
    });
  });
};

import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { batchOf } from '../../shared/connect/build.ts';
import { logAppender } from '../../shared/log/append.ts';
import { changeQueues, ensureTopic, maxPartitionsPerCommit, maxQueuesPerCommit } from '../../shared/log/topics.ts';
import { headKey, metaKey } from '../../shared/state/keys.ts';
import { loadProgress } from '../../shared/state/offsets.ts';
import { shapes } from '../../shared/state/shape.ts';
import {
  headOf,
  type LogStore,
  numbered,
  numbersOf,
  openReader,
  openWriter,
  range,
  readOnly,
  segmentsOf,
  watchedObjects,
} from './log-kit.ts';
import { losingAnswers, resending } from './losing-answers.ts';

const large = (n: number) => numbered(n, { bytes: 8_000 });

/** Appending: one transaction of segments, heads and offsets. */
export const describeAppend = (makeStore: () => Promise<LogStore>): void => {
  describe('append', () => {
    test('segments follow each other without a hole, and the head is where they end', async () => {
      const store = await makeStore();
      const writer = openWriter(store);
      for (const [from, to] of [
        [0, 1],
        [1, 4],
        [4, 9],
      ] as const)
        await writer.send(range(from, to).map((n) => numbered(n)));
      expect((await segmentsOf(store)).map(({ sk, count }) => [Number(sk), count])).toEqual([
        [0, 1],
        [1, 3],
        [4, 5],
      ]);
      expect(await headOf(store)).toMatchObject({ next: 9, start: 0, sealed: false });
      expect(numbersOf(await openReader(store).drain())).toEqual(range(0, 9));
    });

    test('small bodies are in their items, large ones in one write-once object per commit', async () => {
      const objects = watchedObjects((await makeStore()).objects);
      const store = { ...(await makeStore()), objects };
      await ensureTopic(store.table, 't', { queues: 4 });
      await ensureTopic(store.table, 'short', { retentionMs: 3_600_000, capMs: 0 });
      const writer = openWriter(store, { now: () => Date.UTC(2026, 6, 1) });
      await writer.send(range(0, 20).map((n) => numbered(n, { key: `k${n}` })));
      expect(objects.names).toEqual([]);
      await writer.send([
        ...range(20, 40).map((n) => numbered(n, { key: `k${n}`, bytes: 1_000 })),
        numbered(40, { topic: 'short' }),
      ]);
      await writer.send([numbered(41, { topic: 'short', bytes: 9_000 })]);
      // The class of an object's life is the longest retention in it, with its cap, and a week.
      expect(objects.names).toEqual([
        expect.stringMatching(/^r45\/writer\/2026-07-01\/[0-9a-f-]{36}$/),
        expect.stringMatching(/^r10\/writer\/2026-07-01\/[0-9a-f-]{36}$/),
      ]);
      for (const queue of range(0, 4))
        for (const [i, segment] of (await segmentsOf(store, queue)).entries()) {
          expect(Object.hasOwn(segment, 'body')).toBe(i === 0);
          expect(Object.hasOwn(segment, 'object')).toBe(i === 1);
        }
      const read = await openReader(store, { topics: ['t', 'short'], now: () => 0 }).drain();
      expect(numbersOf(read).sort((a, b) => a - b)).toEqual(range(0, 42));
    });

    test('a batch that was announced is uploaded before its turn, once; a failed upload is told then, and tried anew', async () => {
      const base = await makeStore();
      const objects = watchedObjects(base.objects);
      const writer = openWriter({ ...base, objects });
      const [first, second] = [batchOf([large(0)]), batchOf([large(1)])];
      writer.stageEarly(first);
      writer.stageEarly(second);
      await vi.waitFor(() => expect(objects.names).toHaveLength(2));
      expect(await segmentsOf(base)).toEqual([]);
      await writer.append(first, [writer.commitAt(0)]);
      await writer.append(second, [writer.commitAt(1)]);
      expect(objects.names).toHaveLength(2);

      const third = batchOf([large(2)]);
      const put = vi.spyOn(base.objects, 'put').mockRejectedValueOnce(new Error('S3 is away'));
      writer.stageEarly(third);
      await expect(writer.append(third, [writer.commitAt(2)])).rejects.toThrow('S3 is away');
      put.mockRestore();
      await writer.append(third, [writer.commitAt(2)]);
      expect(numbersOf(await openReader(base).drain())).toEqual([0, 1, 2]);
    });

    test('one that never has its turn is waited for at the end', async () => {
      const base = await makeStore();
      const uploaded = Promise.withResolvers<void>();
      const objects = { ...base.objects, put: () => uploaded.promise };
      const writer = openWriter({ ...base, objects });
      writer.stageEarly(batchOf([large(0)]));
      let closed = false;
      const closing = writer.close().then(() => {
        closed = true;
      });
      await setImmediate();
      expect(closed).toBe(false);
      uploaded.resolve();
      await closing;
      expect(await segmentsOf(base)).toEqual([]);
    });

    test('the offset moves with the records, and an empty batch moves it alone', async () => {
      const store = await makeStore();
      const writer = openWriter(store);
      await writer.send([numbered(0)], { line: 1 });
      expect(await writer.stored()).toMatchObject({ offset: { line: 1 }, seq: 1 });
      await writer.send([], { line: 2 });
      expect(await writer.stored()).toMatchObject({ offset: { line: 2 }, seq: 2 });
      expect(await segmentsOf(store)).toHaveLength(1);
      await writer.append(batchOf([]), []);
      await writer.append(batchOf([numbered(1)]), []);
      expect(numbersOf(await openReader(store).drain())).toEqual([0, 1]);
    });

    test.each([
      ['small', numbered],
      ['large', large],
    ] as const)('a batch whose offset moved is FENCED whole (%s)', async (_, make) => {
      const store = await makeStore();
      const writer = openWriter(store);
      const zombie = openWriter(store);
      await writer.send([make(0)]);
      const stale = [zombie.commitAt(0)];
      await expect(zombie.append(batchOf([make(99)]), stale)).rejects.toMatchObject({ code: 'FENCED' });
      await expect(zombie.append(batchOf([]), stale)).rejects.toMatchObject({ code: 'FENCED' });
      // Also where the zombie knows the head: the offset alone fences it.
      await openWriter(store, { connector: 'other' }).send([make(1)]);
      await expect(zombie.append(batchOf([make(99)]), stale)).rejects.toMatchObject({ code: 'FENCED' });
      expect(await headOf(store)).toMatchObject({ next: 2 });
      expect(numbersOf(await openReader(store).drain())).toEqual([0, 1]);
    });

    describe('a lost answer', () => {
      test.each([
        ['told', losingAnswers],
        ['resent', resending],
      ] as const)('%s: the batch is there once', async (kind, lose) => {
        const base = await makeStore();
        const table = lose(base.table);
        const writer = openWriter({ ...base, table });
        await writer.send([large(0)]);
        const commit = [writer.commitAt(1)];
        table.loseAnswers(1);
        const attempt = writer.append(batchOf([large(1), large(2)]), commit);
        if (kind === 'told') {
          await expect(attempt).rejects.toMatchObject({ code: 'UNAVAILABLE', retriable: true });
          await writer.append(batchOf([large(1), large(2)]), commit);
        } else await attempt;
        await writer.send([large(3)]);
        expect(numbersOf(await openReader(base).drain())).toEqual([0, 1, 2, 3]);
      });

      test('others appended, or the queues changed, before it is repeated', async () => {
        const base = await makeStore();
        await ensureTopic(base.table, 't');
        const table = losingAnswers(base.table);
        const writer = openWriter({ ...base, table });
        const other = openWriter(base, { connector: 'other' });
        for (const meanwhile of [() => other.send([numbered(100)]), () => changeQueues(base.table, 't', 3)]) {
          const seq = (await writer.stored())?.seq ?? 0;
          const commit = [writer.commitAt(seq)];
          table.loseAnswers(1);
          await expect(writer.append(batchOf([numbered(seq)]), commit)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
          await meanwhile();
          await writer.append(batchOf([numbered(seq)]), commit);
        }
        await writer.send([numbered(2)]);
        const reader = openReader(base);
        expect(numbersOf([...(await reader.drain()), ...(await reader.drain())])).toEqual([0, 100, 1, 2]);
      });
    });

    describe('writers that race for a queue', () => {
      test('all land, without a hole, each in its order', async () => {
        const store = await makeStore();
        const writers = range(0, 3).map((i) => openWriter(store, { connector: `w${i}` }));
        const sends = writers.map(async (writer, i) => {
          for (const n of range(0, 12))
            await writer.send([numbered(i * 1_000 + 2 * n), numbered(i * 1_000 + 2 * n + 1)]);
        });
        await Promise.all(sends);
        const numbers = numbersOf(await openReader(store).drain({ maxRecords: 7 }));
        for (const i of range(0, 3))
          expect(numbers.filter((n) => Math.floor(n / 1_000) === i)).toEqual(range(i * 1_000, i * 1_000 + 24));
        expect(numbers).toHaveLength(72);
        expect((await headOf(store)).next).toBe(72);
      });

      test('a lost race uploads nothing a second time', async () => {
        const base = await makeStore();
        const objects = watchedObjects(base.objects);
        const slow = openWriter({ ...base, objects });
        const fast = openWriter(base, { connector: 'fast' });
        await slow.send([large(0)]);
        for (const n of range(1, 4)) {
          await fast.send([large(100 + n)]);
          await slow.send([large(n)]);
        }
        expect(objects.names).toHaveLength(4);
        expect(new Set(objects.names).size).toBe(4);
        expect(numbersOf(await openReader(base).drain())).toEqual([0, 101, 1, 102, 2, 103, 3]);
      });

      test('a race that is never won ends', async () => {
        const base = await makeStore();
        await ensureTopic(base.table, 't');
        let ahead = 0;
        const table = {
          ...base.table,
          async write(writes: Parameters<typeof base.table.write>[0]) {
            await base.table.write([{ update: headKey('t', 0, 0), set: { next: ++ahead } }]);
            return base.table.write(writes);
          },
        };
        await expect(openWriter({ ...base, table }).send([numbered(0)])).rejects.toMatchObject({
          code: 'UNAVAILABLE',
          retriable: true,
        });
        expect(await segmentsOf(base)).toEqual([]);
      });
    });

    test('two attempts at one offset, both uploaded: either commits, and the bytes are its own', async () => {
      for (const order of [['a', 'b'], ['b', 'a'], ['both']]) {
        const base = await makeStore();
        const objects = watchedObjects(base.objects);
        const store = { ...base, objects };
        const attempts = { a: range(0, 10).map(large), b: range(0, 6).map(large) };
        const attempt = (name: 'a' | 'b') => {
          const writer = openWriter(store);
          return writer.append(batchOf(attempts[name]), [writer.commitAt(0, { by: name })]);
        };
        const run = order[0] === 'both' ? [attempt('a'), attempt('b')] : [attempt(order[0] as 'a'), Promise.resolve()];
        if (order[0] !== 'both') await run[0];
        else await Promise.allSettled(run);
        if (order[1] !== undefined) await expect(attempt(order[1] as 'b')).rejects.toMatchObject({ code: 'FENCED' });
        expect(new Set(objects.names).size).toBe(2);
        const winner = ((await openWriter(store).stored())!.offset as { by: 'a' | 'b' }).by;
        if (order[0] !== 'both') expect(winner).toBe(order[0]);
        expect(numbersOf(await openReader(store).drain())).toEqual(range(0, attempts[winner].length));
      }
    });

    describe('topics', () => {
      test('made by the first record, by many writers at once', async () => {
        const store = await makeStore();
        const writers = range(0, 4).map((i) => openWriter(store, { connector: `w${i}`, topicDefaults: { queues: 2 } }));
        await Promise.all(writers.map((writer, i) => writer.send([numbered(i)])));
        expect(await ensureTopic(store.table, 't')).toMatchObject({ queues: 2, generation: 0 });
        expect(numbersOf(await openReader(store).drain()).sort()).toEqual([0, 1, 2, 3]);
        expect(await store.table.names('topic')).toEqual(['t']);
      });

      test.each([
        ['queues', 't', 0],
        ['queues', 't', 33],
        ['queues', 't', 1.5],
        ['name', 'a#b', 1],
        ['name', '', 1],
        ['name', 'x'.repeat(201), 1],
      ])('a bad one is CONFIG_INVALID: %s %s %d', async (_, name, queues) => {
        const { table } = await makeStore();
        await expect(ensureTopic(readOnly(table), name, { queues })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
      });

      test('the fullest commit fits: every queue and every partition', async () => {
        const store = await makeStore();
        await ensureTopic(store.table, 't', { queues: maxQueuesPerCommit });
        const writer = openWriter(store);
        const commits = range(0, maxPartitionsPerCommit).map((i) => ({
          ...writer.commitAt(0),
          key: JSON.stringify({ source: i }),
          partition: { source: i },
        }));
        const records = range(0, 400).map((n) => numbered(n, { key: `k${n}`, bytes: 100 }));
        await writer.append(batchOf(records), commits);
        for (const queue of range(0, maxQueuesPerCommit)) expect(await segmentsOf(store, queue)).toHaveLength(1);
        expect((await loadProgress(store.table, writer.owner)).offsets).toHaveLength(maxPartitionsPerCommit);
      });

      test('take keeps a commit within its queues, whatever the topics turn out to be', async () => {
        const store = await makeStore();
        for (const topic of ['a', 'b', 'c', 'd'])
          await ensureTopic(store.table, topic, { queues: topic === 'd' ? 4 : 14 });
        const { append, take } = logAppender({
          ...store,
          owner: openWriter(store).owner,
          topicDefaults: { queues: 1 },
        });
        const batch = batchOf(
          ['a', 'b', 'a', 'c', 'd'].flatMap((topic) => range(0, 100).map((n) => numbered(n, { topic, key: `k${n}` }))),
        );
        expect(take(batch)).toBe(100);
        for (const topic of ['a', 'b', 'd', 'c'])
          await append(batchOf(range(0, 100).map((n) => numbered(n, { topic, key: `k${n}` }))), []);
        expect(take(batch)).toBe(300);
        expect(take(batchOf([]))).toBe(0);
      });
    });

    describe('a newer shape stops the writer with SHAPE_TOO_NEW, nothing written', () => {
      test.each([
        ['topic', metaKey('t')],
        ['head', headKey('t', 0, 0)],
      ] as const)('%s', async (shape, key) => {
        const store = await makeStore();
        await openWriter(store).send([numbered(0)]);
        const found = (await store.table.get(key))!;
        await store.table.write([{ put: { ...found, v: shapes[shape] + 1 } }]);
        const writer = openWriter({ ...store, table: readOnly(store.table) });
        const commit = [writer.commitAt(1, {}, randomUUID())];
        await expect(writer.append(batchOf([numbered(1)]), commit)).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
        if (shape === 'topic')
          await expect(changeQueues(readOnly(store.table), 't', 2)).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
      });
    });
  });
};

import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { batchOf } from '../../shared/connect/build.ts';
import { changeQueues, declareTopic, ensureTopic, requireTopic } from '../../shared/log/topics.ts';
import { headKey } from '../../shared/state/keys.ts';
import {
  headOf,
  type LogStore,
  numbered,
  numbersOf,
  openReader,
  openWriter,
  type ReadRecord,
  range,
  segmentsOf,
} from './log-kit.ts';

const keys = range(0, 12).map((i) => `key-${i}`);

/** Each key's numbers, in the order given. */
const byKey = (records: readonly ReadRecord[]): Record<string, number[]> => {
  const lists = Object.fromEntries(keys.map((key) => [key, [] as number[]]));
  for (const { key, n } of records) lists[String(key)]!.push(n);
  return lists;
};

/** Queues and generations: order per key, whatever changes (invariant 5, hazard A10). */
export const describeLogQueues = (makeStore: () => Promise<LogStore>): void => {
  describe('a topic that a pipeline declares', () => {
    test('is made, and changed to what it declares later', async () => {
      const { table } = await makeStore();
      await declareTopic(table, 'declared', { queues: 2, retentionMs: 86_400_000 });
      expect(await requireTopic(table, 'declared')).toMatchObject({
        generation: 0,
        queues: 2,
        retentionMs: 86_400_000,
      });
      await declareTopic(table, 'declared', { queues: 2, retentionMs: 3_600_000 });
      expect(await requireTopic(table, 'declared')).toMatchObject({ generation: 0, queues: 2, retentionMs: 3_600_000 });
      await declareTopic(table, 'declared', { queues: 3, retentionMs: 3_600_000 });
      expect(await requireTopic(table, 'declared')).toMatchObject({ generation: 1, queues: 3, retentionMs: 3_600_000 });
    });
  });

  describe('queues', () => {
    test('a run asks for all heads at once, and never again for one that is sealed', async () => {
      const store = await makeStore();
      await ensureTopic(store.table, 't', { queues: 4 });
      const writer = openWriter(store);
      for (const queues of [32, 4, 32, 4, 32, 4]) {
        await writer.send(keys.map((key, n) => numbered(n, { key })));
        await changeQueues(store.table, 't', queues);
      }
      const asked: number[] = [];
      const table = {
        ...store.table,
        getMany(wanted: Parameters<typeof store.table.getMany>[0]) {
          asked.push(wanted.length);
          return store.table.getMany(wanted);
        },
      };
      expect(await openReader({ ...store, table }, { oneRun: true }).drain({ maxRecords: 5 })).toHaveLength(72);
      expect(asked.slice(0, 2)).toEqual([100, 12]);
      expect(new Set(asked.slice(2))).toEqual(new Set([4]));
    });

    test.each([
      { tasks: 1, oneRun: false },
      { tasks: 2, oneRun: false },
      { tasks: 3, oneRun: false },
      { tasks: 1, oneRun: true },
      { tasks: 3, oneRun: true },
    ])(
      '4 → 8 → 3 queues while $tasks tasks read (each poll of one run: $oneRun): every record once, each key in order',
      async ({ tasks, oneRun }) => {
        const store = await makeStore();
        await ensureTopic(store.table, 't', { queues: 4 });
        const writer = openWriter(store);
        const readers = range(0, tasks).map((task) => openReader(store, { task, tasks, oneRun }));
        const delivered: ReadRecord[] = [];
        let n = 0;
        let writing = true;
        const write = async (): Promise<void> => {
          for (const queues of [8, 3]) {
            for (let i = 0; i < 6; i++) await writer.send(keys.map((key) => numbered(n++, { key })));
            // Beside an append, so that one of the two meets the other's heads.
            await Promise.all([
              changeQueues(store.table, 't', queues),
              writer.send(keys.map((key) => numbered(n++, { key }))),
            ]);
          }
          for (let i = 0; i < 6; i++) await writer.send(keys.map((key) => numbered(n++, { key })));
          writing = false;
        };
        const read = async (task: number): Promise<void> => {
          const { poll } = readers[task]!;
          for (;;) {
            const last = !writing;
            const { records, commit } = await poll({ maxRecords: 5 + 11 * task });
            delivered.push(...records);
            await commit();
            if (last && records.length === 0 && delivered.length === n) return;
            // A poll of a memory table that finds nothing never leaves the microtasks.
            await setImmediate();
          }
        };
        await Promise.all([write(), ...range(0, tasks).map(read)]);
        expect(numbersOf(delivered).sort((a, b) => a - b)).toEqual(range(0, n));
        for (const numbers of Object.values(byKey(delivered)))
          expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
        const { generations } = await requireTopic(store.table, 't');
        expect(generations).toEqual([4, 8, 3].map((queues, generation) => ({ generation, queues })));
      },
    );

    test('a generation is entered when every task has drained the one before', async () => {
      const store = await makeStore();
      await ensureTopic(store.table, 't', { queues: 2 });
      const writer = openWriter(store);
      await writer.send(keys.map((key, n) => numbered(n, { key })));
      await changeQueues(store.table, 't', 3);
      await writer.send(keys.map((key, n) => numbered(100 + n, { key })));
      const [fast, slow] = [0, 1].map((task) => openReader(store, { task, tasks: 2 }));
      const first = await fast!.drain();
      expect(Math.max(...numbersOf(first))).toBeLessThan(100);
      expect(await fast!.poll()).toMatchObject({ records: [], poll: { caughtUp: true } });
      expect(await fast!.more()).toBe(false);
      const half = await slow!.poll({ maxRecords: 1 });
      await half.commit();
      expect((await fast!.poll()).records).toEqual([]);
      const polled = await slow!.poll();
      // Read, but not committed: a crash would read it again.
      expect((await fast!.poll()).records).toEqual([]);
      await polled.commit();
      expect(await fast!.more()).toBe(true);
      const rest = [...(await fast!.drain()), ...(await slow!.drain())];
      expect(numbersOf(rest).sort((a, b) => a - b)).toEqual(range(100, 112));
      const before = [...first, ...half.records, ...polled.records];
      expect(numbersOf(before).sort((a, b) => a - b)).toEqual(range(0, 12));
    });

    test('queues that never held a record are drained', async () => {
      const store = await makeStore();
      await ensureTopic(store.table, 't', { queues: 8 });
      const writer = openWriter(store);
      await writer.send([numbered(0)]);
      await changeQueues(store.table, 't', 1);
      await changeQueues(store.table, 't', 2);
      await writer.send([numbered(1)]);
      const reader = openReader(store);
      expect(numbersOf([...(await reader.drain()), ...(await reader.drain())])).toEqual([0, 1]);
      const late = openReader(store, { connector: 'late' });
      expect(numbersOf([...(await late.drain()), ...(await late.drain())])).toEqual([0, 1]);
    });

    test('a writer that knows only the sealed generation appends to the next', async () => {
      const store = await makeStore();
      const writer = openWriter(store);
      await writer.send([numbered(0)]);
      await changeQueues(store.table, 't', 2);
      await writer.send(keys.map((key, n) => numbered(n + 1, { key, bytes: 1_000 })));
      expect(await headOf(store)).toMatchObject({ next: 1, sealed: true });
      expect(await segmentsOf(store, 0, 0)).toHaveLength(1);
      const next = await Promise.all([headOf(store, 0, 1), headOf(store, 1, 1)]);
      expect(next.map((head) => Number(head.next)).reduce((a, b) => a + b)).toBe(keys.length);
    });

    test('the same number of queues is no change', async () => {
      const store = await makeStore();
      await ensureTopic(store.table, 't', { queues: 2 });
      expect(await changeQueues(store.table, 't', 2)).toMatchObject({ generation: 0 });
      expect(await headOf(store)).toMatchObject({ sealed: false });
    });

    test('changes at the same time become generations one after the other', async () => {
      const store = await makeStore();
      await ensureTopic(store.table, 't', { queues: 1 });
      await Promise.all([2, 3, 4].map((queues) => changeQueues(store.table, 't', queues)));
      const { generations } = await requireTopic(store.table, 't');
      expect(generations.map(({ generation }) => generation)).toEqual([0, 1, 2, 3]);
      expect(generations.map(({ queues }) => queues).sort()).toEqual([1, 2, 3, 4]);
      for (const { generation, queues } of generations)
        for (const queue of range(0, queues))
          expect(await headOf(store, queue, generation)).toMatchObject({ sealed: generation < 3 });
    });

    test('a topic that is not there is NOT_FOUND; a head that is missing or sealed by nobody is CORRUPT', async () => {
      const store = await makeStore();
      await expect(changeQueues(store.table, 't', 2)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await ensureTopic(store.table, 't', { queues: 2 });
      await expect(changeQueues(store.table, 't', 0)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
      await store.table.write([{ update: headKey('t', 0, 1), set: { sealed: true } }]);
      await expect(changeQueues(store.table, 't', 3)).rejects.toMatchObject({ code: 'CORRUPT' });
      await store.table.write([{ delete: headKey('t', 0, 1) }]);
      await expect(changeQueues(store.table, 't', 3)).rejects.toMatchObject({ code: 'CORRUPT' });
    });

    test('records without a key go to one queue per batch, and all arrive', async () => {
      const store = await makeStore();
      await ensureTopic(store.table, 't', { queues: 4 });
      const writer = openWriter(store);
      const counts: number[] = [];
      for (const from of range(0, 12)) {
        const keyless = range(from * 3, from * 3 + 3).map((n) => numbered(n, { key: null }));
        await writer.append(batchOf(keyless), [writer.commitAt(from)]);
        const heads = await Promise.all(range(0, 4).map((queue) => headOf(store, queue)));
        counts.push(heads.filter(({ next }) => Number(next) > 0).length);
        for (const { next } of heads) expect(Number(next) % 3).toBe(0);
      }
      expect(counts.at(-1)).toBeGreaterThan(1);
      expect(numbersOf(await openReader(store).drain()).sort((a, b) => a - b)).toEqual(range(0, 36));
    });
  });
};

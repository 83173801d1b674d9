import { describe, expect, test } from 'vitest';
import { batchBytes } from '../../shared/connect/batch.ts';
import { type LogOffset, logSource } from '../../shared/log/read.ts';
import { ensureTopic } from '../../shared/log/topics.ts';
import { createLedger } from '../../shared/runtime/ledger.ts';
import { type LogStore, numbered, numbersOf, openReader, openWriter, range, recordsOf, unlimited } from './log-kit.ts';

/** Reading: the same records after the same offset, whatever the budget. */
export const describeLogRead = (makeStore: () => Promise<LogStore>): void => {
  describe('read', () => {
    const filled = async (queues: number, batches: readonly number[], bytes = 0) => {
      const store = await makeStore();
      await ensureTopic(store.table, 't', { queues });
      const writer = openWriter(store);
      let n = 0;
      for (const count of batches) {
        await writer.send(range(n, n + count).map((i) => numbered(i, { key: `k${i % 7}`, bytes })));
        n += count;
      }
      return { store, count: n };
    };

    test('a topic that is not there, or has nothing, is caught up', async () => {
      const store = await makeStore();
      const reader = openReader(store);
      expect(await reader.poll()).toMatchObject({ records: [], poll: { caughtUp: true, offsets: [] } });
      await ensureTopic(store.table, 't', { queues: 3 });
      expect(await reader.poll()).toMatchObject({ records: [], poll: { caughtUp: true, offsets: [] } });
      expect(await reader.more()).toBe(false);
    });

    test('a run that waits looks again soon after there was something, and less and less often while there is not', async () => {
      const { store } = await filled(1, [3]);
      const pauses: number[] = [];
      const delay = async (ms: number) => void pauses.push(ms);
      const source = logSource({ ...store, topics: ['t'], task: 0, tasks: 1, delay });
      const wait = async (times: number) => {
        for (let i = 0; i < times; i++) await source.wait!(1_000, unlimited.signal);
        return pauses.splice(0);
      };
      const growing = await wait(25);
      expect(growing).toEqual([...growing].sort((a, b) => a - b));
      expect([growing[0], growing.at(-1)]).toEqual([5, 200]);
      const nothing = createLedger([]);
      nothing.advance((await source.poll(nothing.polled as never, unlimited)).offsets);
      expect(await wait(1)).toEqual([5]);
      await source.poll(nothing.polled as never, unlimited);
      expect(await wait(1)).toEqual([6]);
      await source.wait!(2, unlimited.signal);
      expect(pauses).toEqual([2]);
    });

    test.each([1, 2, 3, 7, 100])(
      'a run is killed after each commit of %i records: none is lost, none comes twice',
      async (maxRecords) => {
        const { store, count } = await filled(1, [5, 1, 8, 20], 400);
        expect(numbersOf(await openReader(store).drain({ maxRecords }))).toEqual(range(0, count));
      },
    );

    test.each([1, 3])('every record is a place to resume after (%i queues)', async (queues) => {
      const { store, count } = await filled(queues, [6, 1, 9, 4], 500);
      const source = logSource({ ...store, topics: ['t'], task: 0, tasks: 1 });
      const ledger = createLedger([]);
      const whole = await source.poll(ledger.polled as never, unlimited);
      const all = numbersOf(recordsOf(whole));
      expect([...all].sort((a, b) => a - b)).toEqual(range(0, count));
      for (let i = 0; i < count; i++) {
        ledger.advance([whole.position(i)]);
        for (const maxRecords of [2, 1_000]) {
          const resumed = createLedger([]);
          resumed.advance([...ledger.polled.all()]);
          const rest: number[] = [];
          for (let caughtUp = false; !caughtUp; ) {
            const poll = await source.poll(resumed.polled as never, { ...unlimited, maxRecords });
            resumed.advance(poll.offsets);
            rest.push(...numbersOf(recordsOf(poll)));
            caughtUp = poll.caughtUp;
          }
          expect(rest.sort((a, b) => a - b)).toEqual(all.slice(i + 1).sort((a, b) => a - b));
        }
      }
    });

    test('the last position of a poll is its offset', async () => {
      const { store, count } = await filled(1, [4, 6]);
      const reader = openReader(store);
      const ends: LogOffset[] = [
        { base: 0, index: 3 },
        { base: 4, index: 2 },
        { base: 4, index: 5 },
        { base: 10, index: 0 },
      ];
      for (const end of ends) {
        const { poll, commit } = await reader.poll({ maxRecords: 3 });
        expect(poll.offsets).toMatchObject([{ offset: end }]);
        expect(poll.position(poll.batch.count - 1)).toMatchObject({ offset: end });
        expect(poll.caughtUp).toBe(end.base === count);
        await commit();
      }
    });

    test.each([1, 2, 5, 8, 40])('no poll gives more than its %i records, over all queues', async (maxRecords) => {
      const { store, count } = await filled(8, [60]);
      const reader = openReader(store);
      let sum = 0;
      for (let caughtUp = false; !caughtUp; ) {
        const { records, poll, commit } = await reader.poll({ maxRecords });
        expect(records.length).toBeLessThanOrEqual(maxRecords);
        sum += records.length;
        caughtUp = poll.caughtUp;
        await commit();
      }
      expect(sum).toBe(count);
    });

    test('no queue starves behind a long one', async () => {
      const { store } = await filled(4, [400]);
      const { poll } = await openReader(store).poll({ maxRecords: 40 });
      expect(poll.offsets.length).toBeGreaterThan(1);
    });

    test('a segment far larger than the bytes allowed comes in parts', async () => {
      const { store, count } = await filled(1, [100], 2_000);
      const reader = openReader(store);
      const first = await reader.poll({ maxBytes: 20_000 });
      expect(first.records.length).toBeGreaterThan(1);
      expect(batchBytes(first.poll.batch)).toBeLessThan(45_000);
      expect((await reader.poll({ maxBytes: 1 })).records).toHaveLength(1);
      expect(numbersOf(await reader.drain({ maxBytes: 20_000 }))).toEqual(range(0, count));
    });

    test('an aborted poll gives what it has and is not caught up', async () => {
      const { store } = await filled(1, [3]);
      expect(await openReader(store).poll({ signal: AbortSignal.abort() })).toMatchObject({
        records: [],
        poll: { caughtUp: false },
      });
    });

    test.each([1, 2, 3])('%i tasks share the queues: each record once, each queue by one task', async (tasks) => {
      const { store, count } = await filled(4, [50]);
      const reads = await Promise.all(range(0, tasks).map((task) => openReader(store, { task, tasks }).poll()));
      expect(reads.flatMap(({ records }) => numbersOf(records)).sort((a, b) => a - b)).toEqual(range(0, count));
      for (const [task, { poll }] of reads.entries())
        for (const { partition } of poll.offsets) expect(Number(partition.queue) % tasks).toBe(task);
    });

    test('more is seen by a strong read, and only where there is more', async () => {
      const { store } = await filled(1, [3]);
      const reader = openReader(store);
      expect(await reader.more()).toBe(true);
      await reader.drain();
      expect(await reader.more()).toBe(false);
      await openWriter(store).send([numbered(3)]);
      expect(await reader.more()).toBe(true);
    });

    test('several topics are read together', async () => {
      const store = await makeStore();
      const writer = openWriter(store);
      await writer.send(range(0, 30).map((n) => numbered(n, { topic: `t${n % 3}` })));
      const reader = openReader(store, { topics: ['t0', 't1', 't2', 'none'] });
      const read = await reader.drain({ maxRecords: 4 });
      expect(read).toHaveLength(30);
      for (const { topic, n } of read) expect(topic).toBe(`t${n % 3}`);
    });
  });
};

import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { partitionKey } from '../../shared/connect/connector.ts';
import type { QueryOffset } from '../../shared/connect/query-config.ts';
import type { Struct } from '../../shared/connect/schema.ts';
import { type QueryServer, readerOf } from './query-server.ts';
import { type Delivered, type OffsetMap, offsetsOf } from './source-runner.ts';

/** The key's columns, their names, and what they are in row `n`: for each system what it writes otherwise. */
const keys = [
  ['an integer', 'id int', 'id', 'n'],
  ['a text', 'id varchar(20)', 'id', "concat('row ', n)"],
  ['a decimal and an integer', 'a decimal(6,1), b int', 'a, b', 'floor(n / 100) / 10, n'],
  ['an integer and a text', 'a int, b varchar(9)', 'a, b', "floor(n / 100), concat('b', n)"],
] as const;

const idsOf = (records: readonly Delivered[]) => records.map(({ value }) => (value as Struct).id);

/** Bulk by several tasks. */
export const describeQueryRanges = (name: string, server: QueryServer): void => {
  const { run } = server;
  const taskOf = (config: object, taskId: number, tasks: number) => readerOf(server, config, { taskId, tasks });
  const headOf = (offsets: OffsetMap, table: string) =>
    offsets.get(partitionKey({ server: 'shop', table }))!.offset as QueryOffset;

  /** What tasks read that take turns, a poll each, until none has anything. */
  const readByTasks = async (config: object, offsets: OffsetMap, tasks: number, limits: object = {}) => {
    const runners = Array.from({ length: tasks }, (_, taskId) => taskOf(config, taskId, tasks));
    const opened = await Promise.all(runners.map(({ open }) => open()));
    const records: Delivered[] = [];
    const counts = runners.map(() => 0);
    try {
      for (let idle = 0, turn = 0; idle < tasks; turn++) {
        const task = turn % tasks;
        const poll = await runners[task]!.pollOnce(opened[task]!, offsets, limits);
        expect(poll.rejected ?? []).toEqual([]);
        records.push(
          ...Array.from(poll.batch, ({ topic, key, value }, at) => ({ topic, key, value, ...poll.position(at) })),
        );
        counts[task]! += poll.batch.count;
        runners[task]!.advance(offsets, poll.offsets);
        idle = poll.caughtUp ? idle + 1 : 0;
      }
    } finally {
      await Promise.all(opened.map((task) => task.close()));
    }
    return { records, counts };
  };

  describe(`ranges of queries of ${name}`, () => {
    // Ends and beginnings are told apart by the clock.
    beforeEach(() => {
      vi.useFakeTimers({ toFake: ['Date'] });
    });
    afterEach(() => {
      vi.useRealTimers();
    });
    const later = () => vi.setSystemTime(Date.now() + 31_000);
    const small = async () => {
      const schema = await server.schema();
      await run(
        'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)',
      );
      return { tables: [`${schema}.t`], mode: 'bulk' };
    };
    /** As the first task begins a table, but in ranges that are as small as its rows. */
    const begunInRanges = async (config: { readonly tables: readonly string[] }, offsets: OffsetMap) => {
      const { withTask, pollOnce, advance } = taskOf(config, 0, 3);
      const poll = await withTask((task) => pollOnce(task, offsets));
      expect(poll).toMatchObject({ wakes: true, caughtUp: false, moved: 64 * 1024 * 1024 });
      const [{ partition, offset }] = poll.offsets as [{ partition: never; offset: QueryOffset }];
      advance(offsets, [{ partition, offset: { ...offset, bounds: [['3'], ['6']] } }]);
      return [...poll.batch];
    };

    test.each(keys)(
      'a large table whose key is %s is read by all tasks, every row once',
      async (_, columns, key, of) => {
        const schema = await server.schema();
        const rows = 1_200;
        await server.fill(`${columns}, pad ${server.text}`, key, `${of}, repeat('x', 60000)`, rows);
        const config = { tables: [`${schema}.t`], mode: 'bulk', runs: true, excludeColumns: ['pad'] };
        const offsets: OffsetMap = new Map();
        const { records, counts } = await readByTasks(config, offsets, 2, { maxRecords: 150 });
        expect(headOf(offsets, `${schema}.t`).bounds).toHaveLength(1);
        const events = records.map(({ value }) => (value as Struct).event);
        const told = events.filter((event) => event !== undefined);
        // A range ends like a transaction: who writes those whole must not keep it.
        expect([events[0], events.at(-1), ...told]).toEqual(['begin', 'end', 'begin', 'commit', 'commit', 'end']);
        const read = records.filter((_, i) => events[i] === undefined);
        expect(new Set(read.map((one) => inspect(one.key))).size).toBe(rows);
        expect(read).toHaveLength(rows);
        for (const count of counts) expect(count).toBeGreaterThan(rows / 4);
        await run('DROP TABLE t');
      },
    );

    test('tables of any kind are shared out; all are read again, when a while is over', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int); CREATE VIEW c AS SELECT 5 AS id; CREATE TABLE d (id int PRIMARY KEY);
        INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (3), (4)`);
      const config = { tables: [`${schema}.*`], mode: 'bulk', topic: 'all' };
      const offsets: OffsetMap = new Map();
      const first = await readByTasks(config, offsets, 3);
      expect(idsOf(first.records).toSorted()).toEqual([1, 2, 3, 4, 5]);
      expect(first.counts).toEqual([2, 2, 1]);
      expect((await readByTasks(config, offsets, 3)).records, 'it rests').toEqual([]);
      later();
      await run('DELETE FROM a WHERE id = 1; INSERT INTO d VALUES (6)');
      const second = await readByTasks(config, offsets, 3);
      expect(idsOf(second.records).toSorted()).toEqual([2, 3, 4, 5, 6]);
      expect(new Set(second.records.map(({ offset }) => (offset as QueryOffset).run))).toEqual(new Set([2]));
    });

    test('the first task begins and wakes the others, who wait; the last one that reads ends it', async () => {
      const config = await small();
      const offsets: OffsetMap = new Map();
      const [first, second, third] = [0, 1, 2].map((task) => taskOf(config, task, 3)) as [Reader, Reader, Reader];
      const more = (reader: Reader) => reader.withTask((task) => task.more!(offsetsOf(offsets)));
      const poll = (reader: Reader) =>
        reader.withTask(async (task) => {
          const one = await reader.pollOnce(task, offsets);
          reader.advance(offsets, one.offsets);
          return one;
        });
      expect([await more(second), await more(first)]).toEqual(['waits', true]);
      expect(await poll(second)).toMatchObject({ caughtUp: true, waits: true, offsets: [] });
      expect(await begunInRanges(config, offsets)).toEqual([]);
      expect([await more(second), await more(first)]).toEqual([true, true]);
      expect(await poll(second)).toMatchObject({ caughtUp: true, waits: true, batch: { count: 3 } });
      expect(await poll(third)).toMatchObject({ caughtUp: true, waits: true, batch: { count: 3 } });
      expect([await more(first), await more(second)]).toEqual([true, 'waits']);
      expect(await poll(first)).toMatchObject({ caughtUp: false, batch: { count: 3 } });
      expect([await more(first), await more(second), await more(third)]).toEqual([true, true, true]);
      const end = await poll(third);
      expect(end).toMatchObject({ caughtUp: true, batch: { count: 0 }, moved: 64 * 1024 * 1024 });
      expect(end.offsets).toMatchObject([{ offset: { endedMs: expect.any(Number) } }]);
      expect([await more(first), await more(second), await more(third)]).toEqual([false, false, false]);
      later();
      expect([await more(first), await more(second), await more(third)]).toEqual([true, 'waits', 'waits']);
    });

    test('the first task begins all tables before it reads one, so that the others need not wait', async () => {
      const { tables, ...config } = await small();
      await run('CREATE TABLE u (id int PRIMARY KEY)');
      const { withTask, pollOnce, advance } = taskOf(
        { ...config, tables: [...tables, `${tables[0]!.slice(0, -1)}u`] },
        0,
        2,
      );
      await withTask(async (task) => {
        const offsets: OffsetMap = new Map();
        const wakes = [];
        for (let i = 0; i < 3; i++) {
          const poll = await pollOnce(task, offsets);
          wakes.push(poll.wakes);
          advance(offsets, poll.offsets);
        }
        expect(wakes).toEqual([true, true, undefined]);
      });
    });

    test('what a task began or read it does not begin again, however long the others take to end it', async () => {
      const config = await small();
      const offsets: OffsetMap = new Map();
      await begunInRanges(config, offsets);
      const first = taskOf(config, 0, 3);
      await first.withTask(async (task) => {
        first.advance(offsets, (await first.pollOnce(task, offsets)).offsets);
        await readByTasks(config, offsets, 3);
        later();
        expect(await task.more!(offsetsOf(offsets))).toBe(false);
        expect(await first.pollOnce(task, offsets)).toMatchObject({ caughtUp: true, batch: { count: 0 } });
      });
    });

    test.each([
      ['one task goes on with what several began', 3, 1],
      ['several go on with what one began', 1, 3],
    ])('%s', async (_, before, after) => {
      const config = { ...(await small()), runs: true };
      const offsets: OffsetMap = new Map();
      const begun = before === 1 ? [] : await begunInRanges(config, offsets);
      const { withTask, pollOnce, advance } = taskOf(config, 0, before);
      const read = await withTask(async (task) => {
        const polls = [];
        for (let i = begun.length; i < 2; i++) {
          const { batch, offsets: to } = await pollOnce(task, offsets, { maxRecords: 2 });
          polls.push(...batch);
          advance(offsets, to);
        }
        return polls;
      });
      const rest = await readByTasks(config, offsets, after, { maxRecords: 2 });
      const told = [...begun, ...read, ...rest.records].map(({ value }) => {
        const { event, id } = value as Struct;
        return event ?? id;
      });
      expect([told[0], told.at(-1)]).toEqual(['begin', 'end']);
      const ids = told.filter((one) => typeof one === 'number');
      expect(ids.toSorted()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });

    test('a table whose offset is taken away is read again, whatever its ranges say', async () => {
      const config = await small();
      const offsets: OffsetMap = new Map();
      await begunInRanges(config, offsets);
      await readByTasks(config, offsets, 3);
      offsets.delete(partitionKey({ server: 'shop', table: config.tables[0]! }));
      expect(idsOf((await readByTasks(config, offsets, 3)).records).toSorted()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });

    test('a range that was cut short goes on where it was, up to its bound', async () => {
      const config = await small();
      const offsets: OffsetMap = new Map();
      await begunInRanges(config, offsets);
      const { withTask, pollOnce, advance } = taskOf(config, 1, 3);
      await withTask(async (task) => advance(offsets, (await pollOnce(task, offsets, { maxRecords: 1 })).offsets));
      const { records } = await taskOf(config, 1, 3).withTask((task) =>
        taskOf(config, 1, 3).readAll(task, offsets, { maxRecords: 1 }),
      );
      expect(idsOf(records)).toEqual([5, 6]);
    });
  });
};

type Reader = ReturnType<typeof readerOf>;

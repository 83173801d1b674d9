import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Position, partitionKey } from '../../shared/connect/connector.ts';
import type { QueryOffset } from '../../shared/connect/query-config.ts';
import type { Struct } from '../../shared/connect/schema.ts';
import { type QueryServer, readerOf } from './query-server.ts';
import { type Delivered, type OffsetMap, offsetsOf } from './source-runner.ts';

const idsOf = (records: readonly Delivered[]) => records.map(({ value }) => (value as Struct).id);

/** A minute later: what an offset says of the past is that much longer ago. */
const minuteLater = (offsets: OffsetMap): OffsetMap =>
  changed(offsets, ({ endedMs, ...offset }) => ({
    ...offset,
    ...(endedMs === undefined ? {} : { endedMs: endedMs - 60_000 }),
  }));

const changed = (offsets: OffsetMap, change: (offset: QueryOffset) => QueryOffset): OffsetMap =>
  new Map(
    Array.from(offsets, ([key, { partition, offset }]): [string, Position<unknown>] => [
      key,
      { partition, offset: change(offset as QueryOffset) },
    ]),
  );

/** When bulk begins and ends, and what an offset is good for. */
export const describeQueryOffsets = (name: string, server: QueryServer): void => {
  const { run } = server;
  const readAll = (config: object, from: OffsetMap = new Map()) => {
    const { withTask, readAll } = readerOf(server, config);
    return withTask((task) => readAll(task, from));
  };
  const more = (config: object, offsets: OffsetMap) =>
    readerOf(server, config).withTask((task) => task.more!(offsetsOf(offsets)));

  describe(`offsets of queries of ${name}`, () => {
    // At one moment, so that bulk rests however slow the machine is.
    beforeEach(() => {
      vi.useFakeTimers({ toFake: ['Date'] });
    });
    afterEach(() => {
      vi.useRealTimers();
    });

    test('bulk reads all rows once, and all again a while after', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)');
      const config = { tables: [`${schema}.t`], mode: 'bulk' };
      expect(await more(config, new Map())).toBe(true);
      const first = await readAll(config);
      expect(idsOf(first.records)).toEqual([1, 2, 3]);
      expect(await more(config, first.offsets)).toBe(false);
      expect((await readAll(config, first.offsets)).records).toEqual([]);
      const later = minuteLater(first.offsets);
      expect(await more(config, later)).toBe(true);
      await run('DELETE FROM t WHERE id = 2');
      const second = await readAll(config, later);
      expect(idsOf(second.records)).toEqual([1, 3]);
      const runs = [first, second].map(({ records }) => records.map(({ offset }) => (offset as QueryOffset).run));
      expect(runs).toEqual([
        [1, 1, 1],
        [2, 2],
      ]);
    });

    test('a bulk that has ended has no position to lose, one that has not has', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)');
      const config = { tables: [`${schema}.t`], mode: 'bulk' };
      const { offsets } = await readAll(config);
      const elsewhere = changed(minuteLater(offsets), (offset) => ({ ...offset, server: 'other' }));
      expect(idsOf((await readAll({ ...config, where: 'id > 1' }, elsewhere)).records)).toEqual([2]);
      const midway = changed(elsewhere, ({ endedMs: _, ...offset }) => offset);
      await expect(readAll(config, midway)).rejects.toMatchObject({ code: 'LOST_POSITION' });
    });

    test('a task that ended a bulk does not begin it again, however long its last rows take to be written', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)');
      const { withTask, readAll: read, pollOnce } = readerOf(server, { tables: [`${schema}.t`], mode: 'bulk' });
      await withTask(async (task) => {
        const later = minuteLater((await read(task)).offsets);
        expect(await task.more!(offsetsOf(later))).toBe(false);
        expect(await pollOnce(task, later)).toMatchObject({ caughtUp: true, batch: { count: 0 } });
      });
    });

    test('a bulk that was cut short goes on where it was', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)');
      const config = { tables: [`${schema}.t`], mode: 'bulk' };
      const { withTask, pollOnce, advance } = readerOf(server, config);
      const offsets: OffsetMap = new Map();
      await withTask(async (task) => advance(offsets, (await pollOnce(task, offsets, { maxRecords: 2 })).offsets));
      expect(await more(config, offsets)).toBe(true);
      expect(idsOf((await readAll(config, offsets)).records)).toEqual([3]);
    });

    test('a bulk of several tables that was cut short reads each once, however long it takes', async () => {
      const schema = await server.schema();
      await run(
        'CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)',
      );
      await run('INSERT INTO a VALUES (1); INSERT INTO b VALUES (2), (3); INSERT INTO c VALUES (4)');
      const config = { tables: ['a', 'b', 'c'].map((table) => `${schema}.${table}`), mode: 'bulk' };
      const { withTask, pollOnce, advance } = readerOf(server, config);
      const offsets: OffsetMap = new Map();
      const read: unknown[] = [];
      for (let night = 0; night < 2; night++)
        for (let isOver = false; !isOver; ) {
          // Each invocation has the time for one row.
          await withTask(async (task) => {
            isOver = (await task.more!(offsetsOf(offsets))) === false;
            if (isOver) return;
            const poll = await pollOnce(task, offsets, { maxRecords: 1 });
            read.push(...Array.from(poll.batch, ({ value }) => (value as Struct).id));
            advance(offsets, poll.offsets);
            isOver = poll.caughtUp;
          });
          vi.setSystemTime(Date.now() + 60_000);
        }
      expect(read).toEqual([1, 2, 3, 4, 1, 2, 3, 4]);
    });

    test('where a row of a table without a key was read, all were, even if their end was not committed', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2), (3)');
      const config = { tables: [`${schema}.t`], mode: 'bulk' };
      const { records } = await readAll(config);
      expect(records).toHaveLength(3);
      const { partition, offset } = records.at(-1)!;
      const rest = await readAll(config, new Map([[partitionKey(partition), { partition, offset }]]));
      expect(rest.records).toEqual([]);
      expect([...rest.offsets.values()]).toMatchObject([{ offset: { after: [], endedMs: expect.any(Number) } }]);
    });

    test('that an empty table was read is committed, and then nothing is', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (id int PRIMARY KEY, at ${server.instant})`);
      const tables = [`${schema}.t`];
      const bulk = readerOf(server, { tables, mode: 'bulk' });
      await bulk.withTask(async (task) => {
        const poll = await bulk.pollOnce(task, new Map());
        expect(poll).toMatchObject({ caughtUp: true, batch: { count: 0 }, moved: 64 * 1024 * 1024 });
        const offsets = bulk.advance(new Map(), poll.offsets);
        expect(await task.more!(offsetsOf(offsets))).toBe(false);
      });
      const config = { tables, mode: 'timestamp', timestampColumns: ['at'] };
      const { withTask, pollOnce } = readerOf(server, config);
      const poll = await withTask((task) => pollOnce(task, new Map()));
      expect(poll).toMatchObject({ caughtUp: true, batch: { count: 0 }, offsets: [] });
      expect(await more(config, new Map())).toBe(false);
    });

    test('more is there where any table has a row behind its offset', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE a (id int PRIMARY KEY, at ${server.instant}); CREATE TABLE b (id int PRIMARY KEY, at ${server.instant});
        INSERT INTO a VALUES (1, '2024-01-01 00:00:00'); INSERT INTO b VALUES (1, '2024-01-01 00:00:00')`);
      const tables = [`${schema}.a`, `${schema}.b`];
      const config = { tables, mode: 'timestamp', timestampColumns: ['at'] };
      const { offsets } = await readAll(config);
      expect(await more(config, offsets)).toBe(false);
      await run(`INSERT INTO b VALUES (0, '2024-01-01 00:00:00')`);
      expect(await more(config, offsets)).toBe(false);
      await run(`INSERT INTO b VALUES (2, '2024-01-01 00:00:00')`);
      expect(await more(config, offsets)).toBe(true);
      expect(await more({ ...config, where: 'id < 2' }, new Map())).toBe(true);
    });

    test.each([
      [
        'of another server',
        {},
        (offset: QueryOffset) => ({ ...offset, server: 'other' }),
        /is of server other, and this is/,
      ],
      [
        'of another mode',
        { mode: 'bulk', timestampColumns: undefined },
        undefined,
        /is of mode timestamp, and mode is bulk/,
      ],
      ['of other columns', { timestampColumns: ['made'] }, undefined, /order by at,id, and rows are read by made,id/],
      ['of other rows', { where: 'id > 0' }, undefined, /`where` or `query` was another/],
      [
        'of too few values',
        {},
        (offset: QueryOffset) => ({ ...offset, after: ['2024-01-01'] }),
        /Set the columns back/,
      ],
    ])('an offset %s is a lost position, with what can be done', async (_what, more, change, message) => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (id int PRIMARY KEY, at ${server.instant}, made ${server.instant});
        INSERT INTO t VALUES (1, '2024-01-01 00:00:00', '2024-01-01 00:00:00')`);
      const config = { tables: [`${schema}.t`], mode: 'timestamp', timestampColumns: ['at'] };
      const { offsets } = await readAll(config);
      const lost = { code: 'LOST_POSITION', message: expect.stringMatching(message) };
      const changedOffsets = change === undefined ? offsets : changed(offsets, change);
      await expect(readAll({ ...config, ...more }, changedOffsets)).rejects.toMatchObject(lost);
      await expect(readAll({ ...config, ...more }, changedOffsets)).rejects.toThrow(/sluice offsets reset/);
    });

    test('offsets tell the last row in the words of the server', async () => {
      const schema = await server.schema();
      await run(
        `CREATE TABLE t (id int PRIMARY KEY, at ${server.wallClock}); INSERT INTO t VALUES (7, '2024-02-29 12:00:00.25')`,
      );
      const { offsets } = await readAll({
        tables: [`${schema}.t`],
        mode: 'timestamp',
        timestampColumns: ['at'],
        where: 'id > 1',
      });
      expect([...offsets.values()]).toEqual([
        {
          partition: { server: 'shop', table: `${schema}.t` },
          offset: {
            server: expect.stringMatching(/./),
            mode: 'timestamp',
            by: 'at,id',
            filter: expect.stringMatching(/^[0-9a-f]{12}$/),
            after: [expect.stringMatching(/^2024-02-29 12:00:00\.250*$/), '7'],
          },
        },
      ]);
    });

    test.each([
      ['keyFields', { mode: 'bulk', keyFields: ['n'] }, /has null as n, behind which nothing can be read/],
      ['incrementingColumn', { mode: 'incrementing', incrementingColumn: 'n' }, /has null as n/],
    ])('a row without a value of %s stops the task', async (_key, config, message) => {
      const schema = await server.schema();
      await run('CREATE TABLE t (n int); INSERT INTO t VALUES (1), (NULL), (2)');
      const { withTask, pollOnce } = readerOf(server, { tables: [`${schema}.t`], ...config });
      await withTask((task) =>
        expect(pollOnce(task, new Map(), { maxRecords: 1 })).rejects.toMatchObject({
          code: 'CONFIG_INVALID',
          message: expect.stringMatching(message),
        }),
      );
    });
  });
};

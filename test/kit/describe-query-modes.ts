import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import type { Struct } from '../../shared/connect/schema.ts';
import { type QueryServer, readerOf } from './query-server.ts';
import type { Delivered, OffsetMap } from './source-runner.ts';

const rowsOf = (records: readonly Delivered[]) => records.map(({ value }) => value as Struct);
const idsOf = (records: readonly Delivered[]) => rowsOf(records).map(({ id }) => id);
const byTimestamp = { mode: 'timestamp', timestampColumns: ['at'] };

/** What each mode reads, when, and how it cuts. */
export const describeQueryModes = (name: string, server: QueryServer): void => {
  const { run } = server;
  const readAll = (config: object, from: OffsetMap = new Map()) => {
    const { withTask, readAll } = readerOf(server, config);
    return withTask((task) => readAll(task, from));
  };

  describe(`modes of queries of ${name}`, () => {
    test('timestamp: a row that changes comes again, one that is older than what was read does not', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (id int PRIMARY KEY, at ${server.instant});
        INSERT INTO t VALUES (1, '2024-01-01 00:00:02'), (2, '2024-01-01 00:00:01.000001'), (3, '2024-01-01 00:00:01'), (4, NULL)`);
      const config = { tables: [`${schema}.t`], ...byTimestamp };
      const first = await readAll(config);
      expect(first.records.map(({ topic, key, value }) => [topic, key, (value as Struct).at])).toEqual([
        [`shop.${schema}.t`, { id: 3 }, expect.stringMatching(/^2024-01-01T00:00:01(\.0+)?Z$/)],
        [`shop.${schema}.t`, { id: 2 }, '2024-01-01T00:00:01.000001Z'],
        [`shop.${schema}.t`, { id: 1 }, expect.stringMatching(/^2024-01-01T00:00:02(\.0+)?Z$/)],
      ]);
      await run(
        `UPDATE t SET at = '2024-01-01 00:00:03' WHERE id = 2; UPDATE t SET at = '2024-01-01 00:00:00' WHERE id = 3`,
      );
      expect(idsOf((await readAll(config, first.offsets)).records)).toEqual([2]);
    });

    test('incrementing: new rows come, whatever becomes of the others', async () => {
      const schema = await server.schema();
      await run(
        'CREATE TABLE t (id bigint PRIMARY KEY, name varchar(9)); INSERT INTO t VALUES (-5, NULL), (9007199254740993, NULL)',
      );
      const config = { tables: [`${schema}.t`], mode: 'incrementing', incrementingColumn: 'id' };
      const first = await readAll(config);
      expect(idsOf(first.records)).toEqual([-5n, 9007199254740993n]);
      await run(`UPDATE t SET name = 'x'; INSERT INTO t VALUES (9007199254740992, 'y'), (9007199254740994, 'z')`);
      expect(idsOf((await readAll(config, first.offsets)).records)).toEqual([9007199254740994n]);
    });

    test('large numbers of a query, page by page', async () => {
      const schema = await server.schema();
      const ids = [9007199254740992n, 9007199254740993n, 9007199254740994n];
      await run(`CREATE TABLE t (id bigint); INSERT INTO t VALUES (${ids.join('), (')})`);
      const config = { query: `SELECT id + 0 AS id FROM ${schema}.t`, topic: 'q' };
      for (const way of [
        { mode: 'incrementing', incrementingColumn: 'id' },
        { mode: 'bulk', keyFields: ['id'] },
      ]) {
        const { withTask, readAll: read } = readerOf(server, { ...config, ...way });
        const { records } = await withTask((task) => read(task, new Map(), { maxRecords: 1 }));
        expect(idsOf(records)).toEqual(ids);
      }
    });

    test('timestamp+incrementing: rows of one timestamp are told apart by the number', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (id int PRIMARY KEY, n int, at ${server.instant});
        INSERT INTO t VALUES (1, 20, '2024-01-01 00:00:01'), (2, 10, '2024-01-01 00:00:01'), (3, 5, '2024-01-01 00:00:02')`);
      const config = {
        tables: [`${schema}.t`],
        ...byTimestamp,
        mode: 'timestamp+incrementing',
        incrementingColumn: 'n',
      };
      const first = await readAll(config);
      expect(idsOf(first.records)).toEqual([2, 1, 3]);
      await run(
        `INSERT INTO t VALUES (4, 6, '2024-01-01 00:00:02'), (5, 4, '2024-01-01 00:00:02'), (6, 1, '2024-01-01 00:00:03')`,
      );
      expect(idsOf((await readAll(config, first.offsets)).records)).toEqual([4, 6]);
    });

    test('of several timestamp columns the first that is not null counts; reading begins at timestampInitialMs', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (id int PRIMARY KEY, a ${server.wallClock} NULL, b ${server.wallClock} NULL);
        INSERT INTO t VALUES (1, '2024-01-01 00:00:05', '2024-01-01 00:00:01'), (2, NULL, '2024-01-01 00:00:03'), (3, NULL, NULL),
          (4, '2024-01-01 00:00:02', '2024-01-01 00:00:09'), (5, '2024-01-01 00:00:04', NULL)`);
      const config = { tables: [`${schema}.t`], mode: 'timestamp', timestampColumns: ['a', 'b'] };
      expect(idsOf((await readAll(config)).records)).toEqual([4, 2, 5, 1]);
      const since = { ...config, timestampInitialMs: Date.UTC(2024, 0, 1, 0, 0, 3) };
      expect(idsOf((await readAll(since)).records)).toEqual([2, 5, 1]);
      // What 03:00 in Berlin is, is 02:00 of UTC.
      const berlin = { ...since, dbTimezone: '+01:00', timestampInitialMs: Date.UTC(2023, 11, 31, 23, 0, 4) };
      expect(idsOf((await readAll(berlin)).records)).toEqual([5, 1]);
    });

    test('a transaction that commits late, within the delay, is read in its place; behind it, it is not', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (id int PRIMARY KEY, at ${server.instant} DEFAULT CURRENT_TIMESTAMP(6))`);
      const config = { tables: [`${schema}.t`], ...byTimestamp };
      const late = await server.session();
      try {
        await late.run('BEGIN');
        await late.run('INSERT INTO t (id) VALUES (1)');
        await run('INSERT INTO t (id) VALUES (2)');
        const delayed = await readAll({ ...config, timestampDelayIntervalMs: 3_600_000 });
        expect(delayed.records).toEqual([]);
        const hasty = await readAll(config);
        expect(idsOf(hasty.records)).toEqual([2]);
        await late.run('COMMIT');
        expect(idsOf((await readAll(config, delayed.offsets)).records)).toEqual([1, 2]);
        expect((await readAll(config, hasty.offsets)).records).toEqual([]);
      } finally {
        await late.end();
      }
    });

    test.each([-5, 0, 5])('a wall clock %i hours ahead is compared in its zone', async (hours) => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (id int PRIMARY KEY, at ${server.wallClock});
        INSERT INTO t VALUES (1, ${server.clockAt(hours - 2)}), (2, ${server.clockAt(hours - 0.1)})`);
      const zone = `${hours < 0 ? '-' : '+'}0${Math.abs(hours)}:00`;
      const config = { tables: [`${schema}.t`], ...byTimestamp, dbTimezone: zone };
      const within = (timestampDelayIntervalMs: number) => readAll({ ...config, timestampDelayIntervalMs });
      expect(idsOf((await within(3_600_000)).records)).toEqual([1]);
      expect(idsOf((await within(0)).records)).toEqual([1, 2]);
      expect(idsOf((await within(3 * 3_600_000)).records)).toEqual([]);
    });

    test('the clock is that of the server', async () => {
      const schema = await server.schema();
      await run(
        `CREATE TABLE t (id int PRIMARY KEY, at ${server.instant} DEFAULT CURRENT_TIMESTAMP(6)); INSERT INTO t (id) VALUES (1)`,
      );
      const config = { tables: [`${schema}.t`], ...byTimestamp, timestampDelayIntervalMs: 60_000 };
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 86_400_000 });
      try {
        expect((await readAll(config)).records).toEqual([]);
      } finally {
        vi.useRealTimers();
      }
    });

    test('a timestamp of whole seconds is left until its second is over', async () => {
      const schema = await server.schema();
      const seconds = server.instant.replace('(6)', '(0)').replace(/^timestamptz$/, 'timestamptz(0)');
      await run(`CREATE TABLE t (id int PRIMARY KEY, at ${seconds}); CREATE TABLE d (id int PRIMARY KEY, at date);
        INSERT INTO d VALUES (1, '2024-01-01'), (2, ${server.today})`);
      const task = readerOf(server, { tables: [`${schema}.t`], ...byTimestamp });
      await task.withTask(async (source) => {
        // Each row is written and looked for within one second, or it says nothing.
        for (let id = 1; id <= 20; id++) {
          await run(`DELETE FROM t; INSERT INTO t VALUES (${id}, ${server.thisSecond})`);
          const { records } = await task.readAll(source);
          const [{ same } = { same: 0 }] = await server.rows<{ same: unknown }>(
            `SELECT (at = ${server.thisSecond}) AS same FROM t`,
          );
          if (Number(same) === 1) expect(records).toEqual([]);
        }
      });
      expect(idsOf((await readAll({ tables: [`${schema}.d`], ...byTimestamp })).records)).toEqual([1]);
    });

    test.each(['with', 'without'])(
      'rows of equal timestamps %s a key are neither lost nor doubled, wherever pages end',
      async (key) => {
        const schema = await server.schema();
        const isKeyed = key === 'with';
        await run(`CREATE TABLE t (id int ${isKeyed ? 'PRIMARY KEY' : ''}, at ${server.instant})`);
        const config = { tables: [`${schema}.t`], ...byTimestamp };
        const { withTask, readAll: read } = readerOf(server, config);
        const stamps = fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 25 });
        await fc.assert(
          fc.asyncProperty(
            stamps,
            fc.integer({ min: 1, max: 8 }),
            fc.constantFrom(1, 60, 1e6),
            async (seconds, maxRecords, maxBytes) => {
              await run(
                `DELETE FROM t; INSERT INTO t VALUES ${seconds.map((second, id) => `(${id}, '2024-01-01 00:00:0${second}.5')`).join()}`,
              );
              const largest = isKeyed
                ? 1
                : Math.max(
                    ...Map.groupBy(seconds, (second) => second)
                      .values()
                      .map((all) => all.length),
                  );
              const { records } = await withTask((task) =>
                read(task, new Map(), { maxRecords, maxBytes }, ({ batch }) =>
                  expect(batch.count).toBeLessThanOrEqual(isKeyed ? maxRecords : Math.max(maxRecords, largest)),
                ),
              );
              const expected = [...seconds.keys()].sort((a, b) => seconds[a]! - seconds[b]! || a - b);
              const found = idsOf(records) as number[];
              if (isKeyed) expect(found).toEqual(expected);
              else expect(found.toSorted((a, b) => seconds[a]! - seconds[b]! || a - b)).toEqual(expected);
              expect(found.map((id) => seconds[id])).toEqual(seconds.toSorted((a, b) => a - b));
            },
          ),
          { numRuns: 60 },
        );
      },
    );

    test.each([
      ['bulk', {}, /has no key, and more rows than can be read at once/],
      ['timestamp', { timestampColumns: ['at'] }, /have the same at, 2024-01-01 .*tell them apart by a primary key/],
    ])('%s: more rows that are alike than can be read at once are refused', async (mode, more, message) => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (at ${server.instant}); INSERT INTO t VALUES ('2024-01-01 00:00:00')`);
      for (let rows = 1; rows < 20_000; rows *= 2) await run(`INSERT INTO t SELECT * FROM t LIMIT ${20_000 - rows}`);
      const config = { tables: [`${schema}.t`], mode, ...more };
      expect((await readAll(config)).records).toHaveLength(20_000);
      await run('INSERT INTO t SELECT * FROM t LIMIT 1');
      await expect(readAll(config)).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringMatching(message),
      });
    });

    test('keys of several columns, of any type, page by page', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (a varchar(9), b decimal(6,2), c ${server.bytes}, d date, PRIMARY KEY (a, b, c, d))`);
      const values = ["'x'", "'X'", "'ä\\\\'''", "''"].flatMap((a) =>
        ['-1.50', '0', '9.99'].flatMap((b) =>
          [`${server.hex('00ff')}`, `${server.hex('5c27')}`].map((c) => `(${a}, ${b}, ${c}, '2024-02-29')`),
        ),
      );
      await run(
        `INSERT INTO t VALUES ${server.caseless ? values.filter((row) => !row.startsWith("('X'")).join() : values.join()}`,
      );
      const whole = await readAll({ tables: [`${schema}.t`], mode: 'bulk' });
      const { withTask, readAll: read } = readerOf(server, { tables: [`${schema}.t`], mode: 'bulk' });
      const single = await withTask((task) => read(task, new Map(), { maxRecords: 1 }));
      expect(single.records).toEqual(whole.records);
      expect(whole.records).toHaveLength(server.caseless ? 18 : 24);
    });

    test('what waits for the server is cut when the signal aborts', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)');
      const { withTask, pollOnce } = readerOf(server, { tables: [`${schema}.t`], mode: 'bulk', where: server.waits });
      const stop = new AbortController();
      await withTask(async (task) => {
        const poll = pollOnce(task, new Map(), { signal: stop.signal });
        await server.untilWaits();
        stop.abort();
        await expect(poll).rejects.toMatchObject({ code: 'STOPPED' });
      });
    });
  });
};

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { QueryOffset } from '../../shared/connect/query-config.ts';
import type { Struct } from '../../shared/connect/schema.ts';
import { type QueryServer, readerOf, ways } from './query-server.ts';
import { type Delivered, type OffsetMap, offsetsOf } from './source-runner.ts';

/** Rows by their id, what is told of runs by its event. */
const told = ({ records }: { readonly records: readonly Delivered[] }) =>
  records.map(({ value }) => {
    const { event, run, scope, id } = value as Struct;
    return event === undefined ? id : event === 'begin' ? [event, run, scope] : [event, run];
  });

/** What is told to begin and to end, so that a sink can show it whole. */
export const describeQueryRuns = (name: string, server: QueryServer): void => {
  const { run } = server;
  const readAll = (config: object, from: OffsetMap = new Map(), limits = {}) => {
    const { withTask, readAll } = readerOf(server, config);
    return withTask((task) => readAll(task, from, limits));
  };
  const more = (config: object, offsets: OffsetMap) =>
    readerOf(server, config).withTask((task) => task.more!(offsetsOf(offsets)));
  /** Three rows, of the first three seconds. */
  const threeRows = async () => {
    const schema = await server.schema();
    await run(`CREATE TABLE t (id int PRIMARY KEY, at ${server.instant}); ${insert(1, 2, 3)}`);
    return { schema, table: `${schema}.t` };
  };
  const insert = (...ids: readonly number[]) =>
    `INSERT INTO t VALUES ${ids.map((id) => `(${id}, '2024-01-01 00:00:0${id}.5')`).join()}`;
  const isRun = (text: RegExp) => expect.stringMatching(text);

  describe(`runs of queries of ${name}`, () => {
    describe('at one moment, so that bulk rests', () => {
      beforeEach(() => {
        vi.useFakeTimers({ toFake: ['Date'] });
      });
      afterEach(() => {
        vi.useRealTimers();
      });

      test('bulk: each reading is told to begin and to end, and an attempt again is the same run', async () => {
        const { schema } = await threeRows();
        await run('CREATE TABLE u (id int)');
        const config = { tables: [`${schema}.t`, `${schema}.u`], mode: 'bulk', runs: true };
        const reading = (number: number, ids: readonly number[]) =>
          Object.entries({ t: ids, u: [] }).flatMap(([table, rows]) => {
            const of = `i1/${schema}.${table}/${number}`;
            return [['begin', of, 'replace'], ...rows, ['end', of]];
          });
        const first = await readAll(config);
        expect(told(first)).toEqual(reading(1, [1, 2, 3]));
        for (let cut = 1; cut < first.records.length; cut++)
          expect(told(await readAll(config, first.upTo(cut)))).toEqual(told(first).slice(cut));
        await run('DELETE FROM t WHERE id = 2');
        vi.setSystemTime(Date.now() + 2_000);
        expect(told(await readAll(config, first.offsets))).toEqual(reading(2, [1, 3]));
      });
    });

    describe.each(ways)('$mode', (way) => {
      test('what was there when reading began is a run; what comes in the meantime is of the next one', async () => {
        const { table } = await threeRows();
        const config = { tables: [table], ...way, runs: true };
        const { withTask, pollOnce, advance } = readerOf(server, config);
        const offsets: OffsetMap = new Map();
        const begin = await withTask(async (task) => {
          const poll = await pollOnce(task, offsets);
          expect(poll.caughtUp).toBe(false);
          advance(offsets, poll.offsets);
          return [...poll.batch];
        });
        await run(insert(4, 5));
        const first = await readAll(config, offsets, { maxRecords: 2 });
        const id = `i1/${table}/1/${way.mode === 'incrementing' ? '3' : '2024-01-01 00:00:03.5'}`;
        expect(begin.map(({ value }) => value)).toMatchObject([
          { event: 'begin', run: isRun(new RegExp(`^${id}`)), scope: 'merge' },
        ]);
        expect(told(first)).toEqual([1, 2, 3, ['end', (begin[0]!.value as Struct).run]]);
        const next = await readAll(config, first.offsets);
        expect(told(next)).toEqual([
          ['begin', isRun(/\/2\//), 'merge'],
          ...[4, 5],
          ['end', (next.records[0]!.value as Struct).run],
        ]);
      });

      test('cut anywhere it goes on up to the same bound, as the same run', async () => {
        const { table } = await threeRows();
        const config = { tables: [table], ...way, runs: true };
        const first = await readAll(config);
        expect(first.records).toHaveLength(5);
        await run(insert(4));
        for (let cut = 1; cut < 5; cut++) {
          expect(await more(config, first.upTo(cut))).toBe(true);
          const rest = await readAll(config, first.upTo(cut), { maxRecords: 1 });
          expect(told(rest)).toEqual(told(first).slice(cut));
        }
      });

      test('nothing is told, and nothing committed, where there is no row', async () => {
        const { table } = await threeRows();
        const config = { tables: [table], ...way, runs: true, where: 'id <> 4' };
        const { offsets } = await readAll(config);
        await run(insert(4));
        expect(await more(config, offsets)).toBe(false);
        const { withTask, pollOnce } = readerOf(server, config);
        const poll = await withTask((task) => pollOnce(task, offsets));
        expect(poll).toMatchObject({ caughtUp: true, batch: { count: 0 }, offsets: [] });
      });

      test('a run that is open when `runs` is taken away is told to its end', async () => {
        const { table } = await threeRows();
        const config = { tables: [table], ...way };
        const first = await readAll({ ...config, runs: true });
        await run(insert(4));
        const rest = await readAll(config, first.upTo(2));
        expect(told(rest)).toEqual([2, 3, ['end', (first.records[0]!.value as Struct).run]]);
        expect(told(await readAll(config, rest.offsets))).toEqual([4]);
      });
    });

    test('rows without a number make no window, and no run', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, NULL)');
      const config = { tables: [`${schema}.t`], mode: 'incrementing', incrementingColumn: 'n', runs: true };
      expect(await more(config, new Map())).toBe(false);
      expect(await more({ ...config, runs: false }, new Map()), 'it is told of, by an error').toBe(true);
      await run('INSERT INTO t VALUES (2, 7)');
      expect(await more(config, new Map())).toBe(true);
      const { offsets, records } = await readAll(config);
      expect(told({ records })).toEqual([['begin', isRun(/\/1\/7$/), 'merge'], 2, ['end', isRun(/\/1\/7$/)]]);
      expect(await more(config, offsets)).toBe(false);
    });

    test('each table is a run of its own', async () => {
      const { schema } = await threeRows();
      await run(`CREATE TABLE u (id int PRIMARY KEY, at ${server.instant}); INSERT INTO u VALUES (9, '2024-01-01')`);
      const config = {
        tables: [`${schema}.u`, `${schema}.t`],
        mode: 'timestamp',
        timestampColumns: ['at'],
        runs: true,
      };
      const { records } = await readAll(config);
      expect(Array.from(Map.groupBy(records, ({ topic }) => topic).values(), (of) => told({ records: of }))).toEqual(
        expect.arrayContaining([
          [['begin', isRun(/\.t\/1\//), 'merge'], 1, 2, 3, ['end', isRun(/\.t\/1\//)]],
          [['begin', isRun(/\.u\/1\//), 'merge'], 9, ['end', isRun(/\.u\/1\//)]],
        ]),
      );
    });

    test('a row that is changed after its run began is of the next one, one that commits late of this', async () => {
      const { table } = await threeRows();
      const config = { tables: [table], mode: 'timestamp', timestampColumns: ['at'], runs: true };
      const first = await readAll(config);
      await run(
        `UPDATE t SET at = '2024-01-01 00:00:08' WHERE id = 2; INSERT INTO t VALUES (7, '2024-01-01 00:00:03.5')`,
      );
      const rest = await readAll(config, first.upTo(2));
      expect(told(rest)).toEqual([3, 7, ['end', expect.anything()]]);
      expect(told(await readAll(config, rest.offsets))).toEqual([expect.anything(), 2, expect.anything()]);
    });

    test('an offset says which run is open, and then that none is', async () => {
      const { table } = await threeRows();
      const { offsets, upTo } = await readAll({
        ...{ tables: [table], mode: 'incrementing', incrementingColumn: 'id', runs: true },
      });
      const [midway] = upTo(2).values();
      expect(midway!.offset).toMatchObject({ after: ['1'], to: ['3'], run: 1 } satisfies Partial<QueryOffset>);
      const [ended] = offsets.values();
      expect(ended!.offset).toEqual({ ...(midway!.offset as QueryOffset), after: ['3'], to: undefined });
    });
  });
};

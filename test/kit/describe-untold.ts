import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RecordInput } from '../../shared/connect/build.ts';
import type { Struct, Value } from '../../shared/connect/schema.ts';
import { changesOf } from './changes.ts';
import { putRecords } from './put-records.ts';
import type { SqlSink } from './sql-sink.ts';

/** What a sink for tables makes of changes that leave out what did not change. */
export const describeUntold = (
  name: string,
  { withSink, run, all }: Pick<SqlSink, 'withSink' | 'run' | 'all'>,
): void => {
  const { change, tombstone } = changesOf({ a: 'int32', b: 'string' });
  const put = (...batches: RecordInput[][]) =>
    withSink({}, async (task) => {
      const rejected = [];
      for (const batch of batches) rejected.push(...(await putRecords(task, batch)).rejected);
      return rejected;
    });
  const rows = () => all('SELECT id, a, b FROM t ORDER BY id');

  describe(`${name}: a field that an update does not tell`, () => {
    const whole = change('c', 1, { a: 1, b: 'one' });
    test.each([
      ['keeps what is stored', [[whole], [change('u', 1, { a: 2 })]], [[1, 2, 'one']]],
      ['keeps what the same batch inserts', [[whole, change('u', 1, { a: 2 })]], [[1, 2, 'one']]],
      [
        'keeps what an update before it tells, whichever field each leaves out',
        [[whole], [change('u', 1, { a: 2, b: 'two' }), change('u', 1, { a: 3 }), change('u', 1, { b: 'three' })]],
        [[1, 3, 'three']],
      ],
      [
        'gives way to a whole row after it',
        [[whole, change('u', 1, { a: 2 }), change('u', 1, { a: 3, b: null })]],
        [[1, 3, null]],
      ],
      [
        'is null where the whole row said so',
        [[change('c', 1, { a: 1, b: null }), change('u', 1, { a: 2 })]],
        [[1, 2, null]],
      ],
      ['sets null where it is told', [[whole], [change('u', 1, { a: null })]], [[1, null, 'one']]],
      ['goes with its row', [[whole, change('u', 1, { a: 2 }), change('d', 1, null), tombstone(1)]], []],
      [
        'goes with its row, also where nothing else comes',
        [[whole], [tombstone(1), tombstone(2), change('u', 3, { a: 2 })]],
        [],
      ],
      [
        'does not come back with a row that is made anew',
        [[whole], [change('u', 1, { a: 2 }), tombstone(1), change('c', 1, { a: 4 }), change('u', 1, { a: 5 })]],
        [[1, 5, null]],
      ],
      ['makes no half row where there is none', [[whole], [change('u', 2, { a: 2 })]], [[1, 1, 'one']]],
      ['is each field but the key: nothing happens', [[whole], [change('u', 1, {})]], [[1, 1, 'one']]],
      ['is null in a row that is new: there was nothing before', [[whole], [change('r', 1, { a: 2 })]], [[1, 2, null]]],
    ])('%s', async (_, batches, expected) => {
      expect(await put(...batches)).toEqual([]);
      expect(await rows()).toEqual(expected);
    });

    test('keeps a value that may not be null', async () => {
      await run(
        "CREATE TABLE t (id integer PRIMARY KEY, a integer, b varchar(9) NOT NULL); INSERT INTO t VALUES (1, 1, 'one')",
      );
      expect(await put([change('u', 1, { a: 2 }), change('u', 2, { a: 2 })])).toEqual([]);
      expect(await rows()).toEqual([[1, 2, 'one']]);
    });

    test('rows that are refused are found among those that are not', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY, a smallint, b varchar(9))');
      const batch = Array.from({ length: 300 }, (_, i) => [
        change('c', i, { a: 1, b: 'b' }),
        change('u', i, { a: i % 70 === 3 ? 70_000 : 2 }),
      ]);
      const rejected = await put(
        batch.map(([c]) => c!),
        batch.map(([, u]) => u!),
      );
      expect(rejected.map(({ index }) => index)).toEqual([3, 73, 143, 213, 283]);
      expect(
        await all('SELECT a, count(*) FROM t GROUP BY a ORDER BY a').then((all) => all.map(([a, n]) => [a, Number(n)])),
      ).toEqual([
        [1, 5],
        [2, 295],
      ]);
    });

    test('a long value of many rows stays, in statements of any size', async () => {
      const long = 'x'.repeat(4_000);
      const ids = Array.from({ length: 1_200 }, (_, i) => i);
      await put(
        ids.map((id) => change('c', id, { a: id, b: 'short' })),
        ids.map((id) => change('u', id, { b: `${long}${id}` })),
        ids.map((id) => change('u', id, { a: -id })),
      );
      const [[count, sum]] = (await all(`SELECT count(*), sum(a) FROM t WHERE b = concat('${long}', -a)`)) as [Value[]];
      expect([Number(count), Number(sum)]).toEqual([1_200, -719_400]);
    });

    test('a unique value that moves between rows that leave out other fields', async () => {
      await run(
        "CREATE TABLE t (id integer PRIMARY KEY, a integer, b varchar(9) UNIQUE); INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y')",
      );
      const batch = [change('u', 1, { a: 1, b: 'free' }), change('u', 2, { b: 'x' }), change('u', 1, { a: 3, b: 'y' })];
      expect(await put(batch)).toEqual([]);
      expect(await rows()).toEqual([
        [1, 3, 'y'],
        [2, 2, 'x'],
      ]);
    });

    // Of text only the server knows whether two are one key.
    test.each(['int32', 'string'] as const)(
      'random changes of some keys (%s) leave what a model says, however they are cut',
      async (idType) => {
        const idOf = (n: number) => (idType === 'int32' ? n : String(n));
        const told = fc.record(
          { a: fc.integer({ min: 0, max: 9 }), b: fc.constantFrom('x', 'y', null) },
          { requiredKeys: [] },
        );
        const step = fc.record({
          op: fc.constantFrom('c', 'u', 'u', 'u', 'd', 'tombstone'),
          id: fc.integer({ min: 0, max: 2 }),
          topic: fc.constantFrom('t', 't', 'u'),
          told,
          cut: fc.boolean(),
        });
        const makers = {
          t: changesOf({ a: 'int32', b: 'string' }, 't', idType),
          u: changesOf({ a: 'int32', b: 'string' }, 'u', idType),
        };
        let base = 100;
        await withSink({}, async (task) => {
          await fc.assert(
            fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
              base += 10;
              const model = new Map<string, { a: Value; b: Value }>();
              let batch: RecordInput[] = [];
              const flush = async () => {
                expect((await putRecords(task, batch)).rejected).toEqual([]);
                batch = [];
              };
              for (const { op, id, topic, told, cut } of steps) {
                const { change, tombstone } = makers[topic];
                const key = `${topic}${id}`;
                const stored = model.get(key);
                if (op === 'c' || (op === 'u' && told.a !== undefined && told.b !== undefined))
                  model.set(key, { a: told.a ?? null, b: told.b ?? null });
                else if (op !== 'u') model.delete(key);
                else if (stored !== undefined) model.set(key, { ...stored, ...told });
                batch.push(
                  op === 'tombstone'
                    ? tombstone(idOf(base + id))
                    : change(op, idOf(base + id), op === 'd' ? null : (told as Struct)),
                );
                if (cut) await flush();
              }
              await flush();
              for (const topic of ['t', 'u'] as const) {
                const found = await all(
                  `SELECT id, a, b FROM ${topic} WHERE id IN ('${base}', '${base + 1}', '${base + 2}') ORDER BY id`,
                ).catch(() => []);
                const expected = [0, 1, 2].flatMap((id) => {
                  const row = model.get(`${topic}${id}`);
                  return row === undefined ? [] : [[idOf(base + id), row.a, row.b]];
                });
                expect(found).toEqual(expected);
              }
            }),
            { numRuns: 60 },
          );
        });
      },
    );
  });
};

import { describe, expect, test } from 'vitest';
import type { RecordInput } from '../../shared/connect/build.ts';
import { controlRecord } from '../../shared/connect/control.ts';
import type { Struct, Value } from '../../shared/connect/schema.ts';
import { changesOf } from './changes.ts';
import { keyed, putRecords } from './put-records.ts';
import type { SqlSink } from './sql-sink.ts';

/** What a sink for tables makes of a record that says that its table was emptied. */
export const describeTruncate = (
  name: string,
  { withSink, run, all }: Pick<SqlSink, 'withSink' | 'run' | 'all'>,
): void => {
  const { change } = changesOf({ n: 'int32' });
  const c = (id: number, n = 1) => change('c', id, { n });
  const emptied = (of: RecordInput): RecordInput => ({
    ...of,
    key: null,
    value: { ...(of.value as Struct), before: null, after: null, op: 't' },
  });
  const truncate = emptied(c(0));
  const put = (batches: readonly RecordInput[][], config: Struct = {}) =>
    withSink(config, async (task) => {
      const rejected = [];
      for (const batch of batches) rejected.push(...(await putRecords(task, batch)).rejected);
      return rejected;
    });
  const rows = () => all('SELECT id, n FROM t ORDER BY id');

  describe(`${name}: a table that was emptied`, () => {
    test.each<readonly [string, RecordInput[][], Value[][]]>([
      ['is emptied', [[c(1), c(2)], [truncate]], []],
      ['has what comes behind it', [[c(1)], [truncate, c(2)]], [[2, 1]]],
      [
        'has nothing of what came before it in the batch',
        [[c(1)], [c(2), truncate, c(3), c(1, 5)]],
        [
          [1, 5],
          [3, 1],
        ],
      ],
      [
        'is emptied as often as it was',
        [[c(1), truncate, c(1, 2), truncate, c(1, 3), c(4)]],
        [
          [1, 3],
          [4, 1],
        ],
      ],
      ['is made where it was not there', [[truncate, c(1)]], [[1, 1]]],
    ])('%s', async (_, batches, expected) => {
      expect(await put(batches)).toEqual([]);
      expect(await rows()).toEqual(expected);
    });

    test('leaves other tables alone, whose records stand between', async () => {
      const u = (id: number) => keyed(id, { n: 1 }, { n: 'int32' }, 'u');
      expect(
        await put([
          [c(1), u(1)],
          [u(2), c(2), truncate, u(3), c(3)],
        ]),
      ).toEqual([]);
      expect([await rows(), await all('SELECT id FROM u ORDER BY id')]).toEqual([[[3, 1]], [[1], [2], [3]]]);
    });

    test('is emptied where another row of the batch is refused', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY, n smallint)');
      const rejected = await put([[c(1)], [c(2, 99_999), truncate, c(3, 99_999), c(4)]]);
      expect(rejected.map(({ index }) => index).filter((index) => index !== 0)).toEqual([2]);
      expect(await rows()).toEqual([[4, 1]]);
    });

    test('children before their parents, with deletes off passed over, and refused as a row', async () => {
      await run(
        'CREATE TABLE t (id integer PRIMARY KEY, n integer); CREATE TABLE child (id integer PRIMARY KEY, t integer, FOREIGN KEY (t) REFERENCES t (id))',
      );
      const child = changesOf({ t: 'int32' }, 'child');
      const row = child.change('c', 1, { t: 1 });
      expect(
        await put([
          [c(1), row],
          [emptied(row), truncate, c(2)],
        ]),
      ).toEqual([]);
      expect([await rows(), await all('SELECT * FROM child')]).toEqual([[[2, 1]], []]);
      expect(await put([[truncate]], { delete: false })).toEqual([]);
      const rejected = await put([[truncate]], { mode: 'insert' });
      expect(rejected).toMatchObject([
        { index: 0, error: { blame: 'row', message: expect.stringMatching(/needs mode upsert/) } },
      ]);
      expect(await rows()).toEqual([[2, 1]]);
    });

    test('is emptied with the transaction that does it (transactions: atomic)', async () => {
      const commit = controlRecord('t', { event: 'commit', transaction: '1' });
      const config = { transactions: 'atomic' };
      await put([[c(1), commit]], config);
      await put([[truncate, c(2)]], config);
      expect(await rows()).toEqual([[1, 1]]);
      await put([[c(3), truncate, c(4), commit]], config);
      expect(await rows()).toEqual([[4, 1]]);
    });

    test('in a run that is its whole content, what the run had is emptied (visibility: batch)', async () => {
      const begin = controlRecord('t', { event: 'begin', run: '1', scope: 'replace' });
      const end = controlRecord('t', { event: 'end', run: '1', records: undefined });
      const config = { visibility: 'batch' };
      await put([[c(1)], [begin], [c(2), truncate, c(3)]], config);
      expect(await rows()).toEqual([[1, 1]]);
      await put([[end]], config);
      expect(await rows()).toEqual([[3, 1]]);
      await put([[truncate, c(5)]], config);
      expect(await rows()).toEqual([[5, 1]]);
    });
  });
};

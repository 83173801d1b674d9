import { describe, expect, test } from 'vitest';
import type { Struct } from '../../shared/connect/schema.ts';
import type { Delivered } from './source-runner.ts';

/** What a source of changes gives of a database that is empty for each test. */
interface Fixture {
  run(sql: string): Promise<unknown>;
  /** Begins to capture tables `a` and `b`, without rows that were there, and answers what reads the changes since. */
  capture(config: Struct): Promise<(limits?: { readonly maxRecords?: number }) => Promise<readonly Delivered[]>>;
}

const columns = 'id int PRIMARY KEY, n int';

/** A change as [table, operation, place in the transaction, place in the table's part]; the end of a transaction as [topic, 'commit']. */
const toldOf = (records: readonly Delivered[]) =>
  records.map(({ topic, value }) => {
    if (value === null) return 'tombstone';
    const { event, op, source, transaction } = value as Record<string, Struct>;
    if (event !== undefined) return [topic.split('.').at(-1), event];
    const { total_order: total, data_collection_order: collection } = transaction ?? {};
    return [source!.table, op, Number(total), Number(collection)];
  });

const idsOf = (records: readonly Delivered[]) =>
  records.flatMap(({ value }) => {
    if (value === null) return [];
    const { event, transaction } = value as Record<string, Struct>;
    return [event === undefined ? transaction!.id : transaction];
  });

/** How a source of changes tells the transactions of its database. */
export const describeTransactions = (name: string, id: RegExp, { run, capture }: Fixture): void => {
  describe(`${name}: transactions`, () => {
    const transfer = async () => {
      for (const sql of [
        `BEGIN; INSERT INTO a VALUES (1, 1), (2, 2); INSERT INTO other VALUES (1, 1); INSERT INTO b VALUES (1, 1);
         UPDATE a SET id = 3 WHERE id = 1; DELETE FROM b; COMMIT`,
        'INSERT INTO other VALUES (2, 2)',
        'INSERT INTO b VALUES (9, 9)',
        'BEGIN; INSERT INTO a VALUES (7, 7); ROLLBACK',
        'UPDATE a SET n = 0 WHERE id = 2',
      ])
        await run(sql);
    };
    const tables = `CREATE TABLE a (${columns}); CREATE TABLE b (${columns}); CREATE TABLE other (${columns})`;
    const first = [
      ...[['a', 'c', 1, 1], ['a', 'c', 2, 2], ['b', 'c', 3, 1], ['a', 'd', 4, 3], 'tombstone'],
      ...[['a', 'c', 5, 4], ['b', 'd', 6, 2], 'tombstone'],
    ];

    test('a transaction ends behind its last change, in each topic that has changes of it', async () => {
      await run(tables);
      const read = await capture({ transactions: true });
      await transfer();
      const records = await read();
      expect(toldOf(records)).toEqual([
        ...[...first, ['a', 'commit'], ['b', 'commit']],
        ...[
          ['b', 'c', 1, 1],
          ['b', 'commit'],
          ['a', 'u', 1, 1],
          ['a', 'commit'],
        ],
      ]);
      const ids = idsOf(records);
      expect(ids.filter((one) => !id.test(String(one)))).toEqual([]);
      expect([new Set(ids.slice(0, 8)).size, new Set(ids).size]).toEqual([1, 3]);
    });

    test('all tables may go to one topic, in which ends are told that nothing stands behind, or many records before', async () => {
      await run(tables);
      const read = await capture({ transactions: true, topic: 'all' });
      await transfer();
      const records = await read();
      expect(new Set(records.map(({ topic }) => topic))).toEqual(new Set(['all']));
      const end = ['all', 'commit'];
      const [b, a] = [
        ['b', 'c', 1, 1],
        ['a', 'u', 1, 1],
      ];
      expect(toldOf(records)).toEqual([...first, b, a, end]);
      // A batch that has no room for it leaves it to the next one.
      expect(toldOf(await read({ maxRecords: 1 }))).toEqual([...first, end, b, end, a, end]);
      for (let id = 100; id < 350; id++) await run(`INSERT INTO b VALUES (${id}, 1)`);
      for (const maxRecords of [1_000, 60]) {
        const told = await read({ maxRecords });
        const ends = told.flatMap(({ value }, i) => ((value as Struct | null)?.event === 'commit' ? [i] : []));
        expect(ends.at(-1)).toBe(told.length - 1);
        expect(ends.length).toBe(maxRecords === 60 ? 5 : 3);
        // Each stands behind the last record of the transaction that it tells.
        for (const at of ends) expect(new Set(idsOf(told.slice(at - 1, at + 1))).size).toBe(1);
      }
    });

    test('without the setting no end is told, and no place', async () => {
      await run(tables);
      const read = await capture({});
      await transfer();
      const values = (await read()).map(({ value }) => value as Struct | null);
      expect(values).toHaveLength(10);
      expect(values.filter((value) => value !== null && (value.transaction ?? value.event) != null)).toEqual([]);
    });
  });
};

import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { keyed, putRecords } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

const { withSink, run, all } = useSink();

describe('refused rows', () => {
  test('each one is found among many, whatever refuses it', async () => {
    await run('CREATE TABLE t (id integer PRIMARY KEY, a integer NOT NULL CHECK (a < 100), s text)');
    const bad = new Map<number, Struct>();
    for (const i of [0, 1, 7, 500, 501, 502, 1999]) bad.set(i, { a: i % 3 === 0 ? 100 : null });
    for (const i of [8, 1000, 1001]) bad.set(i, { s: '\0' });
    const records = Array.from({ length: 2000 }, (_, i) =>
      keyed(i, { a: 1, s: 'x', ...bad.get(i) }, { a: 'int32', s: 'string' }),
    );
    for (const mode of ['upsert', 'insert']) {
      await run('TRUNCATE t');
      const { rejected } = await withSink({ mode }, (task) => putRecords(task, records));
      expect(rejected.map(({ index }) => index)).toEqual([...bad.keys()].sort((a, b) => a - b));
      expect(await all('SELECT count(*)::int FROM t')).toEqual([[1990]]);
    }
  });

  test('a batch of nothing but bad rows ends', async () => {
    await run('CREATE TABLE t (id integer PRIMARY KEY, a integer CHECK (a < 0))');
    const records = Array.from({ length: 1000 }, (_, i) => keyed(i, { a: i }, { a: 'int32' }));
    const { rejected } = await withSink({}, (task) => putRecords(task, records));
    expect(rejected).toHaveLength(1000);
    expect(rejected[5]!.error.message).toMatch(/violates check constraint.*SQLSTATE 23514/);
  });

  test('the message names the table and the column', async () => {
    await run('CREATE TABLE t (id integer PRIMARY KEY, s varchar(2))');
    const { rejected } = await withSink({}, (task) => putRecords(task, [keyed(1, { s: 'abc' }, { s: 'string' })]));
    expect(rejected[0]!.error.message).toMatch(/table ".*"\."t": .*value too long.*column s: "abc"/);
  });

  test('a bad row that a good one of its key follows does not hide it, nor the other way round', async () => {
    await run('CREATE TABLE t (id integer PRIMARY KEY, a integer CHECK (a > 0))');
    const a = (id: number, n: number) => keyed(id, { a: n }, { a: 'int32' });
    const { rejected } = await withSink({}, (task) =>
      putRecords(task, [a(1, 5), a(1, -1), a(2, 7), a(3, 1), a(3, -1)]),
    );
    expect(rejected.map(({ index }) => index)).toEqual([1, 4]);
    expect(await all('SELECT * FROM t ORDER BY id')).toEqual([
      [1, 5],
      [2, 7],
      [3, 1],
    ]);
  });

  test('groups of two tables and several schemas that interleave keep their order and their indices', async () => {
    const records = Array.from({ length: 300 }, (_, i) => {
      const topic = i % 2 === 0 ? 'even' : 'odd';
      const value = i % 50 === 7 ? { s: '\0' } : { s: `v${i}` };
      return i % 6 < 3
        ? keyed(i % 10, value, { s: 'string' }, topic)
        : keyed(i % 10, { ...value, n: i }, { s: 'string', n: 'int32' }, topic);
    });
    const { rejected } = await withSink({}, (task) => putRecords(task, records));
    expect(rejected.map(({ index }) => index)).toEqual([7, 57, 107, 157, 207, 257]);
    for (const [topic, ids] of [
      ['even', [0, 2, 4, 6, 8]],
      ['odd', [1, 3, 5, 7, 9]],
    ] as const)
      expect(await all(`SELECT id, s FROM ${topic} ORDER BY id`)).toEqual(ids.map((id) => [id, `v${290 + id}`]));
  });
});

describe('rows that depend on each other', () => {
  const mail = (id: number, email: string) => keyed(id, { email }, { email: 'string' });

  test('a unique value that moves from one key to another is applied in source order', async () => {
    await run(
      "CREATE TABLE t (id integer PRIMARY KEY, email text UNIQUE); INSERT INTO t VALUES (1, 'b'), (2, 'a'), (3, 'c')",
    );
    const records = [mail(2, 'free'), mail(1, 'a'), mail(2, 'b'), keyed(3, null, { email: 'string' }), mail(4, 'c')];
    const { rejected } = await withSink({}, (task) => putRecords(task, records));
    expect(rejected).toEqual([]);
    expect(await all('SELECT id, email FROM t ORDER BY id')).toEqual([
      [1, 'a'],
      [2, 'b'],
      [4, 'c'],
    ]);
  });

  test('a value that stays taken is an order error: never a dead letter, nothing written', async () => {
    await run("CREATE TABLE t (id integer PRIMARY KEY, email text UNIQUE); INSERT INTO t VALUES (1, 'a')");
    await withSink({}, async (task) => {
      await expect(putRecords(task, [mail(2, 'b'), mail(3, 'a')])).rejects.toMatchObject({
        blame: 'order',
        retriable: true,
      });
      expect(await all('SELECT * FROM t')).toEqual([[1, 'a']]);
      expect(await task.offsets!()).toEqual([]);
    });
    await expect(withSink({ mode: 'insert' }, (task) => putRecords(task, [mail(1, 'x')]))).rejects.toMatchObject({
      blame: 'order',
    });
  });

  test('parents and children of two topics are applied in source order where a foreign key asks for it', async () => {
    await run(
      'CREATE TABLE parent (id integer PRIMARY KEY); CREATE TABLE child (id integer PRIMARY KEY, p integer REFERENCES parent); INSERT INTO parent VALUES (1)',
    );
    const child = (id: number, p: number) => keyed(id, { p }, { p: 'int32' }, 'child');
    const records = [child(1, 1), keyed(2, {}, {}, 'parent'), child(2, 2), child(1, 2), keyed(1, null, {}, 'parent')];
    expect((await withSink({}, (task) => putRecords(task, records))).rejected).toEqual([]);
    expect(await all('SELECT * FROM child ORDER BY id')).toEqual([
      [1, 2],
      [2, 2],
    ]);
    await expect(withSink({}, (task) => putRecords(task, [child(3, 9)]))).rejects.toMatchObject({ blame: 'order' });
  });

  test('a deferred constraint that fails at COMMIT is an order error, and rejects nobody twice', async () => {
    await run(
      'CREATE TABLE parent (id integer PRIMARY KEY); CREATE TABLE child (id integer PRIMARY KEY, p integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED)',
    );
    await withSink({}, async (task) => {
      let calls = 0;
      const reject = async () => void calls++;
      const records = [keyed(1, { p: 9 }, { p: 'int32' }, 'child'), { ...keyed(2, {}), key: null }];
      await expect(putRecords(task, records, { reject })).rejects.toMatchObject({ blame: 'order' });
      expect(calls).toBe(1);
      expect(await task.offsets!()).toEqual([]);
    });
  });
});

import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { keyed, putRecords, refused, structOf } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  const { openSink, withSink, database, run, all } = useSink(flavour);
  const collation = flavour === 'mariadb' ? 'utf8mb4_nopad_bin' : 'utf8mb4_bin';

  const columns = (table = 't') =>
    all(
      `SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_KEY FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '${database()}' AND TABLE_NAME = '${table}' ORDER BY ORDINAL_POSITION`,
    );

  test('a missing table is made: the key is its primary key, everything else may be null', async () => {
    const keySchema = structOf({ id: { type: 'int64' }, code: { type: 'string' } });
    const valueSchema = structOf({ name: { type: 'string' } });
    await withSink({}, (task) =>
      putRecords(task, [{ topic: 't', key: { id: 1n, code: 'c' }, keySchema, value: { name: 'a' }, valueSchema }]),
    );
    expect(await all('SELECT * FROM t')).toEqual([[1, 'c', 'a']]);
    // A key may have 3,072 bytes.
    expect(await columns()).toEqual([
      ['id', expect.stringMatching(/^bigint/), 'NO', 'PRI'],
      ['code', 'varchar(766)', 'NO', 'PRI'],
      ['name', 'longtext', 'YES', ''],
    ]);
    expect(
      await all(
        "SELECT COLLATION_NAME FROM information_schema.COLUMNS WHERE TABLE_NAME = 't' AND COLUMN_NAME = 'code'",
      ),
    ).toContainEqual([collation]);
  });

  test('create: false tells the statement instead', async () => {
    const put = withSink({ create: false }, (task) => putRecords(task, [keyed(1, {})]));
    await expect(put).rejects.toMatchObject(
      refused('CONFIG_INVALID', /CREATE TABLE IF NOT EXISTS `.*`\.`t` \(`id` int NOT NULL, PRIMARY KEY \(`id`\)\)/),
    );
  });

  test('evolve: a new field becomes a column, is left out, or stops the task', async () => {
    const first = [keyed(1, { a: 1 }, { a: 'int32' })];
    const second = [keyed(2, { a: 2, b: 'new' }, { a: 'int32', b: 'string' })];
    await withSink({}, (task) => putRecords(task, first));
    await expect(withSink({ evolve: 'fail' }, (task) => putRecords(task, second))).rejects.toMatchObject(
      refused('CONFIG_INVALID', /lacks `b`, and evolve is fail: ALTER TABLE .* ADD `b` longtext/),
    );
    await withSink({ evolve: 'ignore' }, (task) => putRecords(task, second));
    expect(await all('SELECT * FROM t ORDER BY id')).toEqual([
      [1, 1],
      [2, 2],
    ]);
    await withSink({}, (task) => putRecords(task, second));
    expect(await all('SELECT id, a, b FROM t ORDER BY id')).toEqual([
      [1, 1, null],
      [2, 2, 'new'],
    ]);
  });

  test('a column is added before the transaction: what is refused after it leaves neither rows nor offset', async () => {
    await withSink({}, (task) => putRecords(task, [keyed(1, {})]));
    const task = await openSink();
    const reject = async () => {
      throw new Error('no dead letters');
    };
    const batch = [keyed(2, { b: 1 }, { b: 'int32' }), { ...keyed(3, { b: 1 }, { b: 'int32' }), key: null }];
    await expect(putRecords(task, batch, { reject })).rejects.toThrow('no dead letters');
    expect(await task.offsets!()).toMatchObject([{ seq: 1 }]);
    await task.close();
    expect(await all('SELECT id, b FROM t')).toEqual([[1, null]]);
  });

  test('a column of another type, and a missing key, are told at once with the statements that mend them', async () => {
    await run('CREATE TABLE t (id integer, a date, b decimal(10,2)) ENGINE = MyISAM');
    const record = keyed(1, { a: 'x', b: 1.5 }, { a: 'string', b: 'float64' });
    const error = await withSink({}, (task) => putRecords(task, [record])).catch((thrown) => thrown);
    expect(error).toMatchObject(refused('CONFIG_INVALID', /MyISAM has no transactions/));
    expect(error.message).toMatch(
      /`a` is date, the records carry string, which needs longtext.*MODIFY `a` longtext.*`b` is decimal\(10,2\), the records carry float64.*ADD PRIMARY KEY \(`id`\)/,
    );
    for (const [statement] of error.message.matchAll(/ALTER TABLE [^:;]*(?=;|$)/g)) await run(statement);
    await withSink({}, (task) => putRecords(task, [record]));
    expect(await all('SELECT * FROM t')).toEqual([[1, 'x', 1.5]]);
  });

  test('a key that takes different texts for one is refused', async () => {
    await run('CREATE TABLE t (id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY)');
    const record = { ...keyed(1, {}), key: { id: 'a' }, keySchema: structOf({ id: { type: 'string' } }), value: {} };
    const valueSchema = structOf({});
    await expect(withSink({}, (task) => putRecords(task, [{ ...record, valueSchema }]))).rejects.toMatchObject(
      refused('CONFIG_INVALID', /`id` compares by utf8mb4_general_ci, which takes different keys for one: ALTER TABLE/),
    );
  });

  test('a key of JSON is refused with what to do', async () => {
    const record = { topic: 't', key: { id: 1 }, value: { n: 1 } };
    await expect(withSink({}, (task) => putRecords(task, [record]))).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      blame: 'system',
      message: expect.stringMatching(/field id is JSON, which has no key in MySQL: declare its type/),
    });
    expect(await all("SHOW TABLES LIKE 't'")).toEqual([]);
  });

  test('names: any that MySQL has; others are row errors, and two that are one to it stop the task', async () => {
    const names = ['select', 'a`b', 'ä ö', "it's", '?', 'x'.repeat(64), '%s', 'Größe'];
    const value = Object.fromEntries(names.map((name, i) => [name, i]));
    const fields = Object.fromEntries(names.map((name) => [name, 'int32' as const]));
    await withSink({ table: 'my `table`' }, (task) => putRecords(task, [keyed(1, value, fields)]));
    expect(await all('SELECT * FROM `my ``table```')).toEqual([[1, ...names.map((_, i) => i)]]);
    const bad = ['x'.repeat(65), 'ends ', '😀', ''];
    const records = bad.map((name, i) => keyed(i, { [name]: 1 }, { [name]: 'int32' }, 'bad'));
    const { rejected } = await withSink({}, (task) => putRecords(task, [keyed(9, {}, {}, 'bad'), ...records]));
    expect(rejected.map(({ index }) => index)).toEqual([1, 2, 3, 4]);
    const twins = keyed(1, { A: 1, a: 2 }, { A: 'int32', a: 'int32' }, 'twins');
    await expect(withSink({}, (task) => putRecords(task, [twins]))).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  test('a field is the column that differs in case only', async () => {
    await run('CREATE TABLE t (ID integer PRIMARY KEY, Name varchar(9))');
    const name = (id: number, text: string) => keyed(id, { name: text }, { name: 'string' });
    await withSink({}, (task) => putRecords(task, [name(1, 'a'), name(2, 'b'), name(1, 'c')]));
    expect(await all('SELECT * FROM t ORDER BY id')).toEqual([
      [1, 'c'],
      [2, 'b'],
    ]);
  });

  test('columns without a field are left alone, a key that was deleted on the way starts empty', async () => {
    await run(
      "CREATE TABLE t (id integer PRIMARY KEY, a integer, kept varchar(9) DEFAULT 'new'); INSERT INTO t VALUES (1, 1, 'old'), (2, 2, 'old')",
    );
    const a = (id: number, n: number) => keyed(id, { a: n }, { a: 'int32' });
    const batch = [a(1, 5), keyed(2, null, { a: 'int32' }), a(2, 6)];
    await withSink({}, (task) => putRecords(task, batch));
    expect(await all('SELECT * FROM t ORDER BY id')).toEqual([
      [1, 5, 'old'],
      [2, 6, 'new'],
    ]);
  });

  test('several tasks make and change the same table at once', async () => {
    const fields: Struct = { a: 'int32', b: 'string', c: 'int64' };
    const tasks = await Promise.all(['x', 'y', 'z'].map((connector) => openSink({ table: 't' }, connector)));
    await Promise.all(
      tasks.map((task, i) => {
        const [name, type] = Object.entries(fields)[i]!;
        return putRecords(task, [keyed(i, {}), keyed(i, { [name]: null }, { [name]: type as never, same: 'int32' })]);
      }),
    );
    for (const task of tasks) await task.close();
    expect((await columns()).map(([name]) => name).sort()).toEqual(['a', 'b', 'c', 'id', 'same']);
    expect(await all('SELECT count(*) FROM t')).toEqual([[3]]);
  });

  test('views are no place for records; a table of another database is', async () => {
    await run('CREATE TABLE base (id integer PRIMARY KEY); CREATE VIEW t AS SELECT * FROM base');
    await expect(withSink({}, (task) => putRecords(task, [keyed(1, {})]))).rejects.toMatchObject(
      refused('CONFIG_INVALID', /is no table \(VIEW\)/),
    );
    const other = `${database()}_other`;
    await run(`CREATE DATABASE ${other}`);
    await withSink({ table: `${other}.t` }, (task) => putRecords(task, [keyed(1, {})]));
    expect(await all(`SELECT * FROM ${other}.t`)).toEqual([[1]]);
  });

  test('structs and changes arrive as rows', async () => {
    const nested = { type: 'struct', fields: [{ name: 'x', schema: { type: 'int32' } }] } as const;
    await withSink({}, (task) => putRecords(task, [keyed(1, { at: { x: 1 } }, { at: nested })]));
    expect(await all('SELECT * FROM t')).toEqual([[1, '{"x":1}']]);
  });
});

import pg from 'pg';
import { describe, expect, test } from 'vitest';
import type { RecordInput } from '../../../shared/connect/build.ts';
import { topicReference } from '../../../shared/connect/database-config.ts';
import type { Schema, Struct } from '../../../shared/connect/schema.ts';
import { keyed, putRecords, refused, structOf } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

const { schema, openSink, withSink, run, all } = useSink();

describe('tables', () => {
  test('a missing table is made: the key is its primary key, everything else may be null', async () => {
    await withSink({}, (task) => putRecords(task, [keyed(1, { name: 'a' }, { name: { type: 'string' } })]));
    expect(await all('SELECT * FROM t')).toEqual([[1, 'a']]);
    const columns = await all(
      "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum",
    );
    expect(columns).toEqual([
      ['id', 'integer', true],
      ['name', 'text', false],
    ]);
    expect(
      await all("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'p'"),
    ).toEqual([['PRIMARY KEY (id)']]);
  });

  test('create: false tells the statement instead', async () => {
    const put = withSink({ create: false }, (task) => putRecords(task, [keyed(1, {})]));
    await expect(put).rejects.toMatchObject(
      refused('CONFIG_INVALID', /CREATE TABLE IF NOT EXISTS ".*"\."t" \("id" integer, PRIMARY KEY \("id"\)\)/),
    );
  });

  test('evolve: a new field becomes a column, is left out, or stops the task', async () => {
    const first = [keyed(1, { a: 1 }, { a: 'int32' })];
    const second = [keyed(2, { a: 2, b: 'new' }, { a: 'int32', b: 'string' })];
    await withSink({}, (task) => putRecords(task, first));
    await expect(withSink({ evolve: 'fail' }, (task) => putRecords(task, second))).rejects.toMatchObject(
      refused('CONFIG_INVALID', /lacks "b", and evolve is fail: ALTER TABLE .* ADD COLUMN IF NOT EXISTS "b" text/),
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

  test('a column of another type, and a missing key, are told at once with the statements that mend them', async () => {
    await run('CREATE TABLE t (id integer, a date, b numeric(10,2))');
    const record = keyed(1, { a: 'x', b: '1.5' }, { a: 'string', b: { type: 'decimal', optional: true } });
    await expect(withSink({}, (task) => putRecords(task, [record]))).rejects.toMatchObject(
      refused(
        'CONFIG_INVALID',
        /"a" is date, the records carry string, which needs text: ALTER TABLE .* ALTER COLUMN "a" TYPE text.*"b" is numeric\(10,2\), the records carry decimal, which needs numeric.*ADD PRIMARY KEY \("id"\)/,
      ),
    );
    expect(await all('SELECT * FROM t')).toEqual([]);
  });

  test('columns that hold less are tried: what does not fit is a row error', async () => {
    await run(
      "CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN small AS int CHECK (value < 10); CREATE TABLE t (id bigint PRIMARY KEY, n smallint, s varchar(3), m mood, d small, x numeric(5,2), u uuid, stamp timestamp)",
    );
    const fields = {
      n: 'int64',
      s: 'string',
      m: 'string',
      d: 'int32',
      x: { type: 'decimal', precision: 9, scale: 2, optional: true },
      u: 'string',
      stamp: 'timestamp',
    } as const;
    const good = {
      n: 7n,
      s: 'abc',
      m: 'ok',
      d: 9,
      x: '999.99',
      u: '6f2b9f8e-0000-4000-8000-0123456789AB',
      stamp: '2024-01-01T00:00:00Z',
    };
    const bad: Struct[] = [{ n: 40_000n }, { s: 'abcd' }, { m: 'bad' }, { d: 10 }, { x: '1000.00' }, { u: 'no' }];
    const records = [good, ...bad.map((one) => ({ ...good, ...one })), good].map((value, i) => keyed(i, value, fields));
    const { rejected } = await withSink({}, (task) => putRecords(task, records));
    expect(rejected.map(({ index }) => index)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await all('SELECT id, n, s, m, d, x, u, stamp::text FROM t ORDER BY id')).toEqual(
      ['0', '7'].map((id) => [id, 7, 'abc', 'ok', 9, '999.99', good.u.toLowerCase(), '2024-01-01 00:00:00']),
    );
  });

  test('columns that would change a value in silence are refused', async () => {
    await run(
      'CREATE TABLE t (id integer PRIMARY KEY, f real, g double precision, at timestamptz(3), wall timestamptz)',
    );
    const record = keyed(
      1,
      {},
      { f: 'float64', g: 'int64', at: 'timestamp', wall: { type: 'timestamp', local: true, optional: true } },
    );
    await expect(withSink({}, (task) => putRecords(task, [record]))).rejects.toMatchObject(
      refused(
        'CONFIG_INVALID',
        /"f" is real.*"g" is double precision.*"at" is timestamp\(3\) with time zone.*"wall" is timestamp with time zone/,
      ),
    );
  });

  test('defaults, identities and columns that records do not have are left to the table', async () => {
    await run(
      'CREATE TABLE t (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text, at timestamptz NOT NULL DEFAULT now(), kept text)',
    );
    await withSink({}, async (task) => {
      await putRecords(task, [keyed(7, { a: 'x' }, { a: 'string' })]);
      await run("UPDATE t SET kept = 'by the application'");
      await putRecords(task, [keyed(7, { a: 'y' }, { a: 'string' })]);
    });
    expect(await all('SELECT id, a, kept, at IS NOT NULL FROM t')).toEqual([[7, 'y', 'by the application', true]]);
  });

  test('any name works: quotes, capitals, spaces, reserved words, __proto__, a dot', async () => {
    const names = [
      'a"b',
      "it's",
      'UPPER',
      'two words',
      'select',
      '__proto__',
      'a.b',
      '☃',
      'ordinal',
      'deleted',
      'excluded',
      '\\',
    ];
    const value = Object.fromEntries(names.map((name, i) => [name, i]));
    Object.defineProperty(value, '__proto__', { value: 5, enumerable: true });
    const fields = structOf(Object.fromEntries(names.map((name) => [name, 'int32' as const])));
    const valueSchema = { ...fields, fields: names.map((name) => ({ name, schema: { type: 'int32' as const } })) };
    const table = 'My "table"';
    await withSink({ table, keyFields: ['select', 'a"b'] }, async (task) => {
      const record = { topic: 't', value, valueSchema: valueSchema as Schema };
      await putRecords(task, [record, record]);
      await putRecords(task, [record]);
    });
    const list = names.map((name) => pg.escapeIdentifier(name)).join(', ');
    expect(await all(`SELECT ${list} FROM ${pg.escapeIdentifier(table)}`)).toEqual([names.map((_, i) => i)]);
  });

  test.each([
    ['x'.repeat(64), /end at 63 bytes, this has 64/],
    ['ä'.repeat(32), /end at 63 bytes, this has 64/],
    ['a\0b', /no U\+0000 in names/],
    ['', /needs a name/],
    ['xmin', /system column/],
  ])('a field that no column can be named after refuses the records that have it: %j', async (name, problem) => {
    const { rejected } = await withSink({}, (task) =>
      putRecords(task, [
        { topic: 't', value: { id: 1 } },
        { topic: 't', value: { id: 2, [name]: 1 } },
      ]),
    );
    expect(rejected).toMatchObject([{ index: 1, error: refused('RECORD_REJECTED', problem, { blame: 'row' }) }]);
    expect(await all('SELECT * FROM t')).toEqual([[1]]);
  });

  test('a topic names its table, and its schema before a dot', async () => {
    await run(`CREATE SCHEMA ${schema()}_other`);
    await withSink({}, (task) =>
      putRecords(task, [keyed(1, {}, {}, `${schema()}_other.orders`), keyed(2, {}, {}, 'Orders-2024')]),
    );
    expect(await all(`SELECT * FROM ${schema()}_other.orders`)).toEqual([[1]]);
    expect(await all('SELECT * FROM "Orders-2024"')).toEqual([[2]]);
    for (const topic of ['a.b.c', 'x'.repeat(64)])
      await expect(withSink({}, (task) => putRecords(task, [keyed(1, {}, {}, topic)]))).rejects.toMatchObject(
        refused('CONFIG_INVALID', /cannot go to table/),
      );
    await withSink({ table: `all_of_${topicReference}` }, (task) => putRecords(task, [keyed(1, {}, {}, 't')]));
    expect(await all('SELECT * FROM all_of_t')).toEqual([[1]]);
  });

  test('two tasks that make and widen a table at the same moment both succeed', async () => {
    const tasks = await Promise.all(['a', 'b', 'c'].map((connector) => openSink({}, connector)));
    for (let round = 0; round < 5; round++) {
      const fields = { [`f${round}`]: 'int32' as const };
      await Promise.all(
        tasks.map((task, i) => putRecords(task, [keyed(i, { [`f${round}`]: round }, fields, `t${round % 2}`)])),
      );
    }
    for (const task of tasks) await task.close();
    expect(await all('SELECT id, f0, f2, f4 FROM t0 ORDER BY id')).toEqual([0, 1, 2].map((id) => [id, 0, 2, 4]));
  });
});

describe('keys', () => {
  const value = { id: 5, part: 'p', note: 'n' };
  const valueSchema = structOf({ id: 'int32', part: 'string', note: 'string' });

  test('keyFields may come from the value', async () => {
    await withSink({ keyFields: ['part', 'id'] }, async (task) => {
      await putRecords(task, [
        { topic: 't', value, valueSchema },
        { topic: 't', value: { ...value, note: 'later' }, valueSchema },
      ]);
    });
    expect(await all('SELECT part, id, note FROM t')).toEqual([['p', 5, 'later']]);
  });

  test('a key that is no struct needs a name', async () => {
    const record = {
      topic: 't',
      key: 'k-1',
      keySchema: { type: 'string' } as Schema,
      value: { note: 'n' },
      valueSchema: structOf({ note: 'string' }),
    };
    await expect(withSink({}, (task) => putRecords(task, [record]))).rejects.toMatchObject(
      refused('CONFIG_INVALID', /set keyFields to one name, or mode to insert/),
    );
    await withSink({ keyFields: ['code'] }, async (task) => {
      await putRecords(task, [record, { ...record, key: 'k-2' }]);
      await putRecords(task, [{ ...record, key: 'k-2', value: null }]);
    });
    expect(await all('SELECT code, note FROM t')).toEqual([['k-1', 'n']]);
  });

  test('records without the key, or with null in it, are refused', async () => {
    const records: RecordInput[] = [
      keyed(1, {}),
      { ...keyed(2, {}), key: null },
      { ...keyed(3, {}), key: { id: null } },
      { ...keyed(4, null), key: null },
    ];
    const { rejected } = await withSink({}, (task) => putRecords(task, records));
    expect(rejected.map(({ index }) => index)).toEqual([1, 2, 3]);
    const other = await withSink({ keyFields: ['nowhere'], table: 'other' }, (task) =>
      putRecords(task, [keyed(1, {})]),
    );
    expect(other.rejected).toMatchObject([{ index: 0, error: refused('RECORD_REJECTED', /no field nowhere/) }]);
  });

  test('a value that is no struct goes to the column value', async () => {
    await withSink({}, (task) =>
      putRecords(task, [
        { topic: 'plain', value: [1, 'two'] },
        { topic: 'plain', value: 3 },
      ]),
    );
    expect(await all('SELECT value FROM plain')).toEqual([[[1, 'two']], [3]]);
    await withSink({ keyFields: ['k'] }, async (task) => {
      await putRecords(task, [{ topic: 'pairs', key: 'a', value: 'text', valueSchema: { type: 'string' } }]);
      await putRecords(task, [{ topic: 'pairs', key: 'b', value: null }]);
    });
    expect(await all('SELECT k, value FROM pairs')).toEqual([['a', 'text']]);
  });

  test('mode insert stores the fields of key and value, and makes no primary key', async () => {
    const record = {
      topic: 't',
      key: { id: 1 },
      keySchema: structOf({ id: 'int32' }),
      value: { note: 'n' },
      valueSchema: structOf({ note: 'string' }),
    };
    const { rejected } = await withSink({ mode: 'insert' }, (task) =>
      putRecords(task, [record, { ...record, value: null }, record]),
    );
    expect(rejected).toMatchObject([{ index: 1, error: { blame: 'row' } }]);
    expect(await all('SELECT id, note FROM t')).toEqual([
      [1, 'n'],
      [1, 'n'],
    ]);
  });

  test('delete: false passes tombstones over', async () => {
    const { rejected } = await withSink({ delete: false }, (task) =>
      putRecords(task, [keyed(1, {}), keyed(1, null), { ...keyed(2, null), key: null }]),
    );
    expect(rejected).toEqual([]);
    expect(await all('SELECT * FROM t')).toEqual([[1]]);
  });

  test('a row that is deleted and comes again has nothing of its past', async () => {
    const both = { a: 'string', b: 'string' } as const;
    await withSink({}, async (task) => {
      await putRecords(task, [keyed(1, { a: 'a', b: 'b' }, both)]);
      await putRecords(task, [keyed(1, null, { a: 'string' }), keyed(1, { a: 'again' }, { a: 'string' })]);
    });
    expect(await all('SELECT a, b FROM t')).toEqual([['again', null]]);
  });
});

import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { keyed, putRecords, structOf } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  const { withSink, openSink, run, all } = useSink(flavour, ['--max-allowed-packet=1M']);

  describe('refused rows', () => {
    test('each one is found among many, whatever refuses it', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY, a tinyint NOT NULL, s varchar(3))');
      const bad = new Map<number, Struct>();
      for (const i of [0, 1, 7, 500, 501, 502, 1999]) bad.set(i, { a: i % 3 === 0 ? 1000 : null });
      for (const i of [8, 1000, 1001]) bad.set(i, { s: 'long' });
      const records = Array.from({ length: 2000 }, (_, i) =>
        keyed(i, { a: 1, s: 'x', ...bad.get(i) }, { a: 'int32', s: 'string' }),
      );
      for (const mode of ['upsert', 'insert']) {
        await run('TRUNCATE t');
        const { rejected } = await withSink({ mode }, (task) => putRecords(task, records));
        expect(rejected.map(({ index }) => index)).toEqual([...bad.keys()].sort((a, b) => a - b));
        expect(await all('SELECT count(*) FROM t')).toEqual([[1990]]);
      }
    });

    test('a batch of nothing but bad rows ends, and each says where and why', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY, s varchar(2))');
      const records = Array.from({ length: 300 }, (_, i) => keyed(i, { s: `s${i + 10}` }, { s: 'string' }));
      const { rejected } = await withSink({}, (task) => putRecords(task, records));
      expect(rejected).toHaveLength(300);
      expect(rejected[5]!.error.message).toMatch(/table `.*`\.`t`: MySQL: Data too long for column 's'.*error 1406/);
    });

    test('a bad row that a good one of its key follows does not hide it', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY, a tinyint)');
      const a = (id: number, n: number) => keyed(id, { a: n }, { a: 'int32' });
      const batch = [a(1, 1000), a(1, 5), a(2, 7), a(3, 1), a(3, -1000)];
      const { rejected } = await withSink({}, (task) => putRecords(task, batch));
      expect(rejected.map(({ index }) => index).filter((index) => index !== 0)).toEqual([4]);
      expect(await all('SELECT * FROM t ORDER BY id')).toEqual([
        [1, 5],
        [2, 7],
        [3, 1],
      ]);
    });

    test('groups of two tables and several schemas that interleave keep their order and their indices', async () => {
      const records = Array.from({ length: 300 }, (_, i) => {
        const topic = i % 2 === 0 ? 'even' : 'odd';
        const value = i % 50 === 7 ? { s: 'v', f: Number.NaN } : { s: `v${i}`, f: i };
        const fields = { s: 'string', f: 'float64' } as const;
        return i % 6 < 3
          ? keyed(i % 10, value, fields, topic)
          : keyed(i % 10, { ...value, n: i }, { ...fields, n: 'int32' }, topic);
      });
      const { rejected } = await withSink({}, (task) => putRecords(task, records));
      expect(rejected.map(({ index }) => index)).toEqual([7, 57, 107, 157, 207, 257]);
      for (const [topic, ids] of [
        ['even', [0, 2, 4, 6, 8]],
        ['odd', [1, 3, 5, 7, 9]],
      ] as const)
        expect(await all(`SELECT id, s FROM ${topic} ORDER BY id`)).toEqual(ids.map((id) => [id, `v${290 + id}`]));
    });

    test('a batch larger than a packet goes in several, a row larger than one is refused', async () => {
      const s = 'x'.repeat(200_000);
      const records = Array.from({ length: 12 }, (_, i) => keyed(i, { s: i === 5 ? s.repeat(6) : s }, { s: 'string' }));
      const { rejected } = await withSink({}, (task) => putRecords(task, records));
      expect(rejected.map(({ index }) => index)).toEqual([5]);
      expect(rejected[0]!.error.message).toMatch(/the row takes 12000\d\d bytes, and max_allowed_packet .* 1048576/);
      expect(await all('SELECT count(*), sum(length(s)) FROM t')).toEqual([[11, String(11 * 200_000)]]);
    });
  });

  describe('rows that depend on each other', () => {
    const mail = (id: number, email: string) => keyed(id, { email }, { email: 'string' });

    test('a unique value that moves from one key to another is applied in source order', async () => {
      await run(
        "CREATE TABLE t (id integer PRIMARY KEY, email varchar(9) UNIQUE); INSERT INTO t VALUES (1, 'b'), (2, 'a'), (3, 'c')",
      );
      const batch = [mail(2, 'free'), mail(1, 'a'), mail(2, 'b'), keyed(3, null, { email: 'string' }), mail(4, 'c')];
      const { rejected } = await withSink({}, (task) => putRecords(task, batch));
      expect(rejected).toEqual([]);
      expect(await all('SELECT id, email FROM t ORDER BY id')).toEqual([
        [1, 'a'],
        [2, 'b'],
        [4, 'c'],
      ]);
    });

    test('the row of another key that has a unique value is not overwritten: an order error', async () => {
      await run(
        "CREATE TABLE t (id integer PRIMARY KEY, email varchar(9) UNIQUE, n integer); INSERT INTO t VALUES (1, 'a', 1)",
      );
      const task = await openSink();
      const taken = { blame: 'order', retriable: true };
      await expect(putRecords(task, [mail(2, 'b'), mail(3, 'a')])).rejects.toMatchObject(taken);
      expect(await all('SELECT * FROM t')).toEqual([[1, 'a', 1]]);
      expect(await task.offsets!()).toEqual([]);
      await task.close();
      const insert = withSink({ mode: 'insert' }, (one) => putRecords(one, [mail(1, 'x')]));
      await expect(insert).rejects.toMatchObject(taken);
    });

    test('parents and children of two topics are applied in source order where a foreign key asks for it', async () => {
      await run(
        'CREATE TABLE parent (id integer PRIMARY KEY); CREATE TABLE child (id integer PRIMARY KEY, p integer, FOREIGN KEY (p) REFERENCES parent (id)); INSERT INTO parent VALUES (1)',
      );
      const child = (id: number, p: number) => keyed(id, { p }, { p: 'int32' }, 'child');
      const batch = [child(1, 1), keyed(2, {}, {}, 'parent'), child(2, 2), child(1, 2), keyed(1, null, {}, 'parent')];
      expect((await withSink({}, (task) => putRecords(task, batch))).rejected).toEqual([]);
      expect(await all('SELECT * FROM child ORDER BY id')).toEqual([
        [1, 2],
        [2, 2],
      ]);
      await expect(withSink({}, (task) => putRecords(task, [child(3, 9)]))).rejects.toMatchObject({ blame: 'order' });
    });
  });

  describe('keys', () => {
    const upserted = async (fields: Struct, keys: readonly Struct[]) => {
      const keySchema = {
        type: 'struct' as const,
        fields: Object.entries(fields).map(([name, schema]) => ({ name, schema: schema as never })),
      };
      const valueSchema = { type: 'struct' as const, fields: [{ name: 'n', schema: { type: 'int32' as const } }] };
      const records = keys.map((key, n) => ({ topic: 't', key, keySchema, value: { n }, valueSchema }));
      const deletes = keys.slice(0, 1).map((key) => ({ topic: 't', key, keySchema, value: null, valueSchema }));
      const { rejected } = await withSink({}, async (task) => {
        await putRecords(task, deletes);
        const put = await putRecords(task, records);
        await putRecords(task, deletes);
        return put;
      });
      return { rejected, left: (await all('SELECT n FROM t ORDER BY n')).flat() };
    };

    test.each([
      [
        'text by its bytes',
        { id: { type: 'string' } },
        [{ id: 'a' }, { id: 'A' }, { id: 'ä' }, { id: "a'\\" }],
        [1, 2, 3],
      ],
      ['bytes', { id: { type: 'bytes' } }, [{ id: Buffer.from([0, 39, 92, 255]) }, { id: Buffer.from([0]) }], [1]],
      ['integers beyond 2^53', { id: { type: 'int64' } }, [{ id: 9007199254740993n }, { id: 9007199254740992n }], [1]],
      [
        'decimals by their value',
        { id: { type: 'decimal' } },
        [{ id: '1.0' }, { id: '9007199254740993.5' }, { id: '01' }],
        [1],
      ],
      [
        'timestamps by their value',
        { id: { type: 'timestamp' } },
        [{ id: '2024-01-01T00:00:00Z' }, { id: '2024-01-01T00:00:00.5Z' }, { id: '2024-01-01T00:00:00.000Z' }],
        [1],
      ],
      [
        'two columns',
        { a: { type: 'string' }, b: { type: 'int32' } },
        [
          { a: 'x', b: 1 },
          { a: 'x', b: 2 },
          { a: 'x2', b: 1 },
        ],
        [1, 2],
      ],
      ['doubles', { id: { type: 'float64' } }, [{ id: 0.1 }, { id: 0.2 }], [1]],
      ['booleans', { id: { type: 'boolean' } }, [{ id: true }, { id: false }], [1]],
      [
        'uuids',
        { id: { type: 'uuid' } },
        [{ id: '00000000-0000-4000-8000-000000000000' }, { id: '00000000-0000-4000-8000-000000000001' }],
        [1],
      ],
    ] as const)('%s', async (_, fields, keys, left) => {
      expect(await upserted(fields as never, keys as never)).toEqual({ rejected: [], left });
    });

    test('a key with spaces at its end is its own, or refused where the server takes it for the one without', async () => {
      const { rejected, left } = await upserted({ id: { type: 'string' } }, [{ id: 'a' }, { id: 'a ' }]);
      if (flavour === 'mariadb') expect({ rejected, left }).toEqual({ rejected: [], left: [1] });
      else
        expect(rejected).toMatchObject([
          { index: 1, error: { message: expect.stringMatching(/utf8mb4_bin takes a key/) } },
        ]);
    });

    test('decimals that are one double are keys apart, also where the server reads the whole table', async () => {
      const keySchema = structOf({ id: { type: 'decimal' } });
      const row = (digit: number) => ({
        ...{ topic: 't', key: { id: `9007199254740993.${digit}` }, keySchema },
        ...{ value: { n: digit }, valueSchema: structOf({ n: 'int32' }) },
      });
      const rows = Array.from({ length: 9 }, (_, i) => row(i + 1));
      await withSink({}, async (task) => {
        await putRecords(task, rows);
        await putRecords(
          task,
          rows.slice(1).map((one) => ({ ...one, value: null })),
        );
      });
      expect(await all('SELECT n FROM t')).toEqual([[1]]);
    });

    test('0 in a column that counts by itself is 0', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY AUTO_INCREMENT, s longtext)');
      await withSink({}, (task) => putRecords(task, [keyed(0, { s: 'zero' }, { s: 'string' })]));
      expect(await all('SELECT * FROM t')).toEqual([[0, 'zero']]);
    });

    test('nothing but deletes of one table, and then rows of another', async () => {
      const batch = [keyed(1, null, { s: 'string' }), keyed(2, { s: 'x' }, { s: 'string' }, 'u')];
      await withSink({}, (task) => putRecords(task, batch));
      expect(await all('SELECT * FROM u')).toEqual([[2, 'x']]);
    });

    test('a thousand keys are deleted in one batch, with rows between', async () => {
      const rows = Array.from({ length: 1300 }, (_, i) => keyed(i, { s: 'x' }, { s: 'string' }));
      const mixed = rows.flatMap((row, i) => (i % 100 === 0 ? [row] : [row, { ...row, value: null }]));
      await withSink({}, async (task) => {
        await putRecords(task, rows);
        await putRecords(task, mixed);
      });
      expect(await all('SELECT count(*) FROM t')).toEqual([[13]]);
    });
  });
});

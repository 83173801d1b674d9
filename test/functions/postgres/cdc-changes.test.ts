import { describe, expect, test } from 'vitest';
import { changeOf, useCdc } from './cdc-fixture.ts';

const { run, capture, schema } = useCdc();

const afterOf = (record: { key: unknown; value: unknown }) => changeOf(record).after;

describe('a change', () => {
  test('is what was inserted, updated and deleted', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, name text, n bigint)');
    const { withTask, readAll } = await capture(['t']);
    await run("INSERT INTO t VALUES (1, 'ä', 9007199254740993), (2, NULL, NULL)");
    await run("UPDATE t SET name = 'b' WHERE id = 2");
    await run('DELETE FROM t WHERE id = 1');
    const { records } = await withTask((task) => readAll(task));
    expect(records.map(changeOf)).toEqual([
      { key: { id: 1 }, op: 'c', before: null, after: { id: 1, name: 'ä', n: 9007199254740993n } },
      { key: { id: 2 }, op: 'c', before: null, after: { id: 2, name: null, n: null } },
      { key: { id: 2 }, op: 'u', before: null, after: { id: 2, name: 'b', n: null } },
      { key: { id: 1 }, op: 'd', before: { id: 1 }, after: null },
      { key: { id: 1 }, op: 'tombstone' },
    ]);
  });

  test('says where it is from, and when it was committed', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { withTask, pollOnce } = await capture(['t']);
    const fromMs = Date.now();
    await run('INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)');
    const [one, two] = await withTask(async (task) => [...(await pollOnce(task, new Map())).batch]);
    expect(one!.topic).toBe(`shop.${schema()}.t`);
    expect(one!.timestampMs).toBeGreaterThanOrEqual(fromMs - 1);
    expect(one!.timestampMs).toBeLessThanOrEqual(Date.now());
    expect(one!.value).toMatchObject({
      source: {
        version: expect.stringMatching(/^18/),
        connector: 'postgresql',
        name: 'shop',
        db: 'postgres',
        schema: schema(),
        table: 't',
        snapshot: 'false',
        ts_ms: BigInt(one!.timestampMs!),
        txId: expect.any(BigInt),
        lsn: expect.any(BigInt),
      },
      transaction: null,
      ts_ms: BigInt(one!.timestampMs!),
    });
    // One statement string is one transaction.
    const [a, b] = [one, two].map((record) => (record!.value as { source: { txId: bigint; lsn: bigint } }).source);
    expect(b!.txId).toBe(a!.txId);
    expect(b!.lsn).toBeGreaterThan(a!.lsn);
  });

  test('of a key is a delete and an insert', async () => {
    await run('CREATE TABLE t (a int, b text, c text, PRIMARY KEY (b, a))');
    const { withTask, readAll } = await capture(['t']);
    await run("INSERT INTO t VALUES (1, 'x', 'c'); UPDATE t SET b = 'y'; UPDATE t SET b = 'y', c = 'd'");
    const { records } = await withTask((task) => readAll(task));
    expect(records.slice(1).map(changeOf)).toEqual([
      { key: { a: 1, b: 'x' }, op: 'd', before: { a: 1, b: 'x' }, after: null },
      { key: { a: 1, b: 'x' }, op: 'tombstone' },
      { key: { a: 1, b: 'y' }, op: 'c', before: null, after: { a: 1, b: 'y', c: 'c' } },
      { key: { a: 1, b: 'y' }, op: 'u', before: null, after: { a: 1, b: 'y', c: 'd' } },
    ]);
  });

  test('can be passed over by its kind, and tombstones be left out', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { withTask, readAll } = await capture(['t'], { skippedOperations: ['c'], tombstonesOnDelete: false });
    await run('INSERT INTO t VALUES (1), (2); UPDATE t SET id = 3 WHERE id = 1; DELETE FROM t; TRUNCATE t');
    const { records } = await withTask((task) => readAll(task));
    expect(records.map(changeOf).map(({ op, key }) => [op, key])).toEqual([
      ['d', { id: 1 }],
      ['d', { id: 2 }],
      ['d', { id: 3 }],
      ['t', null],
    ]);
  });

  test('of a truncate is a record for each table, and passed over by itself', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)');
    const truncates = await capture(['t', 'u']);
    await run('INSERT INTO t VALUES (1); TRUNCATE t, u; INSERT INTO u VALUES (1)');
    for (const maxRecords of [1, 10]) {
      const { records } = await truncates.withTask((task) => truncates.readAll(task, new Map(), { maxRecords }));
      expect(records.map(({ topic, ...record }) => [topic.at(-1), changeOf(record).op])).toEqual([
        ['t', 'c'],
        ['u', 't'],
        ['t', 't'],
        ['u', 'c'],
      ]);
    }
    const others = await capture(['t', 'u'], { skippedOperations: ['t'] });
    const { records } = await others.withTask((task) => others.readAll(task));
    expect(records.map(changeOf).map(({ op }) => op)).toEqual(['c', 'c']);
  });
});

describe('the old row', () => {
  const long = (from: string) => `(SELECT string_agg(md5(n || '${from}'), '') FROM generate_series(1, 500) n)`;

  test('a long value that did not change is missing, not null', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, body text, n int)');
    const { withTask, readAll } = await capture(['t']);
    await run(`INSERT INTO t VALUES (1, ${long('a')}, 1); UPDATE t SET n = 2`);
    const { records } = await withTask((task) => readAll(task));
    expect(afterOf(records[0]!)).toMatchObject({ body: expect.stringMatching(/^[0-9a-f]{16000}$/), n: 1 });
    expect(afterOf(records[1]!)).toEqual({ id: 1, n: 2 });
  });

  test('with REPLICA IDENTITY FULL it is told whole, and gives what did not change', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, body text, n int); ALTER TABLE t REPLICA IDENTITY FULL');
    const { withTask, readAll } = await capture(['t']);
    await run(`INSERT INTO t VALUES (1, ${long('a')}, NULL); UPDATE t SET n = 2; UPDATE t SET id = 2; DELETE FROM t`);
    const { records } = await withTask((task) => readAll(task));
    const { body } = afterOf(records[0]!) as { body: string };
    expect(records.slice(1).map(changeOf)).toEqual([
      { key: { id: 1 }, op: 'u', before: { id: 1, body, n: null }, after: { id: 1, body, n: 2 } },
      { key: { id: 1 }, op: 'd', before: { id: 1, body, n: 2 }, after: null },
      { key: { id: 1 }, op: 'tombstone' },
      { key: { id: 2 }, op: 'c', before: null, after: { id: 2, body, n: 2 } },
      { key: { id: 2 }, op: 'd', before: { id: 2, body, n: 2 }, after: null },
      { key: { id: 2 }, op: 'tombstone' },
    ]);
  });

  test('a changed key beside a long value that is not told is refused aloud, not written without it', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, body text)');
    const { withTask, pollOnce } = await capture(['t']);
    await run(`INSERT INTO t VALUES (1, ${long('a')}); UPDATE t SET id = 2; INSERT INTO t VALUES (3)`);
    const { batch, rejected, position } = await withTask((task) => pollOnce(task, new Map()));
    expect([...batch].map(changeOf).map(({ op, key }) => [op, key])).toEqual([
      ['c', { id: 1 }],
      ['d', { id: 1 }],
      ['tombstone', { id: 1 }],
      ['c', { id: 3 }],
    ]);
    expect(rejected).toMatchObject([
      {
        index: 3,
        error: { blame: 'row', message: expect.stringMatching(/REPLICA IDENTITY FULL/) },
        offset: { row: 2 },
      },
    ]);
    expect(JSON.parse(String(rejected![0]!.raw))).toEqual({ table: `${schema()}.t`, after: { id: '2' } });
    expect(position(3)).toMatchObject({ offset: { row: 3 } });
  });

  test('without a primary key there is no key, and no tombstone', async () => {
    await run('CREATE TABLE t (a int, b int); ALTER TABLE t REPLICA IDENTITY FULL');
    const { withTask, readAll } = await capture(['t']);
    await run('INSERT INTO t VALUES (1, 1); UPDATE t SET b = 2; DELETE FROM t');
    const { records } = await withTask((task) => readAll(task));
    expect(records.map(changeOf)).toEqual([
      { key: null, op: 'c', before: null, after: { a: 1, b: 1 } },
      { key: null, op: 'u', before: { a: 1, b: 1 }, after: { a: 1, b: 2 } },
      { key: null, op: 'd', before: { a: 1, b: 2 }, after: null },
    ]);
  });

  test('an index is the key where it is the identity', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL); CREATE UNIQUE INDEX t_code ON t (code);
      ALTER TABLE t REPLICA IDENTITY USING INDEX t_code`);
    const { withTask, readAll } = await capture(['t']);
    await run("INSERT INTO t VALUES (1, 'a'); UPDATE t SET id = 2; DELETE FROM t");
    const { records } = await withTask((task) => readAll(task));
    expect(records.map(changeOf)).toEqual([
      { key: { code: 'a' }, op: 'c', before: null, after: { id: 1, code: 'a' } },
      { key: { code: 'a' }, op: 'u', before: null, after: { id: 2, code: 'a' } },
      { key: { code: 'a' }, op: 'd', before: { code: 'a' }, after: null },
      { key: { code: 'a' }, op: 'tombstone' },
    ]);
  });
});

describe('tables', () => {
  test('changes of partitions are those of their table', async () => {
    await run(`CREATE TABLE t (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
      CREATE TABLE t_a PARTITION OF t FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
      CREATE TABLE t_b PARTITION OF t FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')`);
    const { withTask, readAll } = await capture(['t']);
    await run("INSERT INTO t VALUES (1, '2020-06-01'); UPDATE t SET day = '2021-06-01'");
    const { records } = await withTask((task) => readAll(task));
    expect(records.map(({ topic, ...record }) => [topic, changeOf(record).op, record.key])).toEqual([
      [`shop.${schema()}.t`, 'c', { id: 1, day: '2020-06-01' }],
      [`shop.${schema()}.t`, 'd', { id: 1, day: '2020-06-01' }],
      [`shop.${schema()}.t`, 'tombstone', { id: 1, day: '2020-06-01' }],
      [`shop.${schema()}.t`, 'c', { id: 1, day: '2021-06-01' }],
    ]);
  });

  test('a pattern takes what matches it, and lists leave tables and columns out', async () => {
    await run(`CREATE TABLE a_x (id int PRIMARY KEY, secret text, n int); CREATE TABLE a_y (id int PRIMARY KEY);
      CREATE TABLE b (id int PRIMARY KEY)`);
    const { withTask, readAll } = await capture(['a_*'], {
      topic: 'all',
      excludeTables: [`${schema()}.a_y`],
      excludeColumns: [`${schema()}.a_x.secret`, `${schema()}.a_x.id`],
    });
    await run("INSERT INTO a_x VALUES (1, 's', 2); INSERT INTO a_y VALUES (1); INSERT INTO b VALUES (1)");
    const { records } = await withTask((task) => readAll(task));
    expect(records.map(({ topic, ...record }) => [topic, afterOf(record)])).toEqual([['all', { id: 1, n: 2 }]]);
  });

  test('a column that is added, renamed or given another type is in the changes after it', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { withTask, readAll } = await capture(['t']);
    await run('INSERT INTO t VALUES (1)');
    await run('ALTER TABLE t ADD n int DEFAULT 5; INSERT INTO t VALUES (2); ALTER TABLE t RENAME n TO m');
    await run(
      'INSERT INTO t VALUES (3); ALTER TABLE t ALTER m TYPE text; INSERT INTO t VALUES (4); ALTER TABLE t DROP m',
    );
    await run('INSERT INTO t VALUES (5); DROP TABLE t');
    const { records } = await withTask((task) => readAll(task));
    expect(records.map(afterOf)).toEqual([{ id: 1 }, { id: 2, n: 5 }, { id: 3, m: 5 }, { id: 4, m: '5' }, { id: 5 }]);
  });

  test('a generated column is not told', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)');
    const { withTask, readAll } = await capture(['t']);
    await run('INSERT INTO t VALUES (1)');
    expect((await withTask((task) => readAll(task))).records.map(afterOf)).toEqual([{ id: 1 }]);
  });

  test('names that need quotes', async () => {
    await run(`CREATE TABLE "Tä b.l'e" ("I d" int PRIMARY KEY, "__proto__" int)`);
    const { withTask, readAll } = await capture(["Tä b.l'e"], { publicationName: `P"'${schema()}, x` });
    await run(`INSERT INTO "Tä b.l'e" VALUES (1, 2)`);
    const { records } = await withTask((task) => readAll(task));
    expect(records.map(({ topic }) => topic)).toEqual([`shop.${schema()}.T__b.l_e`]);
    expect(JSON.stringify(afterOf(records[0]!))).toBe('{"I d":1,"__proto__":2}');
    await run(`DROP PUBLICATION "P""'${schema()}, x"`);
  });
});

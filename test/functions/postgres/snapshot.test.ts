import { describe, expect, test } from 'vitest';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { offsetsOf } from '../../kit/source-runner.ts';
import { until } from '../../kit/until.ts';
import { changeOf, contextOf } from './cdc-fixture.ts';
import { createRuns, initial, useSnapshotRuns } from './snapshot-runs.ts';

const { run, capture, config, schema, server, topic, runsOf, session, isWaiting } = useSnapshotRuns();

test('rows that were there come first, and then the changes since', async () => {
  await run(`CREATE TABLE t (id int PRIMARY KEY, name text);
    INSERT INTO t VALUES (1, E'a\\tb\\n\\\\N'), (2, NULL), (3, E'q\\tr\\\\')`);
  const { withTask, readAll } = await capture(['t'], initial);
  await run("INSERT INTO t VALUES (4, ''); UPDATE t SET name = name WHERE id = 1");
  const { records, offsets } = await withTask((task) => readAll(task));
  const read = (id: number, name: string | null) => ({ key: { id }, op: 'r', before: null, after: { id, name } });
  expect(records.map(changeOf)).toEqual([read(1, 'a\tb\n\\N'), read(2, null), read(3, 'q\tr\\'), read(4, '')]);
  const single = await withTask((task) => readAll(task, new Map(), { maxRecords: 1 }));
  expect(single.records.map(changeOf)).toEqual(records.map(changeOf));
  expect((records[0]!.value as Struct).source).toMatchObject({
    connector: 'postgresql',
    snapshot: 'true',
    schema: schema(),
    table: 't',
    txId: null,
    lsn: null,
    ts_ms: null,
  });
  await run('INSERT INTO t VALUES (9, NULL)');
  const rest = await withTask((task) => readAll(task, offsets));
  expect(rest.records.map(changeOf)).toEqual([{ key: { id: 9 }, op: 'c', before: null, after: { id: 9, name: null } }]);
});

test('a task goes on from an earlier place than its last poll', async () => {
  await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9)');
  const { withTask, pollOnce, advance } = await capture(['t'], initial);
  const idsAfter = await withTask(async (task) => {
    const offsets = new Map();
    for (let polls = 0; polls < 2; polls++) advance(offsets, (await pollOnce(task, offsets)).offsets);
    const poll = await pollOnce(task, offsets, { maxRecords: 5 });
    const again = await pollOnce(task, advance(offsets, [poll.position(1)]), { maxRecords: 3 });
    return [...again.batch].map(({ key }) => (key as Struct).id);
  });
  expect(idsAfter).toEqual([3, 4, 5]);
});

describe('ranges', () => {
  /** 4,500 rows that take more than two ranges' bytes, of which none are read. */
  const large = (key: string, columns: string, values: string) =>
    run(`CREATE TABLE t (${columns}, pad text, PRIMARY KEY (${key})); ALTER TABLE t ALTER pad SET STORAGE EXTERNAL;
      INSERT INTO t SELECT ${values}, repeat('x', 32000) FROM generate_series(1, 4500) n`);
  const withoutPad = () => ({ excludeColumns: [`${schema()}.t.pad`] });
  const boundsOf = (runs: ReturnType<typeof createRuns>) =>
    [...runs.offsets.values()].flatMap(({ offset }) =>
      'bounds' in (offset as object) ? [(offset as { bounds: unknown }).bounds] : [],
    )[0];

  test('of a large table are parted evenly by integers, and read by all tasks', async () => {
    await large('id', 'id bigint', 'n * 3');
    const runs = await runsOf(['t'], withoutPad(), { tasks: 2 });
    const sibling = await runs.open(1);
    expect(await sibling.more!(offsetsOf(runs.offsets))).toBe('waits');
    await sibling.close();
    expect(await runs.run({ taskId: 1 })).toBe('waits');
    expect(await runs.run()).toBe('waits');
    expect(boundsOf(runs)).toEqual([['4501'], ['9000']]);
    expect(runs.told).toHaveLength(3000);
    expect(await runs.run({ taskId: 1, maxRecords: 70 })).toBe('waits');
    expect(await runs.run()).toBe('caught up');
    expect(
      runs
        .rows(topic('t'))
        .map(({ id }) => Number(id))
        .sort((a, b) => a - b),
    ).toEqual(Array.from({ length: 4500 }, (_, i) => 3 * (i + 1)));
  });

  test.each([
    [
      'texts in another collation than C',
      'name',
      'name text COLLATE "und-x-icu"',
      "CASE n % 3 WHEN 0 THEN 'ä' WHEN 1 THEN 'A' ELSE 'z' END || '-' || n",
    ],
    [
      'texts that an ICU collation takes for one another',
      'name',
      'name text COLLATE any_case',
      "CASE n % 2 WHEN 0 THEN 'b' ELSE 'B' END || n",
    ],
    ['several columns, in the order of the index', 'b, a', 'a int, b text', "n, 'x' || n % 7"],
    ['timestamps', 'at', 'at timestamptz', "'2024-01-01 00:00:00.5+00'::timestamptz + n * interval '1 minute'"],
    ['doubles', 'f', 'f double precision', 'n / 7.0::float8'],
    ['bytes', 'b', 'b bytea', "decode(md5(n::text), 'hex')"],
  ])('of %s are parted by a sample, and each row is read once', async (_, key, columns, values) => {
    await run(`CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`);
    await large(key, columns, values);
    const runs = await runsOf(['t'], withoutPad(), { tasks: 3 });
    await runs.run({ polls: 2 });
    expect(boundsOf(runs)).toHaveLength(2);
    // Each run reads some of a range and leaves it to the next.
    for (let turn = 0, waiting = 0; waiting < 3; turn++) {
      const ended = await runs.run({ taskId: turn % 3, polls: 2, maxRecords: 400 });
      waiting = ended === 'more' ? 0 : waiting + 1;
    }
    expect(await runs.run()).toBe('caught up');
    expect(runs.rows(topic('t'))).toHaveLength(4500);
    expect(runs.told.every((one) => one.startsWith('r '))).toBe(true);
    expect(runs.told.length).toBe(4500);
  });
});

describe('a table', () => {
  test('without a key is read in one batch, or refused', async () => {
    await run(`CREATE TABLE t (a int); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1), (1), (2);
      CREATE TABLE u (a int); ALTER TABLE u REPLICA IDENTITY FULL; INSERT INTO u SELECT generate_series(1, 20)`);
    const one = await capture(['t'], initial);
    const { records } = await one.withTask((task) => one.readAll(task, new Map(), { maxRecords: 4 }));
    expect(records.map(({ value }) => (value as { after: Struct }).after.a)).toEqual([1, 1, 2]);
    expect(new Set(records.map(({ offset }) => JSON.stringify(offset))).size).toBe(1);
    const two = createRuns(config(['u'], initial));
    await postgresCdcSource.created!(contextOf(config(['u'], initial)));
    await expect(two.run({ maxRecords: 10 })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/u has no primary key and more rows than one batch takes \(10,.*give it a key/),
    });
  });

  test('without a key and with many rows is a problem', async () => {
    await run(`CREATE TABLE t (a int); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT generate_series(1, 30000);
      CREATE TABLE few (a int); ALTER TABLE few REPLICA IDENTITY FULL; ANALYZE t, few`);
    const problems = (snapshotMode: string) =>
      postgresCdcSource.check!(contextOf(config(['t', 'few'], { snapshotMode })));
    expect(await problems('initial')).toEqual([
      expect.stringMatching(/"t" has no primary key and about 30000 rows.*ADD PRIMARY KEY/),
    ]);
    expect(await problems('no_data')).toEqual([]);
  });

  test('in partitions is read as one, and what inherits by itself', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
      CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20);
      INSERT INTO t SELECT n, n FROM generate_series(1, 19) n;
      CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
      INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)`);
    const runs = await runsOf(['t', 'parent', 'child']);
    expect(await runs.run({ maxRecords: 5 })).toBe('caught up');
    await run('UPDATE t SET id = 15, n = 0 WHERE id = 15; DELETE FROM t WHERE id = 1');
    expect(await runs.run()).toBe('caught up');
    expect(runs.rows(topic('t'))).toHaveLength(18);
    expect(runs.rows(topic('parent'))).toEqual([{ id: 1 }]);
    expect(runs.rows(topic('child'))).toEqual([{ id: 2 }]);
  });

  test('is read as its changes are told: without what is excluded, generated, or not published', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, gone int, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, b int, c int);
      ALTER TABLE t DROP gone; INSERT INTO t (id, a, b, c) VALUES (1, 1, 1, 1), (2, 2, 2, 2), (-1, 0, 0, 0);
      CREATE PUBLICATION mine_${schema()} FOR TABLE t (id, a, b) WHERE (id > 0)`);
    const of = await capture(['t'], {
      ...initial,
      publicationName: `mine_${schema()}`,
      excludeColumns: [`${schema()}.t.b`],
    });
    const first = await of.withTask((task) => of.readAll(task));
    await run('INSERT INTO t (id, a, b, c) VALUES (3, 3, 3, 3), (-3, 3, 3, 3)');
    const rest = await of.withTask(async (task) => {
      const poll = await of.pollOnce(task, first.offsets);
      return { schema: poll.batch.groups[0]!.value.schema, records: [...poll.batch] };
    });
    const rows = [...first.records, ...rest.records].map(({ value }) => (value as { after: Struct }).after);
    expect(rows).toEqual([1, 2, 3].map((id) => ({ id, a: id })));
    const again = await of.withTask(async (task) => {
      const map = new Map();
      for (;;) {
        const poll = await of.pollOnce(task, map);
        if (poll.batch.count > 0) return poll.batch.groups[0]!;
        of.advance(map, poll.offsets);
      }
    });
    expect(again.value.schema).toEqual(rest.schema);
  });

  test('that the publication lacks is refused, because its changes would be lost', async () => {
    await run(
      `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE PUBLICATION mine_${schema()} FOR TABLE t`,
    );
    const runs = await runsOf(['t', 'u'], { publicationName: `mine_${schema()}` });
    await expect(runs.run()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/lacks t\d+\.u: .*ALTER PUBLICATION "mine_t\d+" ADD TABLE "t\d+"."u"/),
    });
  });

  test('whose rows a policy hides is refused', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
      CREATE ROLE blind_${schema()} LOGIN REPLICATION PASSWORD 'p'; GRANT USAGE ON SCHEMA ${schema()} TO blind_${schema()};
      GRANT SELECT ON t TO blind_${schema()}`);
    const { config: made } = await capture(['t'], initial);
    const url = new URL(server().url);
    url.username = `blind_${schema()}`;
    url.password = 'p';
    const blind = { ...made, url: url.href };
    await expect(createRuns(blind).run()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/row-level security/),
    });
    expect(await postgresCdcSource.check!(contextOf(blind))).toEqual([
      expect.stringMatching(/policies hide rows of .*BYPASSRLS/),
    ]);
  });

  test('that the role may not read is told with what lets it', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
      CREATE ROLE poor_${schema()} LOGIN REPLICATION PASSWORD 'p'`);
    const { config: made } = await capture(['t'], initial);
    const url = new URL(server().url);
    url.username = `poor_${schema()}`;
    url.password = 'p';
    const runs = createRuns({ ...made, url: url.href });
    const refused = (pattern: RegExp) =>
      expect(runs.run()).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        retriable: false,
        message: expect.stringMatching(pattern),
      });
    await refused(
      /denied for schema t\d+.*: GRANT USAGE ON SCHEMA "t\d+" TO "poor_t\d+"; GRANT SELECT ON "t\d+"\."t" TO "poor_t\d+"$/,
    );
    await run(`GRANT USAGE ON SCHEMA ${schema()} TO poor_${schema()}`);
    await refused(/denied for table t.*: GRANT SELECT ON "t\d+"\."t" TO "poor_t\d+"$/);
    // Taken back between the plan and the first row.
    await run(`GRANT SELECT ON t TO poor_${schema()}`);
    await runs.run({ polls: 1 });
    await run(`REVOKE SELECT ON t FROM poor_${schema()}`);
    await refused(/denied for table t.*: GRANT SELECT ON "t\d+"\."t" TO "poor_t\d+"$/);
  });

  test('that is rewritten while its view is opened is read whole', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT n, n FROM generate_series(1, 10) n');
    const runs = await runsOf(['t']);
    await runs.run({ polls: 2 });
    const other = await session();
    await other.query('BEGIN; ALTER TABLE t ALTER n TYPE bigint');
    const reading = runs.run();
    await until(() => isWaiting('Lock'));
    await other.query('COMMIT');
    await other.end();
    expect(await reading).toBe('caught up');
    expect(runs.rows(topic('t'))[9]).toEqual({ id: 10, n: 10n });
  });

  test('with a value that has no canonical form has its row refused, and the others read', async () => {
    await run(
      "CREATE TABLE t (id int PRIMARY KEY, n numeric); INSERT INTO t VALUES (1, 1), (2, 'NaN'), (3, 3), (4, 'NaN'), (5, 5)",
    );
    const of = await capture(['t'], initial);
    const poll = await of.withTask(async (task) => {
      const offsets = new Map();
      for (;;) {
        const poll = await of.pollOnce(task, offsets);
        if (poll.batch.count > 0)
          return {
            ...poll,
            positions: [0, 1, 2].map((i) => poll.position(i).offset),
            ids: [...poll.batch].map(({ key }) => (key as Struct).id),
          };
        of.advance(offsets, poll.offsets);
      }
    });
    expect(poll.ids).toEqual([1, 3, 5]);
    expect(poll.positions).toMatchObject([1, 3, 5].map((id) => ({ after: [String(id)], rows: id })));
    expect(poll.rejected).toMatchObject([
      {
        index: 1,
        offset: { after: ['2'] },
        error: { message: expect.stringMatching(/n: NaN: a decimal has digits only/) },
      },
      { index: 2, offset: { after: ['4'] } },
    ]);
    expect(JSON.parse(String(poll.rejected![0]!.raw))).toEqual({
      table: `${schema()}.t`,
      after: { id: '2', n: 'NaN' },
    });
  });
});

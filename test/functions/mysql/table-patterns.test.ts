import { describe, expect, test } from 'vitest';
import { mysqlCdcSource } from '../../../functions/mysql/cdc-source.ts';
import { isReadBy } from '../../../functions/mysql/cdc-tables.ts';
import { partitionKey } from '../../../shared/connect/connector.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import {
  createRunner,
  type Delivered,
  type OffsetMap,
  recordsOf,
  type SourceFixture,
} from '../../kit/source-runner.ts';
import { until } from '../../kit/until.ts';
import { useMysql } from './cdc-fixture.ts';

/** Table, operation and key of each change; its tombstone goes without saying. */
const told = (records: readonly Delivered[]) =>
  records.flatMap(({ key, value }) => {
    if (value === null) return [];
    const { source, op } = value as { source: Struct; op: string };
    return [`${source.table} ${op} ${Object.values((key ?? {}) as Struct)}`];
  });

/** The rows of all tables after the records were applied. */
const applied = (records: readonly Delivered[]) => {
  const rows = new Map<string, Struct>();
  for (const { value } of records) {
    if (value === null) continue;
    const { source, before, after } = value as { source: Struct; before: Struct | null; after: Struct | null };
    if (before !== null) rows.delete(`${source.table} ${before.id}`);
    if (after !== null) rows.set(`${source.table} ${after.id}`, after);
  }
  return [...rows.keys()].toSorted();
};

describe.each(['mariadb', 'mysql'] as const)('tables by pattern on %s', (flavour) => {
  const { run, database, fixture, contextOf } = useMysql(flavour);
  const runnerOf = (config: object) => createRunner({ ...fixture({ topic: 'all', ...config }), expected: [] } as never);

  test('a pattern takes what matches it, also tables that come while changes are read, and exclusions leave out', async () => {
    const name = await database();
    await run(
      'CREATE TABLE a_x (id int PRIMARY KEY); CREATE TABLE a_old (id int PRIMARY KEY); CREATE TABLE b (id int)',
    );
    const of = runnerOf({ tables: [`${name}.a_*`], excludeTables: [`${name}.*_old`], snapshotMode: 'no_data' });
    await of.withTask(async (task) => {
      const { offsets } = await of.readAll(task);
      await run('INSERT INTO a_x VALUES (1); INSERT INTO a_old VALUES (1); INSERT INTO b VALUES (1)');
      const first = await of.readAll(task, offsets);
      expect(told(first.records)).toEqual(['a_x c 1']);
      expect(first.records[0]!.topic).toBe('all');
      await run('CREATE TABLE a_y (id int PRIMARY KEY); INSERT INTO a_y VALUES (1); INSERT INTO a_x VALUES (2)');
      await run('CREATE TABLE a_z (id int PRIMARY KEY); TRUNCATE a_z');
      const second = await of.readAll(task, first.offsets);
      expect(told(second.records)).toEqual(['a_y c 1', 'a_x c 2', 'a_z t ']);
    });
  });

  test('the columns of a table that comes while changes are read are those of the catalogue', async () => {
    const name = await database();
    const of = runnerOf({ tables: [`${name}.*`], snapshotMode: 'no_data' });
    await of.withTask(async (task) => {
      const { offsets } = await of.readAll(task);
      const uuid = flavour === 'mariadb' ? 'uuid' : 'char(36)';
      const value = '01234567-89ab-4def-8123-456789abcdef';
      await run(`CREATE TABLE t (id int PRIMARY KEY, u ${uuid}); INSERT INTO t VALUES (1, '${value}');
        CREATE TABLE \`dot.ted\` (id int PRIMARY KEY); INSERT INTO \`dot.ted\` VALUES (1)`);
      const first = await of.readAll(task, offsets);
      expect(first.records.map((record) => (record.value as Struct).after)).toEqual([{ id: 1, u: value }, { id: 1 }]);
      await run(`ALTER TABLE t ADD v ${uuid}; UPDATE t SET v = '${value}'`);
      const { records } = await of.readAll(task, first.offsets);
      expect(records.map((record) => (record.value as Struct).after)).toEqual([{ id: 1, u: value, v: value }]);
    });
  });

  test('a reader that follows the log sees a table come and its columns change', async () => {
    const name = await database();
    const of = runnerOf({ tables: [`${name}.*`], snapshotMode: 'no_data' });
    await of.withTask(async (task) => {
      const { offsets } = await of.readAll(task);
      await task.wait!(1, new AbortController().signal);
      const uuid = flavour === 'mariadb' ? 'uuid' : 'char(36)';
      const value = '01234567-89ab-4def-8123-456789abcdef';
      const rows: unknown[] = [];
      const read = (count: number) =>
        until(async () => {
          const poll = await of.pollOnce(task, offsets);
          rows.push(...recordsOf(poll).map((record) => (record.value as Struct).after));
          of.advance(offsets, poll.offsets);
          return rows.length === count;
        });
      await run(`CREATE TABLE t (id int PRIMARY KEY, u ${uuid}); INSERT INTO t VALUES (1, '${value}')`);
      await read(1);
      await run(`ALTER TABLE t ADD v ${uuid}; UPDATE t SET v = '${value}'; TRUNCATE t`);
      await read(3);
      expect(rows).toEqual([{ id: 1, u: value }, { id: 1, u: value, v: value }, null]);
    });
  });

  test.each([false, true])(
    'the rows of a table that comes by RENAME are read, and no delete is lost (transactions: %s)',
    async (transactions) => {
      const name = await database();
      await run('CREATE TABLE t_a (id int PRIMARY KEY); INSERT INTO t_a VALUES (1)');
      await run('CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1), (2), (3)');
      const of = runnerOf({ tables: [`${name}.t_*`], transactions });
      await of.withTask(async (task) => {
        const { records, offsets } = await of.readAll(task);
        expect(told(records)).toEqual(['t_a r 1']);
        // Its changes so far are passed over, whatever of them is before its rows are read.
        await run(`RENAME TABLE other TO t_b; BEGIN; INSERT INTO t_a VALUES (2); INSERT INTO t_b VALUES (4);
        INSERT INTO t_a VALUES (3); COMMIT; DELETE FROM t_b WHERE id IN (1, 4)`);
        const more = await of.readAll(task, offsets, { maxRecords: 1 });
        expect(applied([...records, ...more.records])).toEqual(['t_a 1', 't_a 2', 't_a 3', 't_b 2', 't_b 3']);
        expect(told(more.records).filter((one) => one.startsWith('t_b'))).toEqual(['t_b r 2', 't_b r 3']);
        await run('INSERT INTO t_b VALUES (5); DELETE FROM t_b WHERE id = 2');
        const later = await of.readAll(task, more.offsets);
        expect(told(later.records)).toEqual(['t_b c 5', 't_b d 2']);
        await run('CREATE TABLE t_c (id int PRIMARY KEY); INSERT INTO t_c VALUES (1)');
        // In the same run.
        expect(told((await of.readAll(task, later.offsets)).records)).toEqual(['t_c r 1']);
      });
    },
  );

  test('a table that came and went between two runs blocks nothing, and of one that was read all changes are told', async () => {
    const name = await database();
    await run('CREATE TABLE t_a (id int PRIMARY KEY); CREATE TABLE t_b (id int PRIMARY KEY)');
    const of = runnerOf({ tables: [`${name}.t_*`] });
    const first = await of.withTask((task) => of.readAll(task));
    await run(`CREATE TABLE t_c (id int PRIMARY KEY); INSERT INTO t_c VALUES (1); DROP TABLE t_c;
      INSERT INTO t_b VALUES (1); DROP TABLE t_b; INSERT INTO t_a VALUES (1)`);
    const second = await of.withTask((task) => of.readAll(task, first.offsets));
    expect(told(second.records)).toEqual(['t_b c 1', 't_a c 1']);
    await run('CREATE TABLE t_b (id int PRIMARY KEY); INSERT INTO t_b VALUES (2)');
    const third = await of.withTask((task) => of.readAll(task, second.offsets));
    expect(told(third.records)).toEqual(['t_b c 2']);
  });

  test('a table that is dropped before its rows were read is forgotten', async () => {
    const name = await database();
    await run('CREATE TABLE t_a (id int PRIMARY KEY); INSERT INTO t_a VALUES (1)');
    await run('CREATE TABLE t_b (id int PRIMARY KEY); INSERT INTO t_b VALUES (1)');
    const of = runnerOf({ tables: [`${name}.t_*`] });
    const offsets: OffsetMap = new Map();
    await of.withTask(async (task) => {
      // The place, and both plans.
      for (let i = 0; i < 3; i++) of.advance(offsets, (await of.pollOnce(task, offsets)).offsets);
    });
    expect(offsets.has(partitionKey({ server: 'shop', table: `${name}.t_b` }))).toBe(true);
    await run('DROP TABLE t_b');
    expect(told((await of.withTask((task) => of.readAll(task, offsets))).records)).toEqual(['t_a r 1']);
  });

  test('a table that is made in the middle of a transaction that is half sent changes no count (D5)', async () => {
    const name = await database();
    await run('CREATE TABLE t_a (id int PRIMARY KEY); CREATE TABLE t_b (id int PRIMARY KEY)');
    const of = runnerOf({ tables: [`${name}.t_*`], excludeTables: [`${name}.t_b`] });
    const first = await of.withTask((task) => of.readAll(task));
    await run(
      'BEGIN; INSERT INTO t_a VALUES (1), (2); INSERT INTO t_b VALUES (1); INSERT INTO t_a VALUES (3), (4); COMMIT',
    );
    const half = await of.withTask((task) =>
      of.pollOnce(task, first.offsets, { maxRecords: 3 }).then((poll) => {
        return of.advance(new Map(first.offsets), poll.offsets);
      }),
    );
    await run('CREATE TABLE t_c (id int PRIMARY KEY); INSERT INTO t_c VALUES (1)');
    const { records } = await of.withTask((task) => of.readAll(task, half));
    expect(told(records).toSorted()).toEqual(['t_a c 4', 't_c r 1']);
  });

  test('tasks read the tables of a pattern between them, each once', async () => {
    const name = await database();
    const names = ['t_a', 't_b', 't_c', 't_d', 't_e'];
    for (const table of names) await run(`CREATE TABLE ${table} (id int PRIMARY KEY); INSERT INTO ${table} VALUES (1)`);
    const of = { ...fixture({ topic: 'all', tables: [`${name}.*`] }), expected: [] } as SourceFixture;
    const tasks = [0, 1].map((taskId) => createRunner(of, { taskId, tasks: 2 }));
    const offsets: OffsetMap = new Map();
    const records: Delivered[][] = [[], []];
    for (let round = 0; round < 2; round++)
      for (const [i, one] of tasks.entries()) {
        const reading = await one.withTask((task) => one.readAll(task, offsets));
        records[i]!.push(...reading.records);
        for (const [key, position] of reading.offsets) offsets.set(key, position);
      }
    expect(records.map((of) => of.length > 0)).toEqual([true, true]);
    expect(told(records.flat()).toSorted()).toEqual(names.map((table) => `${table} r 1`));
  });

  test('the check and the comparison take the tables that are there', async () => {
    const name = await database();
    await run('CREATE TABLE a_x (id int PRIMARY KEY); CREATE TABLE a_y (id int); CREATE VIEW a_v AS SELECT * FROM a_x');
    const context = (tables: readonly string[]) => contextOf({ topic: 'all', tables });
    expect(await mysqlCdcSource.check!(context([`${name}.a_*`, `${name}.b_*`]))).toEqual([
      expect.stringMatching(`^no table matches ${name}.b_\\*, or the account may not read`),
      expect.stringMatching(`^${name}.a_y has no primary key`),
    ]);
    await run('DROP TABLE a_y');
    const verification = await mysqlCdcSource.verify!(context([`${name}.a_*`]));
    try {
      expect((await verification.tables!()).map(({ table, topic }) => [table, topic])).toEqual([
        [`${name}.a_x`, 'all'],
      ]);
    } finally {
      await verification.close();
    }
  });
});

test('a pattern means no table of the system', () => {
  const isRead = isReadBy({ tables: ['*.u*', 'mysql.event'], excludeTables: [] });
  expect(['shop.users', 'mysql.user', 'mysql.event'].map(isRead)).toEqual([true, false, true]);
});

describe('the config', () => {
  const parse = (config: object) =>
    mysqlCdcSource.config.safeParse({ url: 'mysql://u@h/d', topicPrefix: 'p', ...config });
  test.each([
    [{ tables: ['a.b'] }, []],
    [{ tables: ['a.*'], topic: 't' }, []],
    [
      { tables: ['a.b', 'a.*'] },
      ['topic: a.* matches tables that are not known yet; say which topic they go to, or list the tables'],
    ],
    [{ tables: ['a'] }, ['tables.0: a table is written as database.table; * stands for any characters']],
  ])('%o', (config, problems) =>
    expect(parse(config).error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`) ?? []).toEqual(
      problems,
    ),
  );
});

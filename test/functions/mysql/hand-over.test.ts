import { describe, expect, test } from 'vitest';
import { partitionKey } from '../../../shared/connect/connector.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { repairPartition } from '../../../shared/sql/repair-partition.ts';
import {
  createRunner,
  type Delivered,
  type OffsetMap,
  recordsOf,
  type SourceFixture,
} from '../../kit/source-runner.ts';
import { until } from '../../kit/until.ts';
import { useMysql } from './cdc-fixture.ts';

/** Rows after the records were applied in their order, and what each record was. */
const applied = (records: readonly Delivered[]) => {
  const rows = new Map<string, Struct>();
  for (const { key, value } of records) {
    const after = value === null ? null : ((value as Struct).after as Struct | null);
    if (after === null) rows.delete(partitionKey(key as never));
    else rows.set(partitionKey(key as never), after);
  }
  return [...rows.values()].sort((a, b) => Number(a.id) - Number(b.id));
};

const told = (records: readonly Delivered[]) =>
  records
    .filter(({ value }) => value !== null)
    .map(({ key, value }) => `${(value as Struct).op} ${Object.values(key as Struct)}`);

describe.each(['mariadb', 'mysql'] as const)('from rows to changes on %s', (flavour) => {
  const { run, database, fixture, connect } = useMysql(flavour);
  const runnerOf = (config: object) => createRunner({ ...fixture(config), expected: [] } as SourceFixture);

  /** One run of so many polls, from the offsets on, which it moves. */
  const pollTimes = async (of: ReturnType<typeof runnerOf>, offsets: OffsetMap, times: number, maxRecords: number) => {
    const records: Delivered[] = [];
    await of.withTask(async (task) => {
      for (let i = 0; i < times; i++) {
        const poll = await of.pollOnce(task, offsets, { maxRecords });
        records.push(
          ...Array.from(poll.batch, ({ topic, key, value }, at) => ({ topic, key, value, ...poll.position(at) })),
        );
        of.advance(offsets, poll.offsets);
      }
    });
    return records;
  };

  test('rows that change between two runs of a snapshot come as they were read, and then only by what they had not seen', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, n int)');
    await run(`INSERT INTO t VALUES ${Array.from({ length: 10 }, (_, i) => `(${i + 1}, 0)`).join()}`);
    const of = runnerOf({ tables: [`${name}.t`] });
    const offsets: OffsetMap = new Map();
    const first = await pollTimes(of, offsets, 3, 3);
    expect(told(first)).toEqual(['r 1', 'r 2', 'r 3']);
    await run(
      'UPDATE t SET n = n + 1; DELETE FROM t WHERE id IN (2, 5); INSERT INTO t VALUES (11, 1), (0, 1); UPDATE t SET id = 20 WHERE id = 3; UPDATE t SET id = -3 WHERE id = 8',
    );
    const second = await pollTimes(of, offsets, 1, 100);
    expect(told(second)).toEqual(['r 4', 'r 6', 'r 7', 'r 9', 'r 10', 'r 11', 'r 20']);
    await run('UPDATE t SET n = 7 WHERE id IN (1, 20)');
    const { records } = await of.withTask((task) => of.readAll(task, offsets));
    // Of the changes between the runs, only those of keys that the first run had passed.
    expect(told(records)).toEqual(['u 1', 'u 2', 'u 3', 'd 2', 'c 0', 'd 3', 'c -3', 'u 1', 'u 20']);
    const [now] = await run('SELECT id, n FROM t ORDER BY id');
    expect(applied([...first, ...second, ...records])).toEqual(now);
  });

  const tenRows = async (columns: string) => {
    const name = await database();
    await run(`CREATE TABLE t (id int PRIMARY KEY, n int, ${columns})`);
    await run(`INSERT INTO t (id, n) VALUES ${Array.from({ length: 10 }, (_, i) => `(${i + 1}, 0)`).join()}`);
    return { name, of: runnerOf({ tables: [`${name}.t`] }), offsets: new Map() as OffsetMap };
  };
  const isWhole = async (records: readonly Delivered[]) => {
    const [now] = (await run('SELECT * FROM t ORDER BY id')) as unknown as [Struct[]];
    // Of a column that is gone since, rows still have the value.
    const known = Object.keys(now[0]!);
    const rows = applied(records).map((row) => Object.fromEntries(known.map((name) => [name, row[name] ?? null])));
    expect(rows).toEqual(now);
  };

  test('a column that is added and filled between the plan of a table and its first row is read', async () => {
    const { of, offsets } = await tenRows('s text');
    await of.withTask(async (task) => {
      for (let i = 0; i < 2; i++) of.advance(offsets, (await of.pollOnce(task, offsets)).offsets);
      await run("ALTER TABLE t ADD c varchar(9); UPDATE t SET c = 'told'");
      const { records } = await of.readAll(task, offsets);
      await isWhole(records);
    });
  });

  test.each([
    ['another column before the others', "ADD c varchar(9) FIRST, ALGORITHM = COPY; UPDATE t SET c = 'told'"],
    ['one column less', 'DROP s, ALGORITHM = COPY; UPDATE t SET n = 1'],
    ['another name for a column', "CHANGE s c varchar(20); UPDATE t SET c = 'told'"],
  ])('a table that gets %s when the view of its rows is open is read by the next run', async (_, alter) => {
    const { name, offsets } = await tenRows('s varchar(20)');
    await run('CREATE TABLE before_t (id int PRIMARY KEY); INSERT INTO before_t VALUES (1)');
    const of = runnerOf({ tables: [`${name}.before_t`, `${name}.t`] });
    const records: Delivered[] = [];
    await of.withTask(async (task) => {
      const pollSome = async (maxRecords: number) => {
        const poll = await of.pollOnce(task, offsets, { maxRecords });
        records.push(...recordsOf(poll));
        of.advance(offsets, poll.offsets);
      };
      // The place, both plans, and the rows of the first table.
      while (!told(records).includes('r 1')) await pollSome(100);
      await run(`ALTER TABLE t ${alter}`);
      await pollSome(3).catch((error) =>
        expect(error).toMatchObject({ code: 'UNAVAILABLE', retriable: true, blame: 'system' }),
      );
    });
    const { records: rest } = await of.withTask((task) => of.readAll(task, offsets));
    await isWhole([...records, ...rest].filter(({ topic }) => topic.endsWith('.t')));
  });

  test('a table that is added later is read while the changes of the others wait, and nothing of it comes twice', async () => {
    const name = await database();
    await run(
      'CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0); INSERT INTO u VALUES (1, 0)',
    );
    const before = runnerOf({ tables: [`${name}.t`] });
    const { offsets } = await before.withTask((task) => before.readAll(task));
    await run('UPDATE u SET n = 1; UPDATE t SET n = 1; INSERT INTO u VALUES (2, 2)');
    const after = runnerOf({ tables: [`${name}.t`, `${name}.u`] });
    const { records } = await after.withTask((task) => after.readAll(task, offsets));
    expect(told(records)).toEqual(['r 1', 'r 2', 'u 1']);
    await run('UPDATE u SET n = 3 WHERE id = 1');
  });

  /** Does something while a commit is in the binlog and, where the server lets it wait, not visible. */
  const whileCommitting = async <T>(sql: string, work: (isVisible: () => boolean) => Promise<T>): Promise<T> => {
    const end = async () => ((await run('SHOW MASTER STATUS')) as unknown as [[{ Position: number }]])[0][0].Position;
    const writer = await connect();
    await run(slowCommits[flavour].on);
    try {
      const from = await end();
      let isVisible = false;
      const commit = writer.query(sql).then(() => {
        isVisible = true;
      });
      await until(async () => (await end()) > from);
      const done = await work(() => isVisible);
      await commit;
      return done;
    } finally {
      await run(slowCommits[flavour].off);
      await writer.end();
    }
  };
  /** Not every commit waits on MySQL: it is the one that is to be synced. `attempt` says whether its own was seen to. */
  const untilOneWaits = async (attempt: (number: number) => Promise<boolean>): Promise<void> => {
    for (let number = 1; number <= 5; number++) if (await attempt(number)) return;
    throw new Error('no commit was seen to wait');
  };

  test('a commit that is in the binlog and not visible yet is not lost (H6)', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, n int)');
    await untilOneWaits(async (id) => {
      const of = runnerOf({ tables: [`${name}.t`] });
      const offsets: OffsetMap = new Map();
      const [rows, waited] = await whileCommitting(`INSERT INTO ${name}.t VALUES (${id}, 0)`, async (isVisible) => [
        await pollTimes(of, offsets, 3, 100),
        !isVisible(),
      ]);
      const { records } = await of.withTask((task) => of.readAll(task, offsets));
      expect(applied([...rows, ...records]).map((row) => row.id)).toEqual(Array.from({ length: id }, (_, i) => i + 1));
      return waited && !told(rows).includes(`r ${id}`);
    });
  });

  test('nor is one to a table that comes while changes are read: its rows are read when they have what was passed over', async () => {
    await untilOneWaits(async () => {
      const name = await database();
      await run('CREATE TABLE t_a (id int PRIMARY KEY)');
      const of = runnerOf({ topic: 'all', tables: [`${name}.t_*`] });
      return of.withTask(async (task) => {
        const { offsets } = await of.readAll(task);
        await run('CREATE TABLE t_b (id int PRIMARY KEY)');
        const [records, waited] = await whileCommitting(`INSERT INTO ${name}.t_b VALUES (1)`, async (isVisible) => {
          const plan = partitionKey({ server: 'shop', table: `${name}.t_b` });
          await until(async () => {
            of.advance(offsets, (await of.pollOnce(task, offsets)).offsets);
            return offsets.has(plan);
          });
          const isWaiting = !isVisible();
          return [(await of.readAll(task, offsets)).records, isWaiting];
        });
        expect(told(records)).toEqual(['r 1']);
        return waited;
      });
    });
  });

  test('nor is one that was told taken back by a row that is sent again', async () => {
    await untilOneWaits(async () => {
      const name = await database();
      await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)');
      const of = runnerOf({ tables: [`${name}.t`] });
      return of.withTask(async (task) => {
        const { offsets } = await of.readAll(task);
        const [records, waited] = await whileCommitting(`UPDATE ${name}.t SET n = 1`, async (isVisible) => {
          const changed = await of.readAll(task, offsets);
          const partition = repairPartition({ server: 'shop' }, `${name}.t`);
          const order = { repair: [['1']], passed: 0, views: [] };
          changed.offsets.set(partitionKey(partition), { partition, offset: order });
          const isWaiting = !isVisible();
          return [[...changed.records, ...(await of.readAll(task, changed.offsets)).records], isWaiting];
        });
        expect(told(records)).toEqual(['u 1', 'r 1']);
        expect(applied(records)).toEqual([{ id: 1, n: 1 }]);
        return waited;
      });
    });
  });

  test('a task goes on from an earlier place than its last poll, in the middle of a transaction too', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const of = runnerOf({ tables: [`${name}.t`] });
    await of.withTask(async (task) => {
      const { offsets } = await of.readAll(task);
      await run('INSERT INTO t VALUES (1), (2), (3), (4), (5)');
      const poll = await of.pollOnce(task, offsets, { maxRecords: 3 });
      const earlier = of.advance(new Map(offsets), [poll.position(0)]);
      expect(told(recordsOf(await of.pollOnce(task, earlier, { maxRecords: 2 })))).toEqual(['c 2', 'c 3']);
    });
  });

  // By the server's log: what commits between the two statements would be lost or come twice, and no test can hold it there.
  test('what a view has seen is asked for before it is opened on MySQL, and by its own status on MariaDB', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)');
    await run("SET GLOBAL log_output = 'TABLE', general_log = ON");
    try {
      // The place, the plan, and the rows: the first and the last in a view each.
      await pollTimes(runnerOf({ tables: [`${name}.t`] }), new Map(), 3, 100);
    } finally {
      await run('SET GLOBAL general_log = OFF');
    }
    const [logged] = (await run(
      'SELECT CONVERT(argument USING utf8mb4) AS text FROM mysql.general_log',
    )) as unknown as [{ readonly text: string }[]];
    const steps = logged.flatMap(({ text }) => {
      if (/START TRANSACTION WITH CONSISTENT SNAPSHOT/.test(text)) return ['opened'];
      return /^SELECT @@GLOBAL.gtid_executed AS|^SHOW STATUS LIKE 'binlog_snapshot/.test(text) ? ['asked'] : [];
    });
    const once = flavour === 'mysql' ? ['asked', 'opened'] : ['opened', 'asked'];
    expect(steps).toEqual([...once, ...once]);
  });
});

/** What lets a commit wait between the binlog and being visible. */
const slowCommits = {
  // Semi-synchronous replication, with nobody there to answer.
  mariadb: {
    on: "SET GLOBAL rpl_semi_sync_master_timeout = 3000, rpl_semi_sync_master_wait_point = 'AFTER_SYNC', rpl_semi_sync_master_enabled = 1",
    off: 'SET GLOBAL rpl_semi_sync_master_enabled = 0',
  },
  mysql: {
    on: 'SET GLOBAL sync_binlog = 2, binlog_group_commit_sync_delay = 1000000',
    off: 'SET GLOBAL sync_binlog = 0, binlog_group_commit_sync_delay = 0',
  },
};

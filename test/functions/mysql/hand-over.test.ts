import { describe, expect, test } from 'vitest';
import { partitionKey } from '../../../shared/connect/connector.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { createRunner, type Delivered, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
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

  test('a commit that is in the binlog and not visible yet is not lost (H6)', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, n int)');
    const writer = await connect();
    const end = async () => ((await run('SHOW MASTER STATUS')) as unknown as [[{ Position: number }]])[0][0].Position;
    await run(slowCommits[flavour].on);
    try {
      // Not every commit waits on MySQL: it is the one that is to be synced.
      for (let id = 1; id <= 5; id++) {
        const from = await end();
        let committed = false;
        const commit = writer.query(`INSERT INTO ${name}.t VALUES (${id}, 0)`).then(() => {
          committed = true;
        });
        await until(async () => (await end()) > from);
        const of = runnerOf({ tables: [`${name}.t`] });
        const offsets: OffsetMap = new Map();
        const rows = await pollTimes(of, offsets, 3, 100);
        const waited = !committed;
        await commit;
        const { records } = await of.withTask((task) => of.readAll(task, offsets));
        expect(applied([...rows, ...records]).map((row) => row.id)).toEqual(
          Array.from({ length: id }, (_, i) => i + 1),
        );
        if (waited && !told(rows).includes(`r ${id}`)) return;
      }
      throw new Error('no commit was seen to wait');
    } finally {
      await run(slowCommits[flavour].off);
      await writer.end();
    }
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

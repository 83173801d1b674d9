import { describe, expect, test } from 'vitest';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { repairPartition } from '../../../shared/sql/repair-partition.ts';
import { offsetsOf } from '../../kit/source-runner.ts';
import { until } from '../../kit/until.ts';
import { contextOf } from './cdc-fixture.ts';
import { createRuns, initial, useSnapshotRuns } from './snapshot-runs.ts';

const { run, all, capture, config, schema, topic, runsOf, session, isWaiting } = useSnapshotRuns();

const planAt = (table: string) => ({ server: 'shop', table: `${schema()}.${table}` });
const rangeAt = (table: string, range: number) => ({ ...planAt(table), range });
const system = async () => (await all('SELECT system_identifier::text FROM pg_control_system()'))[0]![0] as string;
const isUnavailable = (error: { readonly code: string }): 'again' => {
  expect(error.code).toBe('UNAVAILABLE');
  return 'again';
};

describe('from rows to changes', () => {
  test('what changes between two runs comes as it was read, and then only by what the rows had not seen', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i');
    const runs = await runsOf(['t']);
    await runs.run({ polls: 3, maxRecords: 3 });
    expect(runs.told).toEqual(['r 1', 'r 2', 'r 3']);
    await run(`UPDATE t SET n = n + 1; DELETE FROM t WHERE id IN (2, 5); INSERT INTO t VALUES (11, 1), (0, 1);
      UPDATE t SET id = 20 WHERE id = 3; UPDATE t SET id = -3 WHERE id = 8`);
    await runs.run({ polls: 1, maxRecords: 100 });
    expect(runs.told.slice(3)).toEqual(['r 4', 'r 6', 'r 7', 'r 9', 'r 10', 'r 11', 'r 20']);
    await run('UPDATE t SET n = 7 WHERE id IN (1, 20)');
    expect(await runs.run()).toBe('caught up');
    // Of the changes between the runs, only those of keys that the first run had passed.
    expect(runs.told.slice(10)).toEqual(['u 1', 'u 2', 'u 3', 'd 2', 'c 0', 'd 3', 'c -3', 'u 1', 'u 20']);
    const rows = (await all('SELECT id, n FROM t ORDER BY id')).map(([id, n]) => ({ id, n }));
    expect([...runs.rows(topic('t'))].sort((a, b) => Number(a.id) - Number(b.id))).toEqual(rows);
    // What the rows had already is passed, and not found again by each look.
    const task = await runs.open();
    expect(await task.more!(offsetsOf(runs.offsets))).toBe(false);
    await task.close();
  });

  test('changes that all rows have are passed at once, and not looked at again', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, n int)');
    const runs = await runsOf(['t']);
    await run('INSERT INTO t VALUES (1, 0); UPDATE t SET n = 1; TRUNCATE t; INSERT INTO t VALUES (2, 2)');
    expect(await runs.run()).toBe('caught up');
    expect(runs.told).toEqual(['r 2']);
    const task = await runs.open();
    expect(await task.more!(offsetsOf(runs.offsets))).toBe(false);
    await task.close();
  });

  test('a subtransaction is part of the one that it is in', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)');
    const runs = await runsOf(['t']);
    const other = await session();
    await other.query('BEGIN; SAVEPOINT a; INSERT INTO t VALUES (1); SAVEPOINT b; INSERT INTO t VALUES (2)');
    await run('BEGIN; SAVEPOINT a; INSERT INTO t VALUES (3); SAVEPOINT b; INSERT INTO t VALUES (4); COMMIT');
    await runs.run({ polls: 1 });
    // The plan waits for who writes; here it is made already.
    runs.set(planAt('t'), { server: await system(), plan: 1, bounds: [], rows: 1 });
    await runs.run({ polls: 1 });
    expect(runs.told).toEqual(['r 0', 'r 3', 'r 4']);
    await other.query('COMMIT');
    await other.end();
    expect(await runs.run()).toBe('caught up');
    expect(runs.told.slice(3)).toEqual(['c 1', 'c 2']);
  });

  /** Commits until one is in the WAL and not visible, because a standby has to answer that is not there; `finish` lets it be. */
  const whileOneWaits = async (
    statement: (number: number) => string,
    work: (number: number, finish: () => Promise<unknown>) => Promise<void>,
  ): Promise<void> => {
    const writer = await session();
    const flushed = async () => (await all('SELECT pg_current_wal_flush_lsn()'))[0]![0] as string;
    const standbys = async (setting: string) => {
      await run(`ALTER SYSTEM ${setting}`);
      await run('SELECT pg_reload_conf()');
    };
    await standbys("SET synchronous_standby_names = 'nobody'");
    try {
      await until(
        async () =>
          (await writer.query('SHOW synchronous_standby_names')).rows[0].synchronous_standby_names === 'nobody',
      );
      // The server's checkpointer hears of the setting last.
      for (let number = 1; ; number++) {
        const before = await flushed();
        let isCommitted = false;
        const commit = writer.query(statement(number)).then(() => {
          isCommitted = true;
        });
        const waits = await until(async () => {
          if (isCommitted) return 'no';
          const waiting = await all("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
          return waiting.length === 1 ? 'yes' : undefined;
        });
        if (waits === 'no') continue;
        expect(await flushed()).not.toBe(before);
        return await work(number, () => standbys('RESET synchronous_standby_names').then(() => commit));
      }
    } finally {
      await standbys('RESET synchronous_standby_names');
      await writer.end();
    }
  };

  test('a commit that is in the WAL and not visible yet is not lost (H6)', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (0, 1)');
    const runs = await runsOf(['t']);
    await runs.run({ polls: 2 });
    await whileOneWaits(
      (id) => `INSERT INTO t VALUES (${id}, 0)`,
      async (id, finish) => {
        await runs.run({ polls: 1 });
        expect(runs.told).toEqual(Array.from({ length: id }, (_, i) => `r ${i}`));
        await finish();
        expect(await runs.run()).toBe('caught up');
        expect(runs.told.slice(id)).toEqual([`c ${id}`]);
      },
    );
  });

  test('nor is one that was told taken back by a row that is sent again', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)');
    const runs = await runsOf(['t'], {}, { isStrict: false });
    await runs.run();
    await whileOneWaits(
      (n) => `UPDATE t SET n = ${n}`,
      async (n, finish) => {
        await runs.run();
        expect(runs.rows(topic('t'))).toEqual([{ id: 1, n }]);
        runs.set(repairPartition({ server: 'shop' }, `${schema()}.t`), {
          repair: [['1']],
          passed: 0,
          views: [],
        });
        let isSent = false;
        const sent = runs.run().finally(() => {
          isSent = true;
        });
        await until(async () => isSent || isWaiting('Timeout'));
        await finish();
        await sent;
        expect(runs.told.at(-1)).toBe('r 1');
        expect(runs.rows(topic('t'))).toEqual([{ id: 1, n }]);
      },
    );
  });

  test('a view that is lost is followed by another', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i');
    const runs = await runsOf(['t']);
    await runs.run({ polls: 2 });
    let cuts = 0;
    const cutAfter = async () => {
      if (cuts++ > 3) return true;
      await run(`UPDATE t SET n = ${cuts} WHERE id % 5 = 0; DELETE FROM t WHERE id = ${900 + cuts}`);
      await run("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'sluice%'");
      return true;
    };
    // Whether a run sees it at once, and ends, or goes on in another view, is the network's matter.
    while ((await runs.run({ maxRecords: 200, keep: cutAfter }).catch(isUnavailable)) === 'again');
    expect(await runs.run({ maxRecords: 200 })).toBe('caught up');
    expect(cuts).toBeGreaterThan(3);
    const rows = (await all('SELECT id, n FROM t ORDER BY id')).map(([id, n]) => ({ id, n }));
    expect([...runs.rows(topic('t'))].sort((a, b) => Number(a.id) - Number(b.id))).toEqual(rows);
  });
});

describe('tables that come and go', () => {
  test('one that is added is read while the changes of the others wait, and loses nothing of who wrote meanwhile (H7)', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (id int PRIMARY KEY, n int);
      INSERT INTO t VALUES (1, 0); INSERT INTO u VALUES (1, 0)`);
    const runs = await runsOf(['t']);
    expect(await runs.run()).toBe('caught up');
    const before = await session();
    await before.query('BEGIN; INSERT INTO u VALUES (2, 2)');
    await run('UPDATE t SET n = 1');
    const both = config(['t', 'u'], initial);
    await postgresCdcSource.created!(contextOf(both));
    await run('UPDATE u SET n = 1');
    const after = createRuns(both, { state: runs.state });
    const ended = after.run();
    // The plan waits for the writer that was there before the table was published: its changes are not told.
    await until(() => isWaiting('Timeout'));
    await run('INSERT INTO u VALUES (3, 3)');
    await before.query('COMMIT');
    await before.end();
    expect(await ended).toBe('caught up');
    expect(after.told).toEqual(['r 1', 'r 1', 'r 2', 'r 3', 'u 1']);
  });

  test('one whose offset is reset is read anew, one that is gone is forgotten and comes back as new', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (id int PRIMARY KEY, n int);
      INSERT INTO t VALUES (1, 0); INSERT INTO u VALUES (1, 0)`);
    const runs = await runsOf(['t', 'u'], {}, { isStrict: false });
    await runs.run();
    await run('UPDATE t SET n = 5; UPDATE u SET n = 5; INSERT INTO t VALUES (2, 0)');
    runs.remove(planAt('t'));
    await runs.run();
    expect(runs.told).toEqual(['r 1', 'r 1', 'r 1', 'r 2', 'u 1']);
    expect(runs.rows(topic('t'))).toEqual([
      { id: 1, n: 5 },
      { id: 2, n: 0 },
    ]);
    const fewer = createRuns(config(['t'], initial), { state: runs.state });
    expect(await fewer.run()).toBe('caught up');
    expect(
      [...fewer.offsets.values()].find(
        ({ partition }) => partition.table === `${schema()}.u` && !('range' in partition),
      )!.offset,
    ).toMatchObject({ plan: null });
    await run('INSERT INTO u VALUES (2, 2)');
    const again = createRuns(config(['t', 'u'], initial), { isStrict: false, state: runs.state });
    await again.run();
    expect(again.told.slice(5)).toEqual(['r 1', 'r 2']);
  });

  test('those of a pattern are the published ones', async () => {
    await run(`CREATE TABLE a1 (id int PRIMARY KEY); CREATE TABLE a2 (id int PRIMARY KEY); INSERT INTO a1 VALUES (1)`);
    const whole = config(['a*'], { ...initial, topic: 'all' });
    await postgresCdcSource.created!(contextOf(whole));
    await run('CREATE TABLE a3 (id int PRIMARY KEY); INSERT INTO a3 VALUES (3)');
    const runs = createRuns(whole, { tasks: 2 });
    expect(await runs.run({ taskId: 1 })).toBe('waits');
    expect(await runs.run()).toBe('waits');
    expect(await runs.run({ taskId: 1 })).toBe('waits');
    expect(await runs.run()).toBe('caught up');
    expect(runs.told).toEqual(['r 1']);
    await postgresCdcSource.created!(contextOf(whole));
    await run('INSERT INTO a3 VALUES (4)');
    await runs.run();
    await runs.run({ taskId: 1 });
    expect(await runs.run()).toBe('caught up');
    expect(runs.told).toEqual(['r 1', 'r 3', 'r 4']);
  });

  test('one of a pattern that is published during a run is read by the next, and no row of it stays that is gone', async () => {
    await run('CREATE TABLE a1 (id int PRIMARY KEY)');
    const of = await capture(['a*'], { ...initial, topic: 'all' });
    const offsets = await of.withTask(async (task) => {
      const before = await of.readAll(task);
      await run('CREATE TABLE a2 (id int PRIMARY KEY)');
      await postgresCdcSource.created!(contextOf(of.config));
      await run('INSERT INTO a2 VALUES (3), (4)');
      const reading = await of.readAll(task, before.offsets);
      expect(reading.records).toEqual([]);
      return reading.offsets;
    });
    await run('DELETE FROM a2 WHERE id = 3');
    const { records } = await of.withTask((task) => of.readAll(task, offsets));
    expect(records.map(({ key, value }) => [key, (value as Struct).op])).toEqual([[{ id: 4 }, 'r']]);
  });
});

describe('a position', () => {
  const lost = (message: RegExp) => ({ code: 'LOST_POSITION', message: expect.stringMatching(message) });
  const half = async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i');
    const runs = await runsOf(['t']);
    await runs.run({ polls: 3, maxRecords: 5 });
    return runs;
  };
  const rangeOf = (runs: ReturnType<typeof createRuns>) =>
    [...runs.offsets.values()].find(({ partition }) => 'range' in partition)!.offset as { views: { view: object }[] };

  test('of another server is lost', async () => {
    const runs = await half();
    runs.set(planAt('t'), {
      server: '1',
      plan: (rangeOf(runs) as unknown as { plan: number }).plan,
      bounds: [],
      rows: 1,
    });
    await expect(runs.run()).rejects.toMatchObject(lost(/planned on the server with system identifier 1, this one is/));
  });

  test('of another timeline is lost while rows are read, and while changes are told that they may have', async () => {
    const runs = await half();
    const offset = rangeOf(runs);
    const other = (more: object) => ({
      ...offset,
      ...more,
      views: offset.views.map((one) => ({ ...one, view: { ...one.view, timeline: 7 } })),
    });
    const lostThere = lost(/read on timeline 7, and the server went to 1/);
    await run('UPDATE t SET n = 1');
    runs.set(rangeAt('t', 0), other({}));
    await expect(runs.run()).rejects.toMatchObject(lostThere);
    runs.set(rangeAt('t', 0), offset);
    await runs.run({ polls: 1 });
    const whole = rangeOf(runs);
    runs.set(rangeAt('t', 0), {
      ...whole,
      views: whole.views.map((one) => ({ ...one, view: { ...one.view, timeline: 7 } })),
    });
    await expect(runs.run()).rejects.toMatchObject(lostThere);
    runs.set(rangeAt('t', 0), whole);
    expect(await runs.run()).toBe('caught up');
    await run('UPDATE t SET n = 3');
    expect(await runs.run()).toBe('caught up');
    // Once they are passed it is the slot's matter alone.
    runs.set(rangeAt('t', 0), {
      ...whole,
      views: whole.views.map((one) => ({ ...one, view: { ...one.view, timeline: 7 } })),
    });
    await run('UPDATE t SET n = 2');
    expect(await runs.run()).toBe('caught up');
  });

  test('of a slot that is dropped while rows are read is lost, because there will be no changes', async () => {
    const runs = await half();
    await run(`SELECT pg_drop_replication_slot('s_${schema()}')`);
    await expect(runs.run()).rejects.toMatchObject(lost(/was dropped/));
    expect(runs.told).toHaveLength(5);
  });

  test('of a connector that has read nothing is where its slot begins, which it makes where the deployment could not', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)');
    const runs = createRuns(config(['t'], { snapshotMode: 'initial' }));
    expect(await runs.run()).toBe('caught up');
    await run('INSERT INTO t VALUES (2)');
    expect(await runs.run()).toBe('caught up');
    expect(runs.told).toEqual(['r 1', 'c 2']);
    await run(`SELECT pg_drop_replication_slot('s_${schema()}')`);
    runs.remove({ server: 'shop' });
    await expect(runs.run()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('in a key that has other columns now is lost', async () => {
    const runs = await half();
    await run('ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, n)');
    await expect(runs.run()).rejects.toMatchObject(lost(/the key of t\d+\.t has other columns/));
  });
});

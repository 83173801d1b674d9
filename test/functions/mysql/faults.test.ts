import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { createOffsetsTable } from '../../../functions/mysql/offsets.ts';
import { mysqlSink } from '../../../functions/mysql/sink.ts';
import type { RecordInput } from '../../../shared/connect/build.ts';
import { type OffsetCommit, partitionKey } from '../../../shared/connect/connector.ts';
import { nextCommit, putRecords, structOf } from '../../kit/put-records.ts';
import { until } from '../../kit/until.ts';
import { createWire } from '../../kit/wire.ts';
import { useSink } from './sink-fixture.ts';

const record = (id: number): RecordInput => ({ topic: 't', value: { id }, valueSchema: structOf({ id: 'int32' }) });

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  const { server, login, contextOf, openSink, connectReader, database, run, all } = useSink(flavour);
  const ids = async () => (await all(`SELECT id FROM ${database()}.t ORDER BY id`)).flat();
  const sessions = async () => (await all('SHOW FULL PROCESSLIST')).filter((row) => row[3] === database()).length - 1;
  /** InnoDB makes the list anew only where nobody asked for it in the last tenth of a second. */
  const lockWaits = async () => {
    await delay(150);
    return (await all("SELECT trx_id FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'")).length;
  };

  describe('lost connections', () => {
    test('a put that is cut off at any answer of the server, and repeated, writes once', async () => {
      const wire = await createWire(server().port);
      const task = await openSink({ port: wire.port });
      let outcomes = '';
      for (let cut = 1, next = 0, done = false; !done; cut++) {
        const commit = await nextCommit(task);
        const records = [record(next++), record(next++)];
        wire.cutAfter(cut);
        const error = await putRecords(task, records, { offsets: [commit] }).then(
          () => undefined,
          (thrown) => thrown,
        );
        done = !wire.wasCut();
        wire.cutAfter(Number.POSITIVE_INFINITY);
        if (done) expect(error).toBeUndefined();
        else {
          expect(error).toMatchObject({ code: 'UNAVAILABLE', retriable: true, blame: 'system' });
          // The server may still be at it: the repeated put waits for the row it holds.
          expect(await putRecords(task, records, { offsets: [commit] })).toMatchObject({ committed: true });
        }
        outcomes += done ? '.' : 'x';
        expect(await ids()).toEqual(Array.from({ length: next }, (_, i) => i));
        expect(await nextCommit(task)).toMatchObject({ seq: commit.seq + 1 });
      }
      // The transaction's begin with the offset, its rows with the commit, and DDL before them the first time.
      expect(outcomes.length).toBeGreaterThanOrEqual(3);
      await task.close();
      await wire.close();
    });

    test('a server that is killed and comes back: the same task goes on, nothing is lost or doubled', async () => {
      const task = await openSink();
      await putRecords(task, [record(0)]);
      for (let round = 1; round <= 2; round++) {
        const commit = await nextCommit(task);
        const records = Array.from({ length: 2_000 }, (_, i) => record(round * 10_000 + i));
        const put = putRecords(task, records, { offsets: [commit] });
        const [outcome] = await Promise.allSettled([put, server().kill9()]);
        if (outcome.status === 'rejected') {
          expect(outcome.reason).toMatchObject({ code: 'UNAVAILABLE', retriable: true });
          const again = putRecords(task, records, { offsets: [commit] });
          await expect(again).rejects.toMatchObject({ code: 'UNAVAILABLE' });
        }
        await server().restart();
        await connectReader();
        await putRecords(task, records, { offsets: [commit] });
        expect(await ids()).toHaveLength(1 + 2_000 * round);
      }
      await task.close();
      await run(`USE ${database()}`);
    });

    test('an aborted put lets go at once, even where a lock holds it, and leaves nothing', {
      timeout: 10_000,
    }, async () => {
      const task = await openSink();
      await putRecords(task, [record(1)]);
      const commit = await nextCommit(task);
      await run('BEGIN; SELECT * FROM sluice_offsets FOR UPDATE');
      const budget = new AbortController();
      const put = putRecords(task, [record(2)], { offsets: [commit], signal: budget.signal });
      const outcome = expect(put).rejects.toMatchObject({ code: 'STOPPED', blame: 'system' });
      await until(async () => (await lockWaits()) === 1);
      budget.abort(new Error('the budget ended'));
      await outcome;
      await run('COMMIT');
      await until(async () => (await sessions()) === 0);
      expect(await ids()).toEqual([1]);
      await putRecords(task, [record(2)], { offsets: [commit] });
      await task.close();
      expect(await ids()).toEqual([1, 2]);
    });

    test('a deadlock is tried again, and never commits a part', async () => {
      await run(
        'CREATE TABLE t (id integer PRIMARY KEY, n integer) ENGINE = InnoDB; INSERT INTO t VALUES (1, 0), (2, 0)',
      );
      const task = await openSink({ mode: 'upsert', keyFields: ['id'] });
      await putRecords(task, []);
      const commit = await nextCommit(task);
      const many = Array.from({ length: 500 }, (_, i) => record(i + 10));
      await run('BEGIN; UPDATE t SET n = 1 WHERE id = 2');
      const put = putRecords(task, [...many, record(1), record(2)], { offsets: [commit] });
      const outcome = put.then(
        () => undefined,
        (thrown) => thrown,
      );
      await until(async () => (await lockWaits()) === 1);
      // The heavier transaction is the survivor.
      const mine = await run('INSERT INTO t SELECT id + 5000, 1 FROM t; UPDATE t SET n = 2 WHERE id = 1').catch(
        (error) => error,
      );
      await run('ROLLBACK');
      const error = await outcome;
      expect([mine?.errno, error?.cause?.errno].filter((errno) => errno === 1213)).toHaveLength(1);
      if (error !== undefined) {
        expect(error).toMatchObject({ code: 'UNAVAILABLE', retriable: true, blame: 'system' });
        expect(await ids()).toEqual([1, 2]);
        await putRecords(task, [...many, record(1), record(2)], { offsets: [commit] });
      }
      expect(await ids()).toHaveLength(502);
      await task.close();
    });

    test('close leaves no session behind', async () => {
      const task = await openSink();
      await putRecords(task, [record(1)]);
      expect(await sessions()).toBe(1);
      await task.close();
      await until(async () => (await sessions()) === 0);
    });

    test('two runs with the same partitions in another order do not deadlock', async () => {
      const tasks = await Promise.all([openSink(), openSink()]);
      const commits = (by: string, seq: number) =>
        Array.from({ length: 9 }, (_, p): OffsetCommit => {
          const partition = { p };
          return { key: partitionKey(partition), partition, offset: seq, seq, writeId: `${by}-${seq}` };
        });
      await putRecords(tasks[0]!, [], { offsets: commits('a', 0) });
      // Both stop at the row in the middle, each with the rows before it in its order.
      await run(`BEGIN; SELECT * FROM sluice_offsets WHERE \`partition\` = '{"p":4}' AND deployment = 'd' FOR UPDATE`);
      const puts = Promise.allSettled([
        putRecords(tasks[0]!, [], { offsets: commits('a', 1) }),
        putRecords(tasks[1]!, [], { offsets: commits('b', 1).reverse() }),
      ]);
      await until(async () => (await lockWaits()) === 2);
      await run('COMMIT');
      const failed = (await puts).filter((result) => result.status === 'rejected');
      expect(failed).toMatchObject([{ reason: { code: 'FENCED' } }]);
      for (const task of tasks) await task.close();
    });
  });

  describe('sluice_offsets', () => {
    test('a row of a newer release stops this one', async () => {
      const task = await openSink();
      await putRecords(task, [record(1)]);
      const commit = await nextCommit(task);
      await run('UPDATE sluice_offsets SET v = 2');
      await expect(task.offsets!()).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
      const put = putRecords(task, [record(2)], { offsets: [commit] });
      await expect(put).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
      await task.close();
      expect(await ids()).toEqual([1]);
    });

    test('a partition is as long as it likes', async () => {
      const task = await openSink();
      const partition = { path: 'ä/'.repeat(3_000) };
      const commit = { key: partitionKey(partition), partition, offset: { n: 1 }, seq: 0, writeId: 'w' };
      await putRecords(task, [record(1)], { offsets: [commit] });
      expect(await task.offsets!()).toMatchObject([{ partition, offset: { n: 1 }, seq: 1 }]);
      await task.close();
    });

    test('a run that finds nothing to do makes no table', async () => {
      const task = await openSink();
      expect(await task.offsets!()).toEqual([]);
      await putRecords(task, [], { offsets: [] });
      await task.close();
      expect(await all('SHOW TABLES')).toEqual([]);
    });

    test('without transactions nothing is written', async () => {
      await run(createOffsetsTable(database()).replace('InnoDB', 'MyISAM').replaceAll('varchar(200)', 'varchar(50)'));
      const task = await openSink();
      const put = putRecords(task, [record(1)], { offsets: [] }).then(() => putRecords(task, [record(1)]));
      await expect(put).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringMatching(/MyISAM has no transactions/),
      });
      await task.close();
    });
  });

  describe('logging in', () => {
    test.each([
      ['a wrong password', { password: 'wr0ng-s3cret' }, 'AUTHENTICATION_FAILED', true],
      ['a database that is missing', { database: 'nowhere' }, 'CONFIG_INVALID', false],
      ['no server', { port: 1 }, 'UNAVAILABLE', true],
      ['a host that is unknown', { host: 'nowhere.invalid' }, 'UNAVAILABLE', true],
    ] as const)('%s is told without the password', async (_, change, code, retriable) => {
      const error = await openSink(change).then(
        () => undefined,
        (thrown) => thrown,
      );
      expect(error).toMatchObject({ code, retriable, blame: 'system' });
      for (let at = error; at instanceof Error; at = at.cause as Error)
        expect(`${at.message} ${JSON.stringify(at)}`).not.toMatch(/wr0ng-s3cret|p'w/);
      expect(await mysqlSink.check!(contextOf(change))).toEqual([error.message]);
    });

    test('by a URL, with TLS where the server has it', async () => {
      const { host, port, user, password } = login();
      const url = new URL(`mysql://${host}:${port}/${database()}`);
      url.username = user;
      url.password = encodeURIComponent(password);
      const context = contextOf();
      const config = mysqlSink.config.parse({ url: url.href });
      const task = await mysqlSink.open({ ...context, config });
      await putRecords(task, [record(1)]);
      expect(await ids()).toEqual([1]);
      await task.close();
      const required = openSink({ ssl: 'require' });
      if (flavour === 'mysql') await (await required).close();
      else await expect(required).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
      // Its certificate is its own.
      await expect(openSink({ ssl: 'verify-full' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    });
  });

  describe('check', () => {
    test('an account that may do everything has no problems', async () => {
      expect(await mysqlSink.check!(contextOf())).toEqual([]);
    });

    test('what is missing is told: the table, its key, transactions', async () => {
      const check = (config: object) => mysqlSink.check!(contextOf(config as never));
      expect(await check({ table: 'absent', create: false })).toEqual([
        expect.stringMatching(/sluice_offsets` is missing/),
        expect.stringMatching(/`absent` is missing/),
      ]);
      expect(await check({ create: false, transactions: 'atomic' })).toEqual([
        expect.stringMatching(/sluice_offsets` is missing/),
        expect.stringMatching(/CREATE TABLE IF NOT EXISTS .*sluice_staged/),
      ]);
      expect(await check({ create: false, visibility: 'batch' })).toEqual([
        expect.stringMatching(/sluice_offsets` is missing/),
        expect.stringMatching(/CREATE TABLE IF NOT EXISTS .*sluice_runs/),
      ]);
      expect(await check({ table: 'a.b.c' })).toEqual([expect.stringMatching(/more than one dot/)]);
      await run('CREATE TABLE t (id integer NOT NULL) ENGINE = MyISAM');
      expect(await check({ table: 't', keyFields: ['id'] })).toEqual([
        expect.stringMatching(/MyISAM has no transactions: ALTER TABLE .* ENGINE = InnoDB/),
        expect.stringMatching(/ADD PRIMARY KEY \(`id`\)/),
      ]);
    });

    test('a put without a privilege is a system error that names it', async () => {
      const user = `u_${database()}`;
      await run(
        `CREATE USER ${user} IDENTIFIED BY 'pw'; CREATE TABLE t (id integer); GRANT SELECT, CREATE ON ${database()}.* TO ${user}; ${createOffsetsTable(database())}; GRANT INSERT, UPDATE ON ${database()}.sluice_offsets TO ${user}`,
      );
      const put = openSink({ user, password: 'pw' }).then((task) =>
        putRecords(task, [record(1)]).finally(() => task.close()),
      );
      await expect(put).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        blame: 'system',
        message: expect.stringMatching(/INSERT command denied/),
      });
      await run(`GRANT INSERT ON ${database()}.t TO ${user}`);
      const task = await openSink({ user, password: 'pw' });
      await putRecords(task, [record(1)]);
      await task.close();
      expect(await ids()).toEqual([1]);
    });
  });
});

test('the shape of sluice_offsets is pinned: changing it needs a reader for rows of this one', () => {
  expect(createOffsetsTable('s')).toMatchInlineSnapshot(`
    "CREATE TABLE IF NOT EXISTS \`s\`.\`sluice_offsets\` (
        deployment varchar(200) NOT NULL, connector varchar(200) NOT NULL, incarnation varchar(200) NOT NULL,
        partition_hash binary(32) NOT NULL, \`partition\` longtext NOT NULL,
        seq bigint NOT NULL, write_id varchar(255) NOT NULL, \`offset\` longtext, reset_id varchar(255),
        v smallint NOT NULL, updated_at datetime(6) NOT NULL,
        PRIMARY KEY (deployment, connector, incarnation, partition_hash)) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
  `);
});

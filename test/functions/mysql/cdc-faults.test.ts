import mysql from 'mysql2/promise';
import { describe, expect, test } from 'vitest';
import { partitionKey } from '../../../shared/connect/connector.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { type Flavour, type MysqlServer, startMysql } from '../../kit/mysql-server.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { until } from '../../kit/until.ts';
import { useMysql } from './cdc-fixture.ts';

const stream = partitionKey({ server: 'shop' });

/** Has a second server follow the first one, as a replica that may take over does. */
const follow: Record<Flavour, (primary: MysqlServer) => string> = {
  mariadb: ({ host, port, user, password }) =>
    `CHANGE MASTER TO MASTER_HOST='${host}', MASTER_PORT=${port}, MASTER_USER='${user}', MASTER_PASSWORD=${mysql.escape(password)}, MASTER_USE_GTID=slave_pos; START SLAVE`,
  mysql: ({ host, port, user, password }) =>
    `CHANGE MASTER TO MASTER_HOST='${host}', MASTER_PORT=${port}, MASTER_USER='${user}', MASTER_PASSWORD=${mysql.escape(password)}, MASTER_AUTO_POSITION=1, GET_MASTER_PUBLIC_KEY=1; START SLAVE`,
};

const readOn = (of: SourceFixture, offsets: OffsetMap) => {
  const { withTask, readAll } = createRunner(of);
  return withTask((task) => readAll(task, offsets));
};

const idsOf = async (of: SourceFixture, offsets: OffsetMap) =>
  (await readOn(of, offsets)).records.map(({ key }) => (key as Struct).id);

/** A table of one row, which is read. */
const started = async ({ database, run, fixture }: ReturnType<typeof useMysql>) => {
  const name = await database();
  await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)');
  const of = { ...fixture({ tables: [`${name}.t`] }), expected: [] } as SourceFixture;
  const { offsets } = await readOn(of, new Map());
  return { name, of, offsets };
};

describe.each(['mariadb', 'mysql'] as const)('what can go wrong with %s', (flavour) => {
  const server = useMysql(flavour);
  const { run } = server;
  const start = () => started(server);

  test('a place that the server has purged is a lost position, and nothing is skipped', async () => {
    const { of, offsets } = await start();
    await run('INSERT INTO t VALUES (2); FLUSH BINARY LOGS; INSERT INTO t VALUES (3); FLUSH BINARY LOGS');
    const [[status]] = (await run('SHOW MASTER STATUS')) as unknown as [[{ File: string }]];
    await until(async () => {
      await run(`PURGE BINARY LOGS TO '${status.File}'`);
      const [logs] = (await run('SHOW BINARY LOGS')) as unknown as [unknown[]];
      return logs.length === 1;
    });
    await expect(idsOf(of, offsets)).rejects.toMatchObject({ code: 'LOST_POSITION', blame: 'system' });
    await run('INSERT INTO t VALUES (4)');
    await expect(idsOf(of, offsets)).rejects.toMatchObject({ code: 'LOST_POSITION' });
  });

  test.each([
    ['file and position alone', ({ gtids: _, ...place }: Record<string, unknown>) => place],
    [
      'GTIDs that this one has not',
      (place: Record<string, unknown>) => ({
        ...place,
        gtids: flavour === 'mariadb' ? '7-9-1000' : 'ffffffff-0000-1111-8222-333333333333:1-5',
      }),
    ],
  ])('a place of another server, by %s, is a lost position', async (_, changed) => {
    const { of, offsets } = await start();
    const { partition, offset } = offsets.get(stream)!;
    const foreign = { ...changed(offset as Record<string, unknown>), server: 'another' };
    const elsewhere = new Map([...offsets, [stream, { partition, offset: foreign }] as const]);
    await run('INSERT INTO t VALUES (2)');
    await expect(idsOf(of, elsewhere)).rejects.toMatchObject({ code: 'LOST_POSITION', blame: 'system' });
    expect(await idsOf(of, offsets)).toEqual([2]);
  });

  test('a privilege that was taken away is told, and what was read before stands', async () => {
    const { name, of, offsets } = await start();
    const account = `'reader_${name}'@'%'`;
    await run(`CREATE USER ${account} IDENTIFIED BY 'secret'; GRANT SELECT ON ${name}.* TO ${account};
      GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO ${account}`);
    const config = { ...(of.config as object), user: `reader_${name}`, password: 'secret' };
    const reader = { ...of, config } as SourceFixture;
    await run('INSERT INTO t VALUES (2)');
    expect(await idsOf(reader, offsets)).toEqual([2]);
    await run(`REVOKE REPLICATION SLAVE ON *.* FROM ${account}`);
    await expect(idsOf(reader, offsets)).rejects.toMatchObject({ code: 'CONFIG_INVALID', blame: 'system' });
    await run(`GRANT REPLICATION SLAVE ON *.* TO ${account}; REVOKE SELECT ON ${name}.* FROM ${account}`);
    await expect(idsOf(reader, new Map())).rejects.toMatchObject({ code: 'NOT_FOUND', blame: 'system' });
    expect(await idsOf(of, offsets)).toEqual([2]);
  });

  test('a table that was dropped before it was read is told', async () => {
    const { of } = await start();
    await run('DROP TABLE t');
    await expect(idsOf(of, new Map())).rejects.toMatchObject({ code: 'NOT_FOUND', blame: 'system' });
  });

  test('a server that is down is tried again, and one that came back is read on', async () => {
    const { of, offsets } = await start();
    const offline = { ...of, config: { ...(of.config as object), port: 1 } } as SourceFixture;
    await expect(idsOf(offline, offsets)).rejects.toMatchObject({ code: 'UNAVAILABLE', retriable: true });
    await run('INSERT INTO t VALUES (2)');
    expect(await idsOf(of, offsets)).toEqual([2]);
  });
});

describe.each(['mariadb', 'mysql'] as const)('a failover of %s', (flavour) => {
  const primary = useMysql(flavour);

  test('a replica that took over is read on from the same GTIDs', { timeout: 120_000 }, async () => {
    const { of, offsets } = await started(primary);
    const replica = await startMysql(flavour, ['--server-id=2', '--log-slave-updates=ON']);
    try {
      const { host, port, user, password } = replica;
      const db = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
      await db.query(follow[flavour](primary.server()));
      await primary.run('INSERT INTO t VALUES (2)');
      const config = { ...(of.config as object), port };
      const name = (of.config as unknown as { tables: string[] }).tables[0];
      const arrived = async () => {
        const [rows] = await db.query(`SELECT * FROM ${name} WHERE id = 2`).catch(() => [[]]);
        return (rows as unknown[]).length === 1;
      };
      await until(arrived, { timeoutMs: 60_000 });
      await db.query(`STOP SLAVE; INSERT INTO ${name} VALUES (3)`);
      await db.end();
      expect(await idsOf({ ...of, config } as SourceFixture, offsets)).toEqual([2, 3]);
    } finally {
      await replica.stop();
    }
  });
});

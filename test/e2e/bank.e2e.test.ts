import { setImmediate } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MysqlServer, startMysql } from '../kit/mysql-server.ts';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { seeded } from '../kit/seed.ts';
import { type Ended, makeWorkplace, messageOf } from '../kit/sluice.ts';

/** Accounts of each of the two tables, and what all of them have together. */
const accounts = 300;
const total = 2 * accounts * 100;
const transfers = 150;
/** Fewer than the accounts that a large transaction changes. */
const maxRecords = 250;

let mysqlServer: MysqlServer;
let postgres: PostgresServer;
beforeAll(async () => {
  mysqlServer = await startMysql('mysql');
  postgres = await startPostgres(['wal_level=logical', 'max_wal_senders=0']);
});
afterAll(async () => {
  await mysqlServer?.stop();
  await postgres?.stop();
});

type Query = (sql: string) => Promise<unknown[][]>;

/** A session of each kind, for statements and for reading rows as arrays. */
const sessions = {
  async mysql(): Promise<{ query: Query; end(): Promise<void> }> {
    const { host, port, user, password } = mysqlServer;
    const db = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
    return {
      query: async (sql) => (await db.query({ sql, rowsAsArray: true }))[0] as unknown as unknown[][],
      end: () => db.end(),
    };
  },
  async postgres(): Promise<{ query: Query; end(): Promise<void> }> {
    const db = new pg.Client(postgres.url);
    await db.connect();
    return { query: async (text) => (await db.query({ text, rowMode: 'array' })).rows, end: () => db.end() };
  },
};

/** Where the source's tables are, and what its connector needs. */
const sources = {
  mysql: { name: 'bank', connector: 'mysql-cdc', url: 'MYSQL', config: '' },
  postgres: { name: 'bank', connector: 'postgres-cdc', url: 'POSTGRES', config: '' },
} as const;

const urlOf = (system: string) => `"\${env:SLUICE_${system}_URL}"`;

/** Each way from a source to a sink: a destination has two tables of its own. */
const ways = ['postgres', 'mysql'].flatMap((sink) => ['log', 'direct'].map((way) => ({ sink, way })));

const pipelineOf = (kind: keyof typeof sources): string => {
  const { connector, url } = sources[kind];
  const source = (topic: string) =>
    `{ url: ${urlOf(url)}, topicPrefix: p, tables: [bank.near, bank.far], transactions: true${topic} }`;
  const sink = (system: string, way: string) =>
    `{ url: ${urlOf(system.toUpperCase())}, table: "${kind}_${way}_\${source.table}", transactions: atomic }`;
  return `name: bank
sources:
  changes: { connector: ${connector}, every: 1m, maxRecords: ${maxRecords}, config: ${source(', topic: all')} }
sinks:
  log-postgres: { connector: postgres, from: [all], maxRecords: ${maxRecords}, config: ${sink('postgres', 'log')} }
  log-mysql: { connector: mysql, from: [all], maxRecords: ${maxRecords}, config: ${sink('mysql', 'log')} }
direct:
  direct-postgres:
    every: 1m
    maxRecords: ${maxRecords}
    source: { connector: ${connector}, config: ${source('')} }
    sink: { connector: postgres, config: ${sink('postgres', 'direct')} }
  direct-mysql:
    every: 1m
    maxRecords: ${maxRecords}
    source: { connector: ${connector}, config: ${source('')} }
    sink: { connector: mysql, config: ${sink('mysql', 'direct')} }
`;
};

/** A transaction that leaves the total as it was: mostly small, now and then larger than a batch. Accounts are closed and opened again on the way. */
const transferOf = (random: ReturnType<typeof seeded>): string => {
  const id = () => random.integer(1, accounts);
  const amount = random.integer(1, 20);
  const move = (from: string, to: string) =>
    `UPDATE bank.${from} SET n = n - ${amount} WHERE id = ${id()}; UPDATE bank.${to} SET n = n + ${amount} WHERE id = ${id()}`;
  const closed = id();
  const statements = random.pick([
    move('near', 'far'),
    move('far', 'near'),
    `${move('near', 'near')}; ${move('near', 'far')}; ${move('far', 'far')}`,
    `UPDATE bank.near SET n = n - 1; UPDATE bank.far SET n = n + 1`,
    `INSERT INTO bank.far SELECT id + 1000, n FROM bank.near WHERE id = ${closed}; DELETE FROM bank.near WHERE id = ${closed};
     INSERT INTO bank.near SELECT id - 1000, n FROM bank.far WHERE id = ${closed} + 1000; DELETE FROM bank.far WHERE id = ${closed} + 1000`,
  ]);
  return `BEGIN; ${statements}; COMMIT`;
};

const drained = (ended: Ended) => expect(ended.code, messageOf(ended)).toBe(0);

describe.each(Object.keys(sources) as (keyof typeof sources)[])('a bank in %s', (kind) => {
  test('each reader of each destination sees the same total at any time, whatever is killed', {
    timeout: 900_000,
  }, async () => {
    await using place = await makeWorkplace();
    await place.file('p.yaml', pipelineOf(kind));
    const db = await sessions[kind]();
    await db.query(kind === 'mysql' ? 'CREATE DATABASE bank' : 'CREATE SCHEMA bank');
    const other = await sessions.mysql();
    await other.query('CREATE DATABASE IF NOT EXISTS copy');
    const rows = Array.from({ length: accounts }, (_, i) => `(${i + 1}, 100)`).join();
    for (const table of ['near', 'far'])
      await db.query(
        `CREATE TABLE bank.${table} (id int PRIMARY KEY, n int); INSERT INTO bank.${table} VALUES ${rows}`,
      );
    const { host, port, user, password } = mysqlServer;
    const env = {
      SLUICE_MYSQL_URL: `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/copy`,
      SLUICE_POSTGRES_URL: postgres.url,
    };
    // Rows that were there are shown as they come: from then on a reader sees states that the source had, and no others.
    drained(await place.sluice(['run', 'p.yaml'], env));

    const random = seeded(`bank in ${kind}`);
    let isWriting = true;
    const writers = Array.from({ length: 2 }, async () => {
      const session = await sessions[kind]();
      // Else a transaction may itself lose an account that another one moves.
      if (kind === 'postgres') await session.query("SET default_transaction_isolation = 'serializable'");
      for (let i = 0; i < transfers && isWriting; i++)
        // Two that wait for each other: one of them is as if it had not been.
        await session.query(transferOf(random)).catch(() => session.query('ROLLBACK'));
      await session.end();
    });
    const seen = new Map<string, Set<number>>();
    let isReading = true;
    const readers = (['mysql', 'postgres'] as const).map(async (sink) => {
      const session = await sessions[sink]();
      const of = ways.filter((one) => one.sink === sink);
      for (const { way } of of) seen.set(`${sink} ${way}`, new Set());
      while (isReading)
        for (const { way } of of) {
          const table = (name: string) => `${sink === 'mysql' ? 'copy.' : ''}${kind}_${way}_${name}`;
          const [row] = await session.query(
            `SELECT (SELECT sum(n) FROM ${table('near')}) + (SELECT sum(n) FROM ${table('far')})`,
          );
          seen.get(`${sink} ${way}`)!.add(Number(row![0]));
          await setImmediate();
        }
      await session.end();
    });
    try {
      drained(await place.sluice(['run', 'p.yaml', '--chaos', String(random.seed)], env));
      drained(await place.sluice(['run', 'p.yaml'], env));
      isWriting = false;
      await Promise.all(writers);
      drained(await place.sluice(['run', 'p.yaml'], env));
    } finally {
      [isWriting, isReading] = [false, false];
      await Promise.all([...writers, ...readers]);
    }
    expect(Object.fromEntries([...seen].map(([name, totals]) => [name, [...totals]]))).toEqual(
      Object.fromEntries(ways.map(({ sink, way }) => [`${sink} ${way}`, [total]])),
    );

    for (const table of ['near', 'far']) {
      const of = async (session: { query: Query }, name: string) =>
        (await session.query(`SELECT id, n FROM ${name} ORDER BY id`)).join(' ');
      const expected = await of(db, `bank.${table}`);
      const postgresDb = await sessions.postgres();
      for (const { sink, way } of ways) {
        const name = `${kind}_${way}_${table}`;
        const found = sink === 'mysql' ? await of(other, `copy.${name}`) : await of(postgresDb, name);
        expect(found, `${sink} ${name}`).toBe(expected);
      }
      await postgresDb.end();
    }
    for (const session of [other, db]) await session.end();
  });
});

import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type MysqlServer, startMysql } from '../kit/mysql-server.ts';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { queryRows } from '../kit/rows.ts';
import { seeded } from '../kit/seed.ts';
import { type Ended, makeWorkplace, messageOf } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

const timeout = 300_000;

let postgres: PostgresServer;
let server: MysqlServer;
let db: mysql.Connection;
beforeAll(async () => {
  postgres = await startPostgres();
  server = await startMysql('mariadb');
  const { host, port, user, password } = server;
  db = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
});
afterAll(async () => {
  await db?.end();
  await server?.stop();
  await postgres?.stop();
});

const pipeline = `name: p
sources:
  shop:
    connector: mysql-query
    every: 1m
    timeout: 5s
    maxRecords: 700
    config:
      url: "\${env:SLUICE_MYSQL_URL}"
      topicPrefix: mysql
      tables: [shop.orders]
      mode: timestamp
      timestampColumns: [changed]
      timestampDelayIntervalMs: 0
  codes:
    connector: postgres-query
    cron: 0 3 * * ? *
    maxRecords: 300
    config: { url: "\${env:SLUICE_POSTGRES_URL}", topicPrefix: pg, tables: [ref.codes], mode: bulk }
  items:
    connector: mysql-query
    cron: 0 2 * * ? *
    timeout: 5s
    maxRecords: 150
    config:
      url: "\${env:SLUICE_MYSQL_URL}"
      topicPrefix: mysql
      tables: [shop.items]
      mode: timestamp
      timestampColumns: [changed]
      timestampDelayIntervalMs: 0
      runs: true
  stock:
    connector: mysql-query
    cron: 0 2 * * ? *
    timeout: 5s
    maxRecords: 100
    tasks: 3
    config: { url: "\${env:SLUICE_MYSQL_URL}", topicPrefix: mysql, tables: [shop.stock], excludeColumns: [pad], mode: bulk, runs: true }
direct:
  parts:
    every: 1m
    timeout: 5s
    maxRecords: 100
    tasks: 3
    source: { connector: mysql-query, config: { url: "\${env:SLUICE_MYSQL_URL}", topicPrefix: parts, tables: [shop.stock], excludeColumns: [pad], mode: bulk, runs: true } }
    sink: { connector: postgres, config: { url: "\${env:SLUICE_POSTGRES_URL}", table: parts, transactions: atomic } }
  whole:
    every: 1m
    timeout: 5s
    maxRecords: 100
    tasks: 3
    source: { connector: mysql-query, config: { url: "\${env:SLUICE_MYSQL_URL}", topicPrefix: whole, tables: [shop.stock], excludeColumns: [pad], mode: bulk, runs: true } }
    sink: { connector: postgres, config: { url: "\${env:SLUICE_POSTGRES_URL}", table: whole, visibility: batch } }
sinks:
  shown:
    connector: postgres
    from: [mysql.shop.items, mysql.shop.stock]
    timeout: 5s
    config: { url: "\${env:SLUICE_POSTGRES_URL}", table: "\${table}", visibility: batch }
  warehouse:
    connector: postgres
    from: [mysql.shop.orders, pg.ref.codes]
    timeout: 5s
    config: { url: "\${env:SLUICE_POSTGRES_URL}", table: "\${table}" }
`;

/** Of each table, all that a reader ever saw of it: how many rows there were, and what they came to. */
const watch = async (tables: readonly string[]) => {
  const reader = new pg.Client(postgres.url);
  await reader.connect();
  const seen = new Map(tables.map((table) => [table, new Set<string>()]));
  let isOver = false;
  const looks = (async () => {
    while (!isOver) {
      for (const [table, states] of seen) {
        const { rows } = await reader
          .query(`SELECT count(*) || ' of ' || coalesce(sum(price), 0) AS state FROM ${table}`)
          .catch(() => ({ rows: [{ state: '0 of 0' }] }));
        states.add(rows[0].state);
      }
      await delay(5);
    }
    await reader.end();
  })();
  return async () => {
    isOver = true;
    await looks;
    return Object.fromEntries(Array.from(seen, ([table, states]) => [table, [...states]]));
  };
};

test('queries into PostgreSQL, by timestamp and in bulk, whatever is killed', { timeout }, async () => {
  await using place = await makeWorkplace();
  const { host, port, user, password } = server;
  const env = {
    SLUICE_MYSQL_URL: `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/`,
    SLUICE_POSTGRES_URL: postgres.url,
  };
  await place.file('p.yaml', pipeline);
  await db.query(`CREATE DATABASE shop; USE shop; CREATE TABLE orders (id int PRIMARY KEY, price decimal(12,2), changed timestamp(6) NOT NULL
    DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), INDEX (changed));
    INSERT INTO orders (id, price) SELECT seq, seq / 4 FROM seq_1_to_5000;
    CREATE TABLE items LIKE orders; INSERT INTO items (id, price) SELECT seq, 1 FROM seq_1_to_2000;
    CREATE TABLE stock (id int PRIMARY KEY, price int, pad longtext); INSERT INTO stock SELECT seq, 1, repeat('x', 60000) FROM seq_1_to_1200; ANALYZE TABLE stock`);
  await queryRows(
    postgres.url,
    "CREATE SCHEMA ref; CREATE TABLE ref.codes AS SELECT n AS id, 'code ' || n AS name FROM generate_series(1, 1000) n; ALTER TABLE ref.codes ADD PRIMARY KEY (id)",
  );
  const seen = await watch(['items', 'stock', 'whole', 'parts']);
  await drained(place.sluice(['run', 'p.yaml', '--chaos', String(seeded('chaos').seed)], env));
  await db.query(
    `UPDATE orders SET price = price + 1 WHERE id % 7 = 0; INSERT INTO orders (id, price) VALUES (9000, 1);
     UPDATE items SET price = price + 1 WHERE id % 7 = 0`,
  );
  await queryRows(postgres.url, "UPDATE ref.codes SET name = 'new' WHERE id > 990");
  await drained(place.sluice(['run', 'p.yaml'], env));

  // Each window and each reading was seen whole: what changed since the first is a window of its own.
  const states = await seen();
  expect(states.items!.toSorted()).toEqual(['0 of 0', '2000 of 2000.00', '2000 of 2285.00']);
  for (const table of ['stock', 'whole']) expect(states[table]!.toSorted(), table).toEqual(['0 of 0', '1200 of 1200']);
  // Transactions are of one partition each, and so is a range.
  expect(states.parts!.toSorted()).toEqual(expect.arrayContaining(['0 of 0', '1200 of 1200']));
  expect(states.parts!.length).toBeLessThanOrEqual(4);

  const expected = (
    await db.query({
      sql: 'SELECT CAST(id AS char), CAST(price AS char) FROM orders ORDER BY orders.id',
      rowsAsArray: true,
    })
  )[0];
  expect(await queryRows(postgres.url, 'SELECT id::text, price::text FROM orders ORDER BY orders.id')).toEqual(
    expected,
  );
  const codes = await queryRows(postgres.url, 'SELECT id, name FROM ref.codes ORDER BY id');
  expect(codes).toHaveLength(1_000);
  expect(await queryRows(postgres.url, 'SELECT id, name FROM codes ORDER BY id')).toEqual(codes);
  await until(() => place.processes().length === 0);
});

const drained = async (run: Promise<Ended>) => {
  const ended = await run;
  expect(ended.code, messageOf(ended)).toBe(0);
};

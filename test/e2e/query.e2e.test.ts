import mysql from 'mysql2/promise';
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
sinks:
  warehouse:
    connector: postgres
    from: [mysql.shop.orders, pg.ref.codes]
    timeout: 5s
    config: { url: "\${env:SLUICE_POSTGRES_URL}", table: "\${table}" }
`;

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
    INSERT INTO orders (id, price) SELECT seq, seq / 4 FROM seq_1_to_5000`);
  await queryRows(
    postgres.url,
    "CREATE SCHEMA ref; CREATE TABLE ref.codes AS SELECT n AS id, 'code ' || n AS name FROM generate_series(1, 1000) n; ALTER TABLE ref.codes ADD PRIMARY KEY (id)",
  );
  await drained(place.sluice(['run', 'p.yaml', '--chaos', String(seeded('chaos').seed)], env));
  await db.query(
    'UPDATE orders SET price = price + 1 WHERE id % 7 = 0; INSERT INTO orders (id, price) VALUES (9000, 1)',
  );
  await queryRows(postgres.url, "UPDATE ref.codes SET name = 'new' WHERE id > 990");
  await drained(place.sluice(['run', 'p.yaml'], env));

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

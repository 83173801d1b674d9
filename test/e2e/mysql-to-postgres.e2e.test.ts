import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MysqlServer, startMysql } from '../kit/mysql-server.ts';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { queryRows } from '../kit/rows.ts';
import { seeded } from '../kit/seed.ts';
import { type Ended, envelopeOf, makeWorkplace, messageOf, repository } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

const timeout = 400_000;
/** About as long as the runs under which they happen. */
const transactions = 2_000;

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres?.stop());

describe.each(['mariadb', 'mysql', 'mysql-5.7'] as const)('%s to PostgreSQL', (flavour) => {
  let server: MysqlServer;
  let db: mysql.Connection;
  beforeAll(async () => {
    server = await startMysql(flavour);
    const { host, port, user, password } = server;
    db = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
  });
  afterAll(async () => {
    await db?.end();
    await server?.stop();
  });

  test('the pipeline of the repository copies and follows tables that change all the time, whatever is killed', {
    timeout,
  }, async () => {
    await using place = await makeWorkplace();
    await db.query(`DROP DATABASE IF EXISTS shop; CREATE DATABASE shop; USE shop;
      CREATE TABLE customers (id int PRIMARY KEY AUTO_INCREMENT, name varchar(40), since datetime(6), note text);
      CREATE TABLE orders (id bigint, line smallint unsigned, customer int, price decimal(12,2), PRIMARY KEY (id, line))`);
    const customers = Array.from(
      { length: 3_000 },
      (_, i) => `(${i + 1}, 'customer ${i}', '2024-02-29 12:00:00.00000${i % 10}', NULL)`,
    );
    const orders = Array.from({ length: 20_000 }, (_, i) => `(${i >> 1}, ${i % 2}, ${i % 3_000}, ${i}.25)`);
    await db.query(`INSERT INTO customers VALUES ${customers.join()}; INSERT INTO orders VALUES ${orders.join()}`);

    const database = `shop_${flavour.replace(/\W/g, '_')}`;
    await queryRows(postgres.url, `CREATE DATABASE ${database}`);
    const target = new URL(postgres.url);
    target.pathname = `/${database}`;
    const { host, port, user, password } = server;
    const env = {
      SLUICE_MYSQL_URL: `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/shop`,
      SLUICE_POSTGRES_URL: target.href,
    };
    const yaml = await readFile(join(repository, 'infra/pipelines/mysql-to-postgres.yaml'), 'utf8');
    const small = yaml.replaceAll(/^( +)connector: .*$/gm, '$&\n$1timeout: 5s\n$1maxRecords: 1500\n$1tasks: 2');
    // Sinks take changes as they are, and as rows.
    const asRows = small.replaceAll(/^( +)connector: postgres$/gm, '$&\n$1transforms: [unwrap]');
    await place.file('p.yaml', flavour === 'mysql' ? asRows : small);

    const random = seeded('changes');
    let writing = true;
    const writer = (async () => {
      for (let i = 0; i < transactions && writing; i++) await db.query(changeOf(random));
    })();
    try {
      const { seed } = seeded('chaos');
      await drained(place.sluice(['run', 'p.yaml', '--chaos', String(seed)], env));
      await drained(place.sluice(['run', 'p.yaml'], env));
    } finally {
      writing = false;
      await writer;
    }
    await drained(place.sluice(['run', 'p.yaml'], env));

    const source = async (sql: string) =>
      ((await db.query({ sql, rowsAsArray: true }))[0] as unknown as unknown[][]).map((row) => row.map(textOf));
    for (const [table, columns, texts] of [
      [
        'customers',
        'id, name, CAST(since AS char), note',
        "id, name, to_char(since, 'YYYY-MM-DD HH24:MI:SS.US'), note",
      ],
      ['orders', 'CAST(id AS char), line, customer, CAST(price AS char)', 'id::text, line, customer, price::text'],
    ]) {
      const order = table === 'orders' ? 'orders.id, line' : 'id';
      const expected = await source(`SELECT ${columns} FROM shop.${table} ORDER BY ${order}`);
      const found = await queryRows(target.href, `SELECT ${texts} FROM ${table} ORDER BY ${order}`);
      expect(found.length, table).toBe(expected.length);
      expect(
        found.filter((row, i) => JSON.stringify(row) !== JSON.stringify(expected[i])),
        table,
      ).toEqual([]);
    }
    const states = envelopeOf(await place.sluice(['status', '--json'])).result as { snapshot?: unknown[] }[];
    expect(states.flatMap(({ snapshot = [] }) => snapshot)).toMatchObject([
      { table: 'shop.customers', done: true },
      { table: 'shop.orders', done: true },
    ]);
    await until(() => place.processes().length === 0);
  });
});

/** A transaction of a few statements: rows that come, change, get another key and go. */
const changeOf = (random: ReturnType<typeof seeded>): string => {
  const order = () => random.integer(0, 12_000);
  const customer = random.integer(1, 3_000);
  const statements = Array.from({ length: random.integer(1, 5) }, () =>
    random.pick([
      `INSERT IGNORE INTO shop.orders VALUES (${order()}, ${random.integer(0, 3)}, 1, 1.5)`,
      `UPDATE shop.orders SET price = price + 1 WHERE id = ${order()}`,
      `DELETE FROM shop.orders WHERE id = ${order()} AND line = 1`,
      `UPDATE IGNORE shop.orders SET id = ${order()} WHERE id = ${order()} AND line = 0`,
      `UPDATE shop.customers SET note = concat('seen ', ${order()}) WHERE id BETWEEN ${customer} AND ${customer + 20}`,
      `INSERT INTO shop.customers (name, since) VALUES ('new', '2025-01-01 00:00:00.5')`,
    ]),
  );
  return `BEGIN; ${statements.join('; ')}; COMMIT`;
};

const drained = async (run: Promise<Ended>) => {
  const ended = await run;
  expect(ended.code, messageOf(ended)).toBe(0);
};

const textOf = (value: unknown) => (value === null ? null : String(value));

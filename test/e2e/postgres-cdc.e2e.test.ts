import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { countsOf, difference, queryRows, same } from '../kit/rows.ts';
import { seeded } from '../kit/seed.ts';
import { makeWorkplace, messageOf } from '../kit/sluice.ts';

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres(['wal_level=logical', 'max_wal_senders=0']);
});
afterAll(() => postgres?.stop());

const url = `'\${env:SLUICE_POSTGRES_URL}'`;
const sink = (table: string) => `  ${table}:
    connector: postgres
    from: [shop.public.${table}]
    maxRecords: 700
    config: { url: ${url}, table: copy.${table}, schema: copy }
`;
const pipeline = `name: p
topics: { shop.public.accounts: { queues: 3 } }
sources:
  changes:
    connector: postgres-cdc
    every: 1m
    maxRecords: 500
    tasks: 3
    config: { url: ${url}, topicPrefix: shop, tables: [public.accounts, public.notes] }
sinks:
${sink('accounts')}${sink('notes')}`;

const tables = `CREATE SCHEMA copy;
  CREATE TABLE accounts (id bigint PRIMARY KEY, owner text, balance numeric(12,2), at timestamptz DEFAULT now());
  CREATE TABLE notes (a int, b text, body jsonb, PRIMARY KEY (b, a))`;

/** Transactions of many kinds: rows that come, change, go, come again under the same key and under another one. */
const writeSome = async (db: pg.Client, random: ReturnType<typeof seeded>) => {
  const id = () => random.integer(1, 400);
  const statements = [
    () =>
      `INSERT INTO accounts (id, owner, balance) SELECT n, md5(n::text), n * 1.25 FROM generate_series(${id()}, ${id()}) n ON CONFLICT DO NOTHING`,
    () => `UPDATE accounts SET balance = balance - 0.01, at = now() WHERE id BETWEEN ${id()} AND ${id()}`,
    () =>
      `UPDATE accounts SET id = id + 1000 WHERE id = ${id()} AND NOT EXISTS (SELECT FROM accounts o WHERE o.id = accounts.id + 1000)`,
    () => `DELETE FROM accounts WHERE id % 7 = ${random.integer(0, 6)} AND id < ${id()}`,
    () =>
      `INSERT INTO notes VALUES (${random.integer(1, 20)}, 'x${random.integer(1, 5)}', '{"n": ${id()}}') ON CONFLICT (b, a) DO UPDATE SET body = EXCLUDED.body`,
    () => `DELETE FROM notes WHERE a = ${random.integer(1, 20)}`,
  ];
  const chosen = Array.from({ length: random.integer(1, 4) }, () => random.pick(statements)!());
  await db.query(`BEGIN; ${chosen.join('; ')}; ${random.integer(0, 9) === 0 ? 'ROLLBACK' : 'COMMIT'}`);
};

test('tables that are written all the time are the same behind the log, whatever is killed', {
  timeout: 400_000,
}, async () => {
  await using place = await makeWorkplace();
  await place.file('p.yaml', pipeline);
  const random = seeded('postgres-cdc');
  const db = new pg.Client(postgres.url);
  await db.connect();
  await db.query(tables);
  const start = () => place.start(['run', 'p.yaml'], { SLUICE_POSTGRES_URL: postgres.url });
  // Rows that are there before the slot is; what is written from then on is captured.
  await db.query(`INSERT INTO accounts SELECT n * 3, 'before', n FROM generate_series(1, 2000) n;
    INSERT INTO notes SELECT n, 'before', '{"n": 0}' FROM generate_series(1, 1000) n`);
  const made = await start().ended;
  expect(made.code, messageOf(made)).toBe(0);

  let stop = false;
  const writer = (async () => {
    for (; !stop; await delay(40)) await writeSome(db, random);
  })();
  for (let round = 0; round < 3; round++) {
    const running = start();
    await delay(random.integer(2_000, 8_000));
    running.kill('SIGKILL');
    await running.ended;
  }
  stop = true;
  await writer;
  const last = await start().ended;
  expect(last.code, messageOf(last)).toBe(0);

  for (const table of ['accounts', 'notes']) {
    const columns = table === 'accounts' ? 'id, owner, balance, at' : 'a, b, body';
    const [source, copy] = await Promise.all(
      ['public', 'copy'].map((schema) => queryRows(postgres.url, `SELECT ${columns} FROM ${schema}.${table}`)),
    );
    expect(source!.length).toBeGreaterThan(0);
    expect(difference(countsOf(copy!), countsOf(source!)), table).toEqual(same);
  }
  await db.end();
});

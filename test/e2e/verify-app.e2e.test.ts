import { readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Database, useDatabases } from '../kit/database.ts';
import { makeWorkplace, repository } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';
import { differencesOf, verifiedOf } from '../kit/verify-pipeline.ts';

const timeout = 400_000;

const server = useDatabases(['mariadb', 'postgres']);

const app = `import { appendFileSync } from 'node:fs';
import { type BuildPipelines, mysqlCdcSource, mysqlQuerySource, mysqlSink, Pipeline, postgresCdcSource, postgresSink, Trigger } from 'sluice';

const my = '\${env:MY_URL}';
const pg = '\${env:PG_URL}';
const build: BuildPipelines = (scope, platform) => {
  appendFileSync('synths', 'one ');
  const copy = new Pipeline(scope, 'Copy', { platform, name: 'copy' });
  const trigger = Trigger.continuous();
  const changes = copy.addSource('changes', {
    connector: mysqlCdcSource({ url: my, topicPrefix: 'a', tables: ['shop.orders'] }),
    trigger,
  });
  const numbers = copy.addSource('numbers', {
    connector: mysqlQuerySource({ url: my, topicPrefix: 'b', tables: ['shop.items'], mode: 'incrementing', incrementingColumn: 'id' }),
    trigger,
  });
  copy.addSink('to', { from: [changes, numbers], connector: postgresSink({ url: pg, table: '\${table}' }) });
  copy.addDirect('back', {
    source: postgresCdcSource({ url: pg, topicPrefix: 'c', tables: ['public.people'] }),
    sink: mysqlSink({ url: my, table: 'shop.\${table}' }),
    trigger,
  });
};

export default build;
`;

test('continuous sources of an app that have nothing more to read pass a place that they commit nothing for', {
  timeout,
}, async () => {
  await using shop = await server('mariadb').database('shop');
  await using people = await server('postgres').database('people');
  await shop.run(`CREATE TABLE orders (id int PRIMARY KEY, n int); CREATE TABLE items (id int PRIMARY KEY, n int);
    CREATE TABLE other (id int AUTO_INCREMENT PRIMARY KEY, n int);
    INSERT INTO orders VALUES (1, 1), (2, 2), (3, 3); INSERT INTO items VALUES (1, 1), (2, 2)`);
  await people.run(`CREATE TABLE people (id int PRIMARY KEY, n int); CREATE TABLE other (id serial, n int);
    INSERT INTO people VALUES (1, 1), (2, 2)`);
  await using place = await makeWorkplace();
  await symlink(join(repository, 'node_modules'), place.path('node_modules'));
  await place.file('app.ts', app);
  const env = { MY_URL: shop.url, PG_URL: people.url };
  const dev = place.start(['dev', 'app.ts'], env);
  const count = async (db: Database, table: string) =>
    Number((await db.rows(`SELECT count(*) FROM ${table}`).catch(() => [['0']]))[0]![0]);
  const arrived = async () =>
    (await count(people, 'orders')) === 3 &&
    (await count(people, 'items')) === 2 &&
    (await count(shop, 'people')) === 2;
  await until(arrived, { timeoutMs: 200_000 });
  await shop.run('INSERT INTO orders VALUES (4, 4)');
  await until(async () => (await count(people, 'orders')) === 4, { timeoutMs: 60_000 });

  // The logs go on without a change of these tables, and so no position is committed.
  await shop.run('INSERT INTO other (n) VALUES (1); FLUSH BINARY LOGS; INSERT INTO other (n) VALUES (2)');
  await people.run('INSERT INTO other (n) VALUES (1)');
  await people.run('UPDATE orders SET n = 0 WHERE id = 2; DELETE FROM items WHERE id = 1');
  await shop.run('UPDATE people SET n = 0 WHERE id = 1');
  const found = await place.sluice(['verify', 'app.ts', '--json'], env);
  expect(differencesOf(found)).toEqual({ orders: ['different 2 n'], items: ['missing 1'], people: ['different 1 n'] });
  const tables = verifiedOf(found).map(({ table }) => table);
  expect(tables.toSorted()).toEqual(['public.people', 'shop.items', 'shop.orders']);
  expect(found.code).toBe(1);
  // They go on by themselves.
  await shop.run('INSERT INTO orders VALUES (5, 5)');
  await people.run('INSERT INTO people VALUES (3, 3)');
  await until(async () => (await count(people, 'orders')) === 5 && (await count(shop, 'people')) === 3, {
    timeoutMs: 60_000,
  });
  dev.kill('SIGINT');
  await dev.ended;

  // Where nothing runs, it is started, as it is synthesized to know its names.
  const synths = async () => (await readFile(place.path('synths'), 'utf8')).split(' ').length - 1;
  const before = await synths();
  const started = await place.sluice(['verify', 'app.ts', '--json'], env);
  expect(differencesOf(started)).toMatchObject({ orders: ['different 2 n'] });
  expect((await synths()) - before).toBe(1);
});

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Host, startHost } from '../../infra/local/host.ts';
import { synthPipelines } from '../../infra/synth.ts';
import { type MysqlServer, startMysql } from '../kit/mysql-server.ts';
import { jsonLinesOf } from '../kit/rows.ts';
import { until } from '../kit/until.ts';

const timeout = 400_000;
const rows = 3_000;

let directory: string;
let server: MysqlServer;
let db: mysql.Connection;
let host: Host;
const lines: string[] = [];

/** The source of docs/writing-a-pipeline.md, on a host whose clock does not strike: the test is the night. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sluice-nightly-'));
  server = await startMysql('mariadb');
  const { host: address, port, user, password } = server;
  db = await mysql.createConnection({ host: address, port, user, password, multipleStatements: true });
  await db.query(`CREATE DATABASE shop; USE shop; CREATE TABLE prices (id int PRIMARY KEY, price int);
    INSERT INTO prices SELECT seq, seq FROM seq_1_to_${rows};
    CREATE TABLE orders (id int PRIMARY KEY, price int, changed timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), INDEX (changed));
    INSERT INTO orders (id, price) SELECT seq, 1 FROM seq_1_to_${rows};
    CREATE TABLE stock (id int PRIMARY KEY, pad longtext); INSERT INTO stock SELECT seq, repeat('x', 60000) FROM seq_1_to_1200; ANALYZE TABLE stock`);
  const file = join(directory, 'p.yaml');
  await writeFile(
    file,
    `name: p
sources:
  prices:
    connector: mysql-query
    cron: 0 2 * * ? *
    timeZone: Europe/Berlin
    window: 30m
    timeout: 3s
    maxRecords: 100
    config: { url: "\${env:MY}", topicPrefix: my, tables: [shop.prices], mode: bulk }
  orders:
    connector: mysql-query
    cron: 0 2 * * ? *
    timeout: 3s
    maxRecords: 20
    config: { url: "\${env:MY}", topicPrefix: my, tables: [shop.orders], mode: timestamp, timestampColumns: [changed], timestampDelayIntervalMs: 0, runs: true }
  stock:
    connector: mysql-query
    cron: 0 2 * * ? *
    timeout: 5s
    maxRecords: 100
    tasks: 3
    config: { url: "\${env:MY}", topicPrefix: my, tables: [shop.stock], excludeColumns: [pad], mode: bulk, runs: true }
sinks:
  whole: { connector: mysql, from: [stock], timeout: 5s, config: { url: "\${env:MY}", table: whole, visibility: batch } }
  shown: { connector: mysql, from: [orders], timeout: 5s, config: { url: "\${env:MY}", table: copies, visibility: batch } }
  files: { connector: file, from: [prices], config: { path: ${join(directory, 'out')} } }
`,
  );
  host = await startHost({
    assembly: await synthPipelines({ files: [file], outdir: join(directory, 'cdk.out') }),
    stateDir: join(directory, 'state'),
    env: { MY: `mysql://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}/shop` },
    fireAtStart: false,
    minuteMs: 24 * 3_600_000,
    onLog: (_, line) => void lines.push(line),
  });
}, timeout);
afterAll(async () => {
  await host?.stop();
  await db?.end();
  await server?.stop();
  await rm(directory, { recursive: true, force: true });
}, timeout);

const invoke = async (name: RegExp, payload: object) => {
  const answer = await host.invoke(host.functions.find(({ logicalId }) => name.test(logicalId))!.name, payload);
  expect(answer.functionError, answer.payload).toBeUndefined();
  await host.idle();
};
const strike = (source: string) =>
  invoke(new RegExp(`p${source}`), { connector: `p-${source}`, task: 0, reason: 'schedule' });
const sweep = () => invoke(/Coordinator/, { reason: 'sweep' });
const written = async () =>
  ((await jsonLinesOf(join(directory, 'out/my.shop.prices')).catch(() => [])) as { id: number; price: number }[]).map(
    ({ id, price }) => `${id}:${price}`,
  );

test('a table is read once each night, over as many runs as it takes, and not in between', { timeout }, async () => {
  await sweep();
  expect(await written(), 'the deploy did not start it').toEqual([]);

  await strike('prices');
  const night = Array.from({ length: rows }, (_, i) => `${i + 1}:${i + 1}`);
  expect(await written()).toEqual(night);

  await db.query('UPDATE prices SET price = 0 WHERE id = 7; INSERT INTO prices VALUES (9000, 1)');
  for (let minute = 0; minute < 3; minute++) await sweep();
  expect((await written()).length, 'the day is quiet').toBe(rows);

  // A trigger that comes twice within a second reads once: the next night is later than that.
  await until(async () => {
    await strike('prices');
    return (await written()).length > rows;
  });
  const next = [...night.with(6, '7:0'), '9000:1'];
  expect(await written()).toEqual([...night, ...next]);
});

test('a window is seen whole, over as many runs as it takes', { timeout }, async () => {
  const { host: address, port, user, password } = server;
  const reader = await mysql.createConnection({ host: address, port, user, password, database: 'shop' });
  const seen = new Set<string>();
  /** What a reader sees meanwhile, over and over. */
  const seenDuring = async (night: Promise<void>) => {
    let isOver = false;
    const over = night.finally(() => {
      isOver = true;
    });
    while (!isOver) {
      const [found] = await reader
        .query('SELECT COUNT(*) AS n, CAST(SUM(price) AS char) AS price FROM copies')
        .catch(() => [[{ n: 0, price: null }]]);
      const [{ n, price }] = found as [{ n: number; price: string | null }];
      seen.add(`${n}:${price}`);
      await setImmediate();
    }
    await over;
  };
  try {
    lines.length = 0;
    await seenDuring(strike('orders'));
    expect(lines.filter((line) => /p-orders/.test(line) && /"outcome":"more"/.test(line)).length).toBeGreaterThan(0);
    await db.query('UPDATE orders SET price = 3 WHERE id <= 1000');
    await seenDuring(strike('orders'));
    expect([...seen]).toEqual(['0:null', `${rows}:${rows}`, `${rows}:${rows + 2_000}`]);
  } finally {
    await reader.end();
  }
});

test('a table is read by all tasks, whoever is triggered, and its end is told', { timeout }, async () => {
  lines.length = 0;
  await strike('stock');
  const readers = new Set(lines.flatMap((line) => /p-stock.*"task":(\d).*"records":[1-9]/.exec(line)?.[1] ?? []));
  expect(readers.size).toBe(2);
  const [found] = await db.query('SELECT COUNT(*) AS n, MIN(id) AS least, MAX(id) AS most FROM whole');
  expect(found).toEqual([{ n: 1_200, least: 1, most: 1_200 }]);
});

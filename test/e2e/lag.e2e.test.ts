import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientAt, findTable } from '../../infra/cli/platform.ts';
import { type Host, startHost } from '../../infra/local/host.ts';
import { synthPipelines } from '../../infra/synth.ts';
import { readState } from '../../shared/management/status.ts';
import { dynamoTable } from '../../shared/state/dynamodb/table.ts';
import { type MysqlServer, startMysql } from '../kit/mysql-server.ts';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { queryRows } from '../kit/rows.ts';

const timeout = 400_000;

let directory: string;
let postgres: PostgresServer;
let mariadb: MysqlServer;
let host: Host;
/** What functions logged as their lag, by function. */
const lines: { readonly of: string; readonly line: Record<string, unknown> }[] = [];

/** Two sources of changes that nothing starts, on a host whose clock does not strike. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sluice-lag-'));
  postgres = await startPostgres(['wal_level=logical', 'max_wal_senders=0', 'max_slot_wal_keep_size=64MB']);
  mariadb = await startMysql('mariadb');
  await queryRows(postgres.url, 'CREATE TABLE t (id int PRIMARY KEY)');
  await ask('CREATE DATABASE shop; CREATE TABLE shop.t (id int PRIMARY KEY, text longtext)');
  const file = join(directory, 'p.yaml');
  await writeFile(
    file,
    `name: p
sources:
  slow: { connector: postgres-cdc, trigger: manual, config: { url: "\${env:PG}", topicPrefix: pg, tables: [public.t], snapshotMode: no_data } }
  shop: { connector: mysql-cdc, trigger: manual, config: { url: "\${env:MY}", topicPrefix: my, tables: [shop.t] } }
sinks:
  files: { connector: file, from: [slow, shop], config: { path: ${join(directory, 'out')} } }
`,
  );
  const { user, password, port } = mariadb;
  host = await startHost({
    assembly: await synthPipelines({ files: [file], outdir: join(directory, 'cdk.out') }),
    stateDir: join(directory, 'state'),
    env: { PG: postgres.url, MY: `mysql://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}/shop` },
    fireAtStart: false,
    minuteMs: 24 * 3_600_000,
    onLog: (of, text) => {
      const line = JSON.parse(text) as Record<string, unknown>;
      if (line.message === 'lag') lines.push({ of, line });
    },
  });
}, timeout);
afterAll(async () => {
  await host?.stop();
  await mariadb?.stop();
  await postgres?.stop();
  await rm(directory, { recursive: true, force: true });
}, timeout);

const ask = async (sql: string) => {
  const { host: address, port, user, password } = mariadb;
  const client = await mysql.createConnection({ host: address, port, user, password, multipleStatements: true });
  await client.query(sql);
  await client.end();
};

const invoke = async (name: RegExp, payload: object) => {
  const answer = await host.invoke(host.functions.find(({ logicalId }) => name.test(logicalId))!.name, payload);
  await host.idle();
  return answer;
};
const sweep = () => invoke(/Coordinator/, { reason: 'sweep' });

test('sources that nothing starts are asked in their own functions, by their roles, and half of what is kept rings', {
  timeout,
}, async () => {
  await invoke(/pshop/, { connector: 'p-shop', task: 0, reason: 'manual' });
  await ask(`INSERT INTO shop.t VALUES (1, REPEAT('x', 100000))`);
  await queryRows(postgres.url, 'CREATE TABLE busy (a text); ALTER TABLE busy ALTER a SET STORAGE EXTERNAL');
  await queryRows(postgres.url, 'INSERT INTO busy SELECT repeat(md5(n::text), 60) FROM generate_series(1, 22000) n');
  expect((await sweep()).functionError).toBeUndefined();

  const told = new Map(lines.map(({ of, line }) => [line.connector, { of, line }]));
  expect(told.get('p-slow')).toMatchObject({
    of: expect.stringMatching(/pslow/),
    line: { bytes: expect.any(Number), behindMs: expect.any(Number), retainedBytes: expect.any(Number) },
  });
  expect(told.get('p-slow')!.line.retainedShare).toBeGreaterThan(0.5);
  expect(told.get('p-shop')).toMatchObject({
    of: expect.stringMatching(/pshop/),
    line: { behindMs: expect.any(Number) },
  });
  expect(told.get('p-shop')!.line.bytes).toBeGreaterThan(100_000);
  const client = clientAt(host.dynamodb.endpoint);
  const table = dynamoTable({ client, tableName: await findTable(client) });
  expect((await readState(table, 'p-slow', Date.now()))!.progress.lag).toMatchObject({
    lag: { retained: { text: expect.stringMatching(/keeps \d+ MB of WAL/) } },
  });
  client.destroy();

  const [asked, second] = [lines.length, await sweep()];
  expect(second.functionError).toBeDefined();
  expect(String(Buffer.from(second.payload ?? ''))).toMatch(
    /p-slow: the server keeps \d+ MB of WAL for replication slot/,
  );
  // Not asked again before ten minutes are over.
  expect(lines.length).toBe(asked);
});

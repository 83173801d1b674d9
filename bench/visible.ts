/**
 * How long a change takes from its commit in the source until a reader of the destination sees it, with continuous sources on the local host.
 *
 *     npx node bench/visible.ts [changes]
 *
 * One row at a time is written to MariaDB or PostgreSQL, and looked for in the other one, again and again, until it is there; between two of them is a pause
 * of 20 to 80 ms. Prints medians, p90 and p99 in milliseconds for each way, directly and through the topic log.
 */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { stringify } from 'yaml';
import { runPostgres } from '../infra/local/embedded-postgres.ts';
import { startHost } from '../infra/local/host.ts';
import { mulberry32 } from '../infra/local/mulberry32.ts';
import { synthPipelines } from '../infra/synth.ts';
import { startMysql } from '../test/kit/mysql-server.ts';

const changes = Number(process.argv[2] ?? 300);
/** Not measured: the first ones make tables, and are cold. */
const warmUp = 20;

const work = await mkdtemp(join(tmpdir(), 'sluice-visible-'));
// PostgreSQL runs as another user where this runs as root.
await chmod(work, 0o755);
await mkdir(join(work, 'postgres'));
const maria = await startMysql('mariadb');
const postgres = await runPostgres({ directory: join(work, 'postgres'), settings: ['wal_level=logical'] });
const { host, port, user, password } = maria;
const mysqlClient = await mysql.createConnection({ host, port, user, password });
const pgClient = new pg.Client({ connectionString: postgres.url });
await pgClient.connect();
await mysqlClient.query('CREATE DATABASE bench');
const env = {
  BENCH_MYSQL: `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/bench`,
  BENCH_POSTGRES: postgres.url,
};

/** A table that is written to or looked into. */
const sides = {
  mysql: {
    url: '${env:BENCH_MYSQL}',
    source: 'mysql-cdc',
    sink: 'mysql',
    schema: 'bench',
    run: (sql: string) => mysqlClient.query(sql),
    has: async (table: string, id: number) =>
      ((await mysqlClient.query(`SELECT 1 FROM bench.${table} WHERE id = ${id}`))[0] as unknown[]).length === 1,
  },
  postgres: {
    url: '${env:BENCH_POSTGRES}',
    source: 'postgres-cdc',
    sink: 'postgres',
    schema: 'public',
    run: (sql: string) => pgClient.query(sql),
    has: async (table: string, id: number) =>
      (await pgClient.query(`SELECT 1 FROM public.${table} WHERE id = ${id}`)).rowCount === 1,
  },
} as const;
type Side = keyof typeof sides;

/** Directly; through the log, where data wakes the sink; the same with a sink that runs all the time. */
type Way = 'direct' | 'log' | 'log, continuous sink';

const pipelineOf = (name: string, from: Side, to: Side, way: Way) => {
  const source = {
    connector: sides[from].source,
    config: { url: sides[from].url, topicPrefix: 'from', tables: [`${sides[from].schema}.${name}`] },
    trigger: 'continuous',
  };
  const sink = { connector: sides[to].sink, config: { url: sides[to].url, table: `${name}_copy` } };
  const { trigger, ...direct } = source;
  return way === 'direct'
    ? { name, direct: { copy: { source: direct, sink, trigger } } }
    : {
        name,
        sources: { in: source },
        sinks: { out: { ...sink, from: ['in'], ...(way === 'log' ? {} : { trigger }) } },
      };
};

const measure = async (from: Side, to: Side, way: Way): Promise<void> => {
  const name = `${from}_${way.replaceAll(/\W+/g, '_')}`;
  await sides[from].run(`CREATE TABLE ${sides[from].schema}.${name} (id int PRIMARY KEY, n int)`);
  await sides[from].run(`INSERT INTO ${sides[from].schema}.${name} VALUES (0, 0)`);
  const directory = await mkdtemp(join(work, `${name}-`));
  const file = join(directory, 'pipeline.yaml');
  await writeFile(file, stringify(pipelineOf(name, from, to, way)));
  let failed: string | undefined;
  const running = await startHost({
    assembly: await synthPipelines({ files: [file], outdir: join(directory, 'cdk.out') }),
    stateDir: join(directory, 'state'),
    env,
    onLog: (functionName, line) => {
      if (line.startsWith('{') && JSON.parse(line).level === 'error') failed ??= `${functionName}: ${line}`;
    },
  });
  const isThere = async (id: number): Promise<boolean> => {
    if (failed !== undefined) throw new Error(failed);
    return sides[to].has(`${name}_copy`, id);
  };
  const random = mulberry32(7);
  const times: number[] = [];
  try {
    while (!(await isThere(0).catch(() => failed !== undefined && isThere(0)))) await delay(20);
    for (let id = 1; id <= changes + warmUp; id++) {
      await delay(20 + random() * 60);
      await sides[from].run(`INSERT INTO ${sides[from].schema}.${name} VALUES (${id}, ${id})`);
      const startMs = performance.now();
      while (!(await isThere(id))) await delay(1);
      if (id > warmUp) times.push(performance.now() - startMs);
    }
  } finally {
    await running.stop();
  }
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(0);
  const load = loadavg()[0]!.toFixed(1);
  console.log(
    `${from} → ${to}, ${way}: median ${at(0.5)} ms, p90 ${at(0.9)}, p99 ${at(0.99)} (${times.length} changes, load ${load})`,
  );
};

try {
  for (const way of ['direct', 'log', 'log, continuous sink'] as const) {
    await measure('mysql', 'postgres', way);
    await measure('postgres', 'mysql', way);
  }
} finally {
  await mysqlClient.end();
  await pgClient.end();
  await maria.stop();
  await postgres.stop();
  await rm(work, { recursive: true, force: true });
}

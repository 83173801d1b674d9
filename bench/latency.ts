/**
 * How long a record takes, on the local host.
 *
 *     npx node bench/latency.ts [rounds] [seconds]
 *
 * 1. From a trigger to its first row in PostgreSQL: an object is put into a bucket, whose event wakes the source; its records go through
 *    the log, and the stream wakes the sink. Warm: every function has run before. Cold: no process of any function is there.
 * 2. From commit to commit: a continuous source of a file that grows by 10 records a second, a sink that data wakes; from the commit of a
 *    record in the log to its commit in PostgreSQL. Commits are taken from what the functions say after them, in order.
 *
 * Prints medians, p90 and p99 in milliseconds; the machine's load beside them, because other processes make them larger.
 */
import { appendFile, chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { stringify } from 'yaml';
import { runPostgres } from '../infra/local/embedded-postgres.ts';
import { type Host, startHost } from '../infra/local/host.ts';
import { synthPipelines } from '../infra/synth.ts';
import { s3Client } from '../shared/s3/client.ts';

const rounds = Number(process.argv[2] ?? 20);
const seconds = Number(process.argv[3] ?? 60);

const directory = await mkdtemp(join(tmpdir(), 'sluice-latency-'));
// PostgreSQL runs as another user where this runs as root.
await chmod(directory, 0o755);
const postgres = await runPostgres({ directory: join(directory, 'postgres') });
const grows = join(directory, 'grows.jsonl');
await writeFile(grows, '');

/** Row after row of one connector, as its function says them: when it was committed. */
const commits: Record<string, number[]> = {};
let failed: string | undefined;
const onLog = (functionName: string, line: string): void => {
  const nowMs = performance.now();
  if (!line.startsWith('{')) return;
  const { level, message, connector, records = 0 } = JSON.parse(line);
  if (level === 'error') failed ??= `${functionName}: ${line}`;
  if (message !== 'batch') return;
  commits[connector] ??= [];
  for (let n = 0; n < records; n++) commits[connector].push(nowMs);
};

const start = async (name: string, source: object, idleMs?: number): Promise<Host> => {
  const pipeline = {
    name,
    sources: { source },
    sinks: { sink: { connector: 'postgres', from: ['source'], config: { url: postgres.url, table: name } } },
  };
  const file = join(directory, `${name}.yaml`);
  await writeFile(file, stringify(pipeline));
  return startHost({
    assembly: await synthPipelines({ files: [file], outdir: join(directory, name, 'cdk.out') }),
    stateDir: join(directory, name),
    env: { SLUICE_LOG_LEVEL: 'debug' },
    onLog,
    ...(idleMs === undefined ? {} : { idleMs }),
  });
};

const fields = { id: 'int64', at: 'string' };
const lineOf = (id: number): string => `${JSON.stringify({ id, at: new Date().toISOString() })}\n`;

const say = (what: string, times: readonly number[]): void => {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(0);
  const load = loadavg()[0]!.toFixed(1);
  console.log(`${what}: median ${at(0.5)} ms, p90 ${at(0.9)}, p99 ${at(0.99)} (${times.length} times, load ${load})`);
};

const requireGood = (): void => {
  if (failed !== undefined) throw new Error(failed);
};

/** Puts objects one by one, each when the one before has arrived and `ready`; returns how long each took. */
const firstRows = async (host: Host, table: string, count: number, ready: () => Promise<void>): Promise<number[]> => {
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  Object.assign(process.env, {
    AWS_ENDPOINT_URL_S3: host.s3.endpoint,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'local',
    AWS_SECRET_ACCESS_KEY: 'local',
  });
  const s3 = s3Client();
  const isThere = async (id: number): Promise<boolean> => {
    requireGood();
    const { rows } = await client.query(`SELECT to_regclass($1) IS NOT NULL AS made`, [table]);
    if (!rows[0].made) return false;
    return (await client.query(`SELECT 1 FROM ${table} WHERE id = $1`, [id])).rowCount === 1;
  };
  const times: number[] = [];
  try {
    for (let id = 0; id < count; id++) {
      await ready();
      const startMs = performance.now();
      await s3.put('inbox', `in/${String(id).padStart(6, '0')}.jsonl`, Buffer.from(lineOf(id)));
      while (!(await isThere(id))) await delay(2);
      times.push(performance.now() - startMs);
    }
  } finally {
    await client.end();
  }
  return times;
};

const fromBucket = {
  connector: 'file',
  trigger: { s3: 'inbox', prefix: 'in/' },
  config: { path: 's3://inbox/in/', topic: 'source', format: 'jsonl', fields },
};

try {
  const warm = await start('warm', fromBucket);
  // The first ones make the table, and are cold.
  say('trigger to first row, warm', (await firstRows(warm, 'warm', rounds + 3, () => warm.idle())).slice(3));
  await warm.stop();

  const idleMs = 300;
  const cold = await start('cold', fromBucket, idleMs);
  const gone = async () => {
    await cold.idle();
    await delay(4 * idleMs);
  };
  say('trigger to first row, cold', (await firstRows(cold, 'cold', Math.ceil(rounds / 2) + 1, gone)).slice(1));
  await cold.stop();

  const following = {
    connector: 'file',
    trigger: 'continuous',
    config: { path: grows, topic: 'source', format: 'jsonl', follow: true, fields },
  };
  const flowing = await start('flowing', following);
  const written: number[] = [];
  const warmUp = 50;
  for (let id = 0; id < seconds * 10 + warmUp; id++) {
    await appendFile(grows, lineOf(id));
    written.push(performance.now());
    await delay(100);
    requireGood();
  }
  await delay(2_000);
  const { 'flowing-source': inLog = [], 'flowing-sink': inPostgres = [] } = commits;
  if (inPostgres.length !== written.length)
    throw new Error(`${inPostgres.length} of ${written.length} records arrived`);
  const since = (times: readonly number[]) => inPostgres.map((ms, n) => ms - times[n]!).slice(warmUp);
  say('commit to commit, 10 records/s', since(inLog));
  say('written to the file until committed in PostgreSQL', since(written));
  await flowing.stop();
} finally {
  await postgres.stop();
  await rm(directory, { recursive: true, force: true });
}

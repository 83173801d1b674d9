/**
 * Databases: tables and their changes from MariaDB to PostgreSQL on the local host, and what a plain pipe takes for the same rows.
 *
 *     npx node bench/databases.ts [rows] [runs] [direct|log|direct-full|log-full|batch|ingestr|back|changes|changes-log|transaction|idle …]
 *
 * - direct, log: the whole table into an empty one with a primary key, without the topic log and through it; -full: into one that has all rows.
 * - batch: the copy that is shown at its end (`runs`, `visibility: batch`), and how many rows readers saw meanwhile.
 * - ingestr: the program in BENCH_INGESTR (https://github.com/bruin-data/ingestr), merging by the key into an empty table.
 * - back: the copy from PostgreSQL into an empty table of MariaDB.
 * - changes: 100,000 changes in 1,000 transactions that wait in the binlog, captured and applied.
 * - transaction: one that changes each row twice, for its memory.
 * - idle: the CPU of an invocation that finds nothing.
 *
 * The pipe: `mariadb --quick | psql`, COPY into a staging table and INSERT … ON CONFLICT of it, one transaction; it needs both programs. Prints
 * a table for bench/RESULTS.md: medians and, in parentheses, the least and the most.
 */
import { execFile } from 'node:child_process';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { runPostgres } from '../infra/local/embedded-postgres.ts';
import { mulberry32 } from '../infra/local/mulberry32.ts';
import { startMysql } from '../test/kit/mysql-server.ts';
import { writeLineitem } from './lineitem.ts';
import { type Measured, measurePipeline } from './pipeline.ts';
import { functionsCpu } from './processes.ts';
import { median, spread } from './spread.ts';

const rows = Number(process.argv[2] ?? 1_000_000);
const runs = Number(process.argv[3] ?? 5);
const asked = process.argv.slice(4);
const isAsked = (id: string) => asked.length === 0 || asked.includes(id);

const work = await mkdtemp(join(tmpdir(), 'sluice-bench-'));
// PostgreSQL runs as another user where this runs as root.
await chmod(work, 0o755);
await mkdir(join(work, 'postgres'));

const columns = `l_orderkey bigint, l_partkey int, l_suppkey int, l_linenumber int, l_quantity decimal(15,2), l_extendedprice decimal(15,2),
  l_discount decimal(15,2), l_tax decimal(15,2), l_returnflag char(1), l_linestatus char(1), l_shipdate date, l_commitdate date,
  l_receiptdate date, l_shipinstruct varchar(25), l_shipmode varchar(10), l_comment varchar(100), l_updated datetime(6)`;
const key = 'l_orderkey, l_linenumber';

/** The rows as MySQL's own text. */
const writeText = async (): Promise<string> => {
  const input = join(tmpdir(), `sluice-lineitem-${rows}.jsonl`);
  if (!existsSync(input)) await writeLineitem(input, rows);
  const path = join(work, 'rows.tsv');
  const out = createWriteStream(path);
  for await (const line of createInterface({ input: createReadStream(input) })) {
    const values = Object.values(JSON.parse(line) as object);
    const text = `${values.join('\t').replace(/T(\d\d:\d\d:\d\d\.\d+)Z$/, ' $1')}\n`;
    if (!out.write(text)) await new Promise((drained) => out.once('drain', () => drained(undefined)));
  }
  await new Promise((closed) => out.end(() => closed(undefined)));
  return path;
};

const maria = await startMysql('mariadb', ['--innodb-buffer-pool-size=512M', '--innodb-log-file-size=256M']);
const postgres = await runPostgres({ directory: join(work, 'postgres'), settings: ['wal_level=logical'] });
const { host, port, user, password } = maria;
const source = await mysql.createConnection({
  host,
  port,
  user,
  password,
  multipleStatements: true,
  infileStreamFactory: (path: string) => createReadStream(path),
} as never);
const target = new pg.Client({ connectionString: postgres.url });
await target.connect();
const env = {
  BENCH_SOURCE: `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/bench`,
  BENCH_TARGET: postgres.url,
};

/** Seconds of the pipe, into a table of its own that has the columns of `like`, with its rows or empty. */
const pipe = async (like: string, isFull: boolean): Promise<number> => {
  await target.query(`DROP TABLE IF EXISTS peer, peer_staging; CREATE TABLE peer (LIKE ${like} INCLUDING ALL);
    CREATE UNLOGGED TABLE peer_staging (LIKE ${like}); ${isFull ? `INSERT INTO peer SELECT * FROM ${like}` : ''}`);
  const { rows: found } = await target.query<{ name: string }>(
    "SELECT attname AS name FROM pg_attribute WHERE attrelid = 'peer'::regclass AND attnum > 0",
  );
  const names = found.map(({ name }) => name);
  const sets = names.filter((name) => !key.includes(name)).map((name) => `${name} = excluded.${name}`);
  const read = `mariadb -h ${host} -P ${port} -u ${user} --default-character-set=utf8mb4 --skip-ssl -N -B --quick -e "SELECT ${names.join()} FROM bench.lineitem"`;
  const write = `psql -q -1 "${postgres.url}" -c "COPY peer_staging FROM STDIN" -c "INSERT INTO peer SELECT * FROM peer_staging ON CONFLICT (${key}) DO UPDATE SET ${sets.join()}"`;
  const startMs = performance.now();
  await promisify(execFile)('bash', ['-o', 'pipefail', '-c', `${read} | ${write}`], {
    env: { ...process.env, MYSQL_PWD: password },
  });
  return (performance.now() - startMs) / 1000;
};

/** Seconds of ingestr, into a table that it makes. */
const ingestr = async (): Promise<number> => {
  await target.query('DROP TABLE IF EXISTS ingested');
  const sourceUri = `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/bench`;
  const what = ['--source-uri', sourceUri, '--source-table', 'bench.lineitem'];
  const into = ['--dest-uri', `${postgres.url}?sslmode=disable`, '--dest-table', 'public.ingested'];
  const how = ['--incremental-strategy', 'merge', '--primary-key', 'l_orderkey', '--primary-key', 'l_linenumber'];
  const startMs = performance.now();
  await promisify(execFile)(process.env.BENCH_INGESTR!, [
    ...['ingest', '--yes', '--progress', 'log'],
    ...what,
    ...into,
    ...how,
  ]);
  const seconds = (performance.now() - startMs) / 1000;
  const { rows: counted } = await target.query<{ n: number }>('SELECT count(*)::int AS n FROM ingested');
  if (counted[0]!.n !== rows) throw new Error(`ingestr brought ${counted[0]!.n} of ${rows} rows`);
  return seconds;
};

const from = (more: object = {}) => ({
  connector: 'mysql-cdc',
  config: { url: '${env:BENCH_SOURCE}', topicPrefix: 'mysql', tables: ['bench.lineitem'], ...more },
});
const to = (table: string, more: object = {}) => ({
  connector: 'postgres',
  config: { url: '${env:BENCH_TARGET}', table, ...more },
});

const direct = (table: string, more: object = {}, ofSink: object = {}) => ({
  direct: { out: { source: from(more), sink: to(table, ofSink), trigger: 'manual' } },
});
const throughLog = (table: string, more: object = {}) => ({
  sources: { in: { ...from(more), trigger: 'manual' } },
  sinks: { out: { ...to(table), from: ['in'] } },
});

const say = (cells: readonly (string | number)[]) => process.stdout.write(`| ${cells.join(' | ')} |\n`);

const rss = (measured: readonly Measured[]) =>
  ['in', 'out'].map((node) => Math.max(...measured.map(({ rssMb }) => rssMb[node] ?? 0)) || '–').join(' / ');

const report = async (
  id: string,
  name: string,
  count: number,
  run: (attempt: number) => Promise<Measured>,
  peer?: (attempt: number) => Promise<number>,
): Promise<void> => {
  if (!isAsked(id)) return;
  const measured: Measured[] = [];
  const peers: number[] = [];
  for (let attempt = 0; attempt < runs; attempt++) {
    measured.push(await run(attempt));
    if (peer !== undefined) peers.push(await peer(attempt));
  }
  const seconds = measured.map((one) => one.seconds);
  say([
    name,
    spread(seconds),
    `${Math.round(count / median(seconds) / 1000)}k`,
    spread(measured.map((one) => one.cpuSeconds)),
    rss(measured),
    ...(peers.length === 0 ? ['–', '–'] : [spread(peers), median(peers.map((one, i) => one / seconds[i]!)).toFixed(2)]),
    loadavg()[0]!.toFixed(1),
  ]);
};

const transactions = 1_000;
const changesPerTransaction = 100;

/** Half of them updates, the rest inserts and deletes, of rows all over the table. The log begins with them. */
const writeChanges = async (): Promise<void> => {
  const random = mulberry32(7);
  const order = () => 1 + Math.floor(random() * (rows / 4));
  let next = rows;
  await source.query('RESET MASTER');
  for (let i = 0; i < transactions; i++) {
    const statements = Array.from({ length: changesPerTransaction }, (_, n) => {
      if (n % 2 === 0)
        return `UPDATE lineitem SET l_quantity = l_quantity + 1 WHERE l_orderkey = ${order()} AND l_linenumber = ${1 + (n % 4)}`;
      if (n % 5 === 0) return `DELETE FROM lineitem WHERE l_orderkey = ${order()} AND l_linenumber = 2`;
      return `INSERT INTO lineitem SELECT ${++next}, l_partkey, l_suppkey, 1, l_quantity, l_extendedprice, l_discount, l_tax, l_returnflag, l_linestatus,
        l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, l_shipmode, l_comment, l_updated FROM lineitem WHERE l_orderkey = ${order()} AND l_linenumber = 1`;
    });
    await source.query(`BEGIN; ${statements.join('; ')}; COMMIT`);
  }
};

process.stdout.write(`${rows} rows, ${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, ${runs} runs\n\n`);
say(['pipeline', 's', 'rows/s', 'CPU-s', 'RSS MB source / sink', 'pipe s', 'pipe s / s', 'load']);
say(Array.from({ length: 8 }, () => '---'));

try {
  const text = await writeText();
  await source.query(
    `CREATE DATABASE bench; USE bench; CREATE TABLE lineitem (${columns}, PRIMARY KEY (${key})) CHARSET utf8mb4; SET sql_log_bin = 0`,
  );
  await source.query(`LOAD DATA LOCAL INFILE '${text}' INTO TABLE lineitem`);
  await source.query('SET sql_log_bin = 1; ANALYZE TABLE lineitem');
  const dropped = async (table: string) => void (await target.query(`DROP TABLE IF EXISTS ${table}`));

  for (const [id, pipeline, name] of [
    ['direct', direct, 'MariaDB → PostgreSQL, direct'],
    ['log', throughLog, 'MariaDB → log → PostgreSQL'],
  ] as const) {
    await report(
      id,
      `${name}, into an empty table`,
      rows,
      async () => {
        await dropped('copied');
        return measurePipeline(work, pipeline('copied'), env);
      },
      () => pipe('copied', false),
    );
    await report(
      `${id}-full`,
      `${name}, into a table that has all rows`,
      rows,
      async (attempt) => {
        if (attempt === 0) await measurePipeline(work, direct('copied'), env);
        return measurePipeline(work, pipeline('copied'), env);
      },
      () => pipe('copied', true),
    );
  }
  if (isAsked('batch')) {
    const seen = new Map<number, number>();
    const isOver = new AbortController();
    await dropped('shown');
    const reading = (async () => {
      while (!isOver.signal.aborted) {
        // Before the sink has made the table there is none.
        const { rows: found } = await target
          .query<{ n: number }>('SELECT count(*)::int AS n FROM shown')
          .catch((error: { code?: string }) => {
            if (error.code !== '42P01') throw error;
            return { rows: [{ n: 0 }] };
          });
        seen.set(found[0]!.n, (seen.get(found[0]!.n) ?? 0) + 1);
        await delay(5);
      }
    })();
    await report('batch', 'MariaDB → PostgreSQL, direct, shown at its end', rows, () =>
      measurePipeline(work, direct('shown', { runs: true }, { visibility: 'batch' }), env),
    );
    isOver.abort();
    await reading;
    const told = [...seen].map(([n, times]) => `${n} rows ${times} times`).join(', ');
    process.stdout.write(`\nReaders saw ${told}\n\n`);
  }
  if (isAsked('ingestr') && process.env.BENCH_INGESTR !== undefined) {
    const seconds: number[] = [];
    const peers: number[] = [];
    for (let run = 0; run < runs; run++) {
      seconds.push(await ingestr());
      await dropped('copied');
      await measurePipeline(work, direct('copied'), env);
      peers.push(await pipe('copied', false));
    }
    const ratio = median(peers.map((one, i) => one / seconds[i]!)).toFixed(2);
    const perSecond = `${Math.round(rows / median(seconds) / 1000)}k`;
    say([
      'ingestr, into an empty table',
      spread(seconds),
      perSecond,
      '–',
      '–',
      spread(peers),
      ratio,
      loadavg()[0]!.toFixed(1),
    ]);
  }
  if (isAsked('back')) {
    await dropped('copied');
    await measurePipeline(work, direct('copied'), env);
    await report('back', 'PostgreSQL → MariaDB, direct, into an empty table', rows, async (attempt) => {
      const source = {
        connector: 'postgres-cdc',
        config: {
          url: '${env:BENCH_TARGET}',
          topicPrefix: 'pg',
          tables: ['public.copied'],
          slotName: `bench_${attempt}`,
        },
      };
      const sink = { connector: 'mysql', config: { url: '${env:BENCH_SOURCE}', table: `back_${attempt}` } };
      return measurePipeline(work, { direct: { out: { source, sink, trigger: 'manual' } } }, env);
    });
  }
  if (isAsked('idle')) {
    const invocations = 50;
    let milliseconds = 0;
    await measurePipeline(work, direct('idle', { snapshotMode: 'no_data' }), env, async (invoke) => {
      const cpu = () => functionsCpu((name) => name.startsWith('Sluice-bench'));
      for (let i = 0; i < 5; i++) await invoke('out');
      const before = cpu();
      for (let i = 0; i < invocations; i++) await invoke('out');
      milliseconds = ((cpu() - before) * 1000) / invocations;
    });
    process.stdout.write(`\nAn invocation that finds nothing: ${milliseconds.toFixed(1)} ms of CPU\n\n`);
  }
  if (isAsked('changes') || isAsked('changes-log')) await writeChanges();
  const count = transactions * changesPerTransaction;
  for (const [id, pipeline, name] of [
    ['changes', direct, 'changes, direct'],
    ['changes-log', throughLog, 'changes, through the log'],
  ] as const)
    await report(id, name, count, () => measurePipeline(work, pipeline('copied', { snapshotMode: 'never' }), env));
  if (isAsked('transaction')) {
    await source.query(
      'RESET MASTER; BEGIN; UPDATE lineitem SET l_tax = l_tax + 1; UPDATE lineitem SET l_tax = l_tax - 1; COMMIT',
    );
    const measured = await measurePipeline(work, throughLog('copied', { snapshotMode: 'never' }), env);
    say([
      `one transaction of ${2 * rows} changes, through the log`,
      measured.seconds.toFixed(1),
      `${Math.round((2 * rows) / measured.seconds / 1000)}k`,
      measured.cpuSeconds.toFixed(1),
      rss([measured]),
      '–',
      '–',
      loadavg()[0]!.toFixed(1),
    ]);
  }
} finally {
  await source.end();
  await target.end();
  await maria.stop();
  await postgres.stop();
  await rm(work, { recursive: true, force: true });
}

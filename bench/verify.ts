/**
 * Verifying a copy: all rows of both sides of a pipeline from MariaDB to PostgreSQL, which are equal, and then with ten and with a thousand that differ, all
 * over the table.
 *
 *     npx node bench/verify.ts [rows] [runs]
 *
 * Prints, as medians with the least and the most: seconds from the first question to the result, CPU seconds of the functions, and the
 * largest resident set of each of the two; the copy itself for comparison. The databases are on the same machine.
 */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { drain } from '../infra/cli/drain.ts';
import { clientAt, findTable, lambdaAt } from '../infra/cli/platform.ts';
import { asker, edgesOf, tablesOf } from '../infra/cli/verify-edges.ts';
import { verifyTables } from '../infra/cli/verify-table.ts';
import { passedBy } from '../infra/cli/verify-wait.ts';
import { runPostgres } from '../infra/local/embedded-postgres.ts';
import { startHost } from '../infra/local/host.ts';
import { synthPipelines } from '../infra/synth.ts';
import { lambdaInvoker } from '../shared/lambda/invoke.ts';
import { requireConnector } from '../shared/state/connectors.ts';
import { dynamoTable } from '../shared/state/dynamodb/table.ts';
import { startMysql } from '../test/kit/mysql-server.ts';
import { functionsCpu } from './processes.ts';
import { spread } from './spread.ts';

const rows = Number(process.argv[2] ?? 1_000_000);
const runs = Number(process.argv[3] ?? 3);
const signal = new AbortController().signal;
const work = await mkdtemp(join(tmpdir(), 'sluice-bench-'));
// PostgreSQL runs as another user where this runs as root.
await chmod(work, 0o755);
await mkdir(join(work, 'postgres'));
await using opened = new AsyncDisposableStack();
opened.defer(() => rm(work, { recursive: true, force: true }));

const maria = opened.adopt(await startMysql('mariadb', ['--innodb-buffer-pool-size=512M']), (it) => it.stop());
const { host, port, user, password } = maria;
const source = opened.adopt(
  await mysql.createConnection({ host, port, user, password, multipleStatements: true }),
  (it) => it.end(),
);
await source.query(`CREATE DATABASE bench; USE bench;
  CREATE TABLE facts (id bigint PRIMARY KEY, n int, price decimal(12,2), part int, kind char(10), day date, at datetime(6), note varchar(100), ratio double);
  INSERT INTO facts SELECT seq, seq % 7, seq / 3, seq * 31 % 200000, concat('kind ', seq % 5), '2020-01-01' + INTERVAL seq % 2500 DAY,
    '2024-01-01' + INTERVAL seq SECOND, concat('note of ', md5(seq), ' ', md5(seq + 1)), seq / 7 FROM seq_1_to_${rows}`);
const postgres = opened.adopt(await runPostgres({ directory: join(work, 'postgres') }), (it) => it.stop());
const target = opened.adopt(new pg.Client({ connectionString: postgres.url }), (it) => it.end());
await target.connect();

const file = join(work, 'p.yaml');
await writeFile(
  file,
  `name: bench
direct:
  copy:
    trigger: manual
    timeout: 15m
    source: { connector: mysql-cdc, config: { url: "\${env:SOURCE}", topicPrefix: s, tables: [bench.facts] } }
    sink: { connector: postgres, config: { url: "\${env:TARGET}", table: facts } }
`,
);
let maxRssMb = 0;
const local = await startHost({
  assembly: await synthPipelines({ files: [file], outdir: join(work, 'cdk.out') }),
  stateDir: join(work, 'state'),
  env: {
    SOURCE: `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/bench`,
    TARGET: postgres.url,
    SLUICE_DRAIN: '1',
  },
  fireAtStart: false,
  onLog: () => {},
  onInvocation: ({ functionName, maxRssMb: mb }) => {
    if (functionName.includes('copy')) maxRssMb = Math.max(maxRssMb, mb);
  },
});
opened.defer(() => local.stop());
const client = opened.adopt(clientAt(local.dynamodb.endpoint), (it) => it.destroy());
const lambda = opened.adopt(lambdaAt(local.lambdaEndpoint), (it) => it.destroy());
const table = dynamoTable({ client, tableName: await findTable(client) });
const functions = lambdaInvoker(lambda);

const seconds = async (task: () => Promise<unknown>): Promise<number> => {
  const startMs = performance.now();
  await task();
  return (performance.now() - startMs) / 1000;
};

const copySeconds = await seconds(() => drain(table, functions, signal, () => {}));
const copyRssMb = maxRssMb;
maxRssMb = 0;
const name = 'bench-copy';
const [edge] = edgesOf([await requireConnector(table, name)], new Set([name]));
const ask = asker(functions, edge!);
const { pairs } = await tablesOf(ask, edge!);
const settle = { passed: passedBy({ table, functions, edge: edge!, ask, signal }), values: false };

const measure = async (differences: number): Promise<{ readonly seconds: number; readonly cpu: number }> => {
  const cpuBefore = functionsCpu((one) => one.includes('copy'));
  const took = await seconds(async () => {
    const [result] = await verifyTables(ask, pairs, settle);
    const found = result!.differences.length;
    if (found !== differences) throw new Error(`${found} differences, expected ${differences}`);
  });
  return { seconds: took, cpu: functionsCpu((one) => one.includes('copy')) - cpuBefore };
};

const print = (what: string, measured: readonly { readonly seconds: number; readonly cpu: number }[]) => {
  const of = (pick: 'seconds' | 'cpu') => spread(measured.map((one) => one[pick]));
  console.log(`| ${what} | ${of('seconds')} s | ${of('cpu')} s | ${Math.round(maxRssMb)} MB |`);
};

console.log(
  `${rows} rows, ${cpus().length} cores, load ${loadavg()[0]!.toFixed(1)}; the copy took ${copySeconds.toFixed(1)} s, ${Math.round(copyRssMb)} MB`,
);
console.log('| verify | time | CPU of its functions | RSS |\n| --- | --- | --- | --- |');
for (const [what, differences] of [
  ['equal', 0],
  ['ten differ', 10],
  ['a thousand differ', 1_000],
] as const) {
  if (differences > 0)
    await target.query(`UPDATE facts SET price = -1 WHERE id % ${Math.floor(rows / differences)} = 0`);
  const measured: { readonly seconds: number; readonly cpu: number }[] = [];
  for (let i = 0; i < runs; i++) measured.push(await measure(differences));
  print(what, measured);
}

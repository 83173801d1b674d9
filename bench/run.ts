import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { runPostgres } from '../infra/local/embedded-postgres.ts';
import { writeLineitem } from './lineitem.ts';

/**
 * `npx node bench/run.ts [rows] [runs]`: whole pipelines by the command line, each run on a fresh state directory. Wall and CPU seconds
 * are of the whole run, start of Node and synthesis included; CPU counts all functions and the embedded DynamoDB, not PostgreSQL.
 */
const rows = Number(process.argv[2] ?? 1_000_000);
const runs = Number(process.argv[3] ?? 5);

const root = resolve(import.meta.dirname, '..');
const work = await mkdtemp(join(tmpdir(), 'sluice-bench-'));
// PostgreSQL runs as another user where this runs as root.
await chmod(work, 0o755);

const declared = {
  l_orderkey: 'int64',
  l_partkey: 'int32',
  l_suppkey: 'int32',
  l_linenumber: 'int32',
  l_quantity: 'decimal(15,2)',
  l_extendedprice: 'decimal(15,2)',
  l_discount: 'decimal(15,2)',
  l_tax: 'decimal(15,2)',
  l_returnflag: 'string',
  l_linestatus: 'string',
  l_shipdate: 'date',
  l_commitdate: 'date',
  l_receiptdate: 'date',
  l_shipinstruct: 'string',
  l_shipmode: 'string',
  l_comment: 'string',
  l_updated: 'timestamp',
};

interface Measured {
  readonly wall: number;
  readonly cpu: number;
  /** What the command itself says: from after its start to drained. */
  readonly drained: number;
  readonly rss: Readonly<Record<string, number>>;
}

const measure = async (pipeline: object, env: Record<string, string> = {}): Promise<Measured> => {
  const state = await mkdtemp(join(work, 'state-'));
  const file = join(state, 'pipeline.yaml');
  await writeFile(file, stringify(pipeline));
  const command = `TIMEFORMAT='%R %U %S'; time "${process.execPath}" infra/cli/sluice.js run ${file} --state ${state} --json`;
  const { stdout, stderr } = await promisify(execFile)('bash', ['-c', command], {
    cwd: root,
    env: { ...process.env, ...env },
    maxBuffer: 1 << 26,
  });
  await rm(state, { recursive: true, force: true });
  const [wall = 0, user = 0, system = 0] = stderr.trim().split('\n').at(-1)!.split(' ').map(Number);
  const { result } = JSON.parse(stdout.trim().split('\n').at(-1)!);
  return { wall, cpu: user + system, drained: result.ms / 1000, rss: result.maxRssMb };
};

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

const report = async (name: string, run: (attempt: number) => Promise<Measured>): Promise<void> => {
  const measured: Measured[] = [];
  for (let attempt = 0; attempt < runs; attempt++) measured.push(await run(attempt));
  const of = (pick: (m: Measured) => number) => {
    const values = measured.map(pick);
    return `${median(values).toFixed(1)} (${Math.min(...values).toFixed(1)}–${Math.max(...values).toFixed(1)})`;
  };
  /** The largest that any instance of the function reached, over all runs. */
  const rss = (node: string) =>
    Math.round(
      Math.max(
        ...measured.flatMap(({ rss: all }) =>
          Object.entries(all).map(([name, mb]) => (name.includes(`bench${node}`) ? mb : 0)),
        ),
      ),
    );
  const rate = Math.round(rows / median(measured.map((m) => m.drained)) / 1000);
  process.stdout.write(
    `| ${name} | ${runs} | ${of((m) => m.wall)} | ${of((m) => m.drained)} | ${rate}k | ${of((m) => m.cpu)} | ${rss('in')} | ${rss('out')} |\n`,
  );
};

const source = (path: string, format: string) => ({
  connector: 'file',
  every: '1h',
  config: { path, format, topic: 'rows', ...(format === 'jsonl' ? { fields: declared } : {}) },
});

const input = join(tmpdir(), `sluice-lineitem-${rows}.jsonl`);
if (!existsSync(input)) await writeLineitem(input, rows);
process.stdout.write(`${rows} rows, ${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}\n\n`);
process.stdout.write(
  '| pipeline | n | wall s | drained s | rows/s | CPU-s | source RSS MB | sink RSS MB |\n|---|---|---|---|---|---|---|---|\n',
);

await report('file → log → file, text', async () => {
  const out = await mkdtemp(join(work, 'out-'));
  const measured = await measure({
    name: 'bench',
    sources: { in: source(input, 'text') },
    sinks: { out: { connector: 'file', from: ['rows'], config: { path: out, format: 'text' } } },
  });
  await rm(out, { recursive: true });
  return measured;
});

await report('file → log → file, JSON', async () => {
  const out = await mkdtemp(join(work, 'out-'));
  const measured = await measure({
    name: 'bench',
    sources: { in: source(input, 'jsonl') },
    sinks: { out: { connector: 'file', from: ['rows'], config: { path: out, format: 'jsonl' } } },
  });
  await rm(out, { recursive: true });
  return measured;
});

await mkdir(join(work, 'postgres'));
const server = await runPostgres({ directory: join(work, 'postgres') });
try {
  await report('file → log → PostgreSQL, upsert into an empty table', (attempt) =>
    measure(
      {
        name: 'bench',
        sources: {
          in: {
            connector: 'file',
            every: '1h',
            config: {
              path: input,
              format: 'jsonl',
              topic: `rows${attempt}`,
              keyFields: ['l_orderkey', 'l_linenumber'],
              fields: declared,
            },
          },
        },
        sinks: { out: { connector: 'postgres', from: [`rows${attempt}`], config: { url: `\${env:BENCH_URL}` } } },
      },
      { BENCH_URL: server.url },
    ),
  );
} finally {
  await server.stop();
  await rm(work, { recursive: true, force: true });
}

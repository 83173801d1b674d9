/**
 * Throughput: whole pipelines on the local host, and what the same work takes without it, measured in turn.
 *
 *     npx node bench/run.ts [rows] [runs] [text|json|records|postgres …]
 *
 * Prints a table for bench/RESULTS.md: medians and, in parentheses, the least and the most.
 */
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { runPostgres } from '../infra/local/embedded-postgres.ts';
import { writeLineitem } from './lineitem.ts';
import { copyAndMerge, copyOut, plainCopy } from './peers.ts';
import { type Measured, measurePipeline } from './pipeline.ts';
import { median, spread } from './spread.ts';
import { yardstickMs } from './yardstick.ts';

const rows = Number(process.argv[2] ?? 1_000_000);
const runs = Number(process.argv[3] ?? 5);
const asked = process.argv.slice(4);

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
const keys = ['l_orderkey', 'l_linenumber'];

const work = await mkdtemp(join(tmpdir(), 'sluice-bench-'));
// PostgreSQL runs as another user where this runs as root.
await chmod(work, 0o755);
const input = join(tmpdir(), `sluice-lineitem-${rows}.jsonl`);
if (!existsSync(input)) await writeLineitem(input, rows);

/** `peer`: the seconds of what it is measured beside, run right after it. */
const report = async (
  id: string,
  name: string,
  run: (attempt: number) => Promise<Measured>,
  peer: (attempt: number) => Promise<{ readonly seconds: number; readonly cpu?: number }>,
): Promise<void> => {
  if (asked.length > 0 && !asked.includes(id)) return;
  const measured: Measured[] = [];
  const peers: Awaited<ReturnType<typeof peer>>[] = [];
  const yardsticks = [await yardstickMs(input)];
  for (let attempt = 0; attempt < runs; attempt++) {
    measured.push(await run(attempt));
    yardsticks.push(await yardstickMs(input));
    peers.push(await peer(attempt));
    yardsticks.push(await yardstickMs(input));
  }
  const seconds = measured.map((one) => one.seconds);
  const rss = (node: string) => Math.max(...measured.map(({ rssMb }) => rssMb[node] ?? 0));
  const peerCpu = peers[0]?.cpu === undefined ? '–' : spread(peers.map((one) => one.cpu!));
  const cells = [
    name,
    spread(seconds),
    `${Math.round(rows / median(seconds) / 1000)}k`,
    spread(measured.map((one) => one.cpuSeconds)),
    median(measured.map((one) => one.platformCpuSeconds)).toFixed(1),
    spread(measured.map((one) => one.hostCpuSeconds)),
    `${rss('in')} / ${rss('out')}`,
    spread(peers.map((one) => one.seconds)),
    peerCpu,
    median(peers.map((one, i) => one.seconds / seconds[i]!)).toFixed(2),
    spread(yardsticks),
    loadavg()[0]!.toFixed(1),
  ];
  process.stdout.write(`| ${cells.join(' | ')} |\n`);
};

const source = (format: string, config: object = {}) => ({
  in: { connector: 'file', trigger: 'manual', config: { path: input, format, topic: 'rows', ...config } },
});

const toFiles = async (format: string, config: object): Promise<Measured> => {
  const out = await mkdtemp(join(work, 'out-'));
  const sinks = { out: { connector: 'file', from: ['rows'], config: { path: out, format } } };
  const measured = await measurePipeline(work, { sources: source(format, config), sinks });
  await rm(out, { recursive: true });
  return measured;
};

const connectors = join(import.meta.dirname, 'connectors');

const beside = (parse: boolean) => () => plainCopy(input, join(work, 'plain'), parse);

process.stdout.write(`${rows} rows, ${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, ${runs} runs\n\n`);
process.stdout.write(
  '| pipeline | s | rows/s | CPU-s | platform CPU-s | host CPU-s | RSS MB source / sink | peer s | peer CPU-s | peer s / s | yardstick ms | load |\n',
);
process.stdout.write(`|${'---|'.repeat(12)}\n`);

try {
  await report('text', 'file → log → file, text', () => toFiles('text', {}), beside(false));
  await report('json', 'file → log → file, JSON, declared', () => toFiles('jsonl', { fields: declared }), beside(true));
  await report(
    'records',
    'file → log → file, connectors that read and write record by record',
    () =>
      measurePipeline(work, {
        sources: {
          in: {
            connector: join(connectors, 'lines-source.ts'),
            trigger: 'manual',
            config: { path: input, topic: 'rows' },
          },
        },
        sinks: {
          out: { connector: join(connectors, 'lines-sink.ts'), from: ['rows'], config: { path: join(work, 'lines') } },
        },
      }).finally(() => rm(join(work, 'lines'), { force: true })),
    beside(true),
  );
  await mkdir(join(work, 'postgres'));
  const server = await runPostgres({ directory: join(work, 'postgres') });
  try {
    const copyText = join(work, 'rows.copy');
    await report(
      'postgres',
      'file → log → PostgreSQL, upsert into an empty table',
      async (attempt) => {
        const table = `rows${attempt}`;
        const measured = await measurePipeline(
          work,
          {
            sources: source('jsonl', { fields: declared, keyFields: keys }),
            sinks: { out: { connector: 'postgres', from: ['rows'], config: { url: '${env:BENCH_URL}', table } } },
          },
          { BENCH_URL: server.url },
        );
        if (attempt === 0) await copyOut(server.url, table, copyText);
        return measured;
      },
      async (attempt) => ({ seconds: await copyAndMerge(server.url, copyText, `rows${attempt}`, keys) }),
    );
  } finally {
    await server.stop();
  }
} finally {
  await rm(work, { recursive: true, force: true });
}

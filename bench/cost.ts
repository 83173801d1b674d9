/**
 * What a run uses, on the local host: the figures of infra/cli/cost-model.ts.
 *
 *     npx node bench/cost.ts [minutes]
 *
 * A file source, polled every minute (which is two seconds here), and two sinks that are woken by data: first idle, then with ten new
 * rows in each minute. Prints invocations, time, DynamoDB units and object requests per minute and function.
 */
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startHost } from '../infra/local/host.ts';
import { synthPipelines } from '../infra/synth.ts';

const minutes = Number(process.argv[2] ?? 10);
const minuteMs = 2_000;
const directory = await mkdtemp(join(tmpdir(), 'sluice-cost-'));
const input = join(directory, 'rows.jsonl');
const pipeline = join(directory, 'p.yaml');
const rows = (from: number, count: number): string =>
  Array.from({ length: count }, (_, i) => `${JSON.stringify({ id: from + i, text: 'x'.repeat(250) })}\n`).join('');
await writeFile(input, rows(0, 10));
await writeFile(
  pipeline,
  `name: p
sources:
  rows: { connector: file, every: 1m, config: { path: ${input}, topic: rows, fields: { id: int64, text: string } } }
sinks:
  one: { connector: file, from: [rows], config: { path: ${join(directory, 'one')} } }
`,
);

type Sums = Record<string, Record<string, number>>;
let sums: Sums = {};
const add = (functionName: string, item: string, amount: number) => {
  const name = functionName.replace(/^Sluice-|Function.*$/g, '');
  sums[name] ??= {};
  sums[name][item] = (sums[name][item] ?? 0) + amount;
};

const host = await startHost({
  assembly: await synthPipelines({ files: [pipeline], outdir: join(directory, 'cdk.out') }),
  stateDir: join(directory, 'state'),
  env: { SLUICE_LOG_LEVEL: 'debug' },
  minuteMs,
  onLog: (functionName, line) => {
    if (!line.startsWith('{')) return console.error(`${functionName}: ${line}`);
    const { message, read = 0, write = 0 } = JSON.parse(line);
    if (message !== 'units') return;
    for (const [item, amount] of Object.entries({ read, write })) add(functionName, item, amount);
  },
  onObjectRequest: (request) => add('S3', request, 1),
  onInvocation: ({ functionName, billedMs, error }) => {
    if (error) console.error(`${functionName}: ${error.errorMessage}`);
    add(functionName, 'runs', 1);
    add(functionName, 'ms', billedMs);
  },
});

const report = (title: string) => {
  console.log(`\n${title}, per minute`);
  for (const [name, items] of Object.entries(sums))
    console.log(
      name.padEnd(32),
      Object.entries(items)
        .map(([item, amount]) => `${item} ${(amount / minutes).toFixed(2)}`)
        .join('  '),
    );
};

try {
  await delay(2 * minuteMs);
  await host.idle();
  sums = {};
  await delay(minutes * minuteMs);
  report('idle');
  sums = {};
  for (let minute = 0; minute < minutes; minute++) {
    await appendFile(input, rows(10 + minute * 10, 10));
    await delay(minuteMs);
  }
  await host.idle();
  report('ten rows a minute');
} finally {
  await host.stop();
  await rm(directory, { recursive: true, force: true });
}

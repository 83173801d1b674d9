import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ModelledConnector, usageOf } from '../../infra/cli/cost-model.ts';
import { estimate, modelOfAssembly } from '../../infra/cli/estimate.ts';
import { dollarsOf } from '../../infra/cli/prices.ts';
import { startHost } from '../../infra/local/host.ts';
import { loadAssembly } from '../../infra/local/template.ts';
import { synthPipelines } from '../../infra/synth.ts';
import { until } from '../kit/until.ts';

/** What the model says of a pipeline beside what the same pipeline uses here, by DynamoDB's own count. */
const minuteMs = 1_500;
const minutes = 6;
const rowsPerMinute = 10;
const minutesPerMonth = 30 * 24 * 60;

let directory: string;
let file: string;
let model: readonly ModelledConnector[];
/** Units per minute of each function, idle and with rows. */
const used: Record<'idle' | 'busy', Record<string, { read: number; write: number; runs: number }>> = {
  idle: {},
  busy: {},
};

const rows = (from: number) =>
  Array.from({ length: rowsPerMinute }, (_, i) => `${JSON.stringify({ id: from + i, text: 'x'.repeat(270) })}\n`).join(
    '',
  );

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sluice-estimate-'));
  const input = join(directory, 'rows.jsonl');
  file = join(directory, 'p.yaml');
  await writeFile(input, rows(0));
  await writeFile(
    file,
    `name: p
sources:
  rows: { connector: file, every: 1m, config: { path: ${input}, topic: rows, fields: { id: int64, text: string } } }
sinks:
  files: { connector: file, from: [rows], config: { path: ${join(directory, 'out')} } }
`,
  );
  const assembly = await synthPipelines({ files: [file], outdir: join(directory, 'cdk.out') });
  model = modelOfAssembly(await loadAssembly(assembly, 'us-east-1'));
  let phase: 'idle' | 'busy' | undefined;
  const host = await startHost({
    assembly,
    stateDir: join(directory, 'state'),
    env: { SLUICE_LOG_LEVEL: 'debug' },
    minuteMs,
    onLog: (functionName, line) => {
      const { message, read = 0, write = 0 } = JSON.parse(line);
      if (message !== 'units' || phase === undefined) return;
      const name = /prows|pfiles|Coordinator|Dispatcher/.exec(functionName)![0];
      const sum = used[phase][name] ?? { read: 0, write: 0, runs: 0 };
      used[phase][name] = { read: sum.read + read, write: sum.write + write, runs: sum.runs + 1 };
    },
  });
  const sweeps = async (count: number) => {
    const before = used[phase!].Coordinator?.runs ?? 0;
    await until(async () => (used[phase!].Coordinator?.runs ?? 0) >= before + count, { timeoutMs: 60_000 });
    await host.idle();
  };
  try {
    phase = 'busy';
    await sweeps(2);
    used.busy = {};
    phase = 'idle';
    await sweeps(minutes);
    phase = 'busy';
    for (let minute = 1; minute <= minutes; minute++) {
      await appendFile(input, rows(minute * rowsPerMinute));
      await sweeps(1);
    }
  } finally {
    await host.stop();
  }
}, 120_000);
afterAll(() => rm(directory, { recursive: true, force: true }));

const modelled = (rowsPerDay: number) => {
  const { byConnector, shared } = usageOf(model, { rowsPerDay, rowBytes: 300 });
  const perMinute = (amount = 0) => amount / minutesPerMonth;
  const all = [...byConnector.values(), shared];
  return {
    read: all.reduce((sum, { readUnits }) => sum + perMinute(readUnits), 0),
    write: all.reduce((sum, { writeUnits }) => sum + perMinute(writeUnits), 0),
  };
};

const metered = (phase: 'idle' | 'busy') => {
  const functions = Object.values(used[phase]);
  const perMinute = (item: 'read' | 'write') =>
    functions.reduce((sum, each) => sum + each[item], 0) / used[phase].Coordinator!.runs;
  return { read: perMinute('read'), write: perMinute('write') };
};

test('an idle pipeline writes nothing, and reads what the model says', () => {
  expect(metered('idle').write).toBe(0);
  expect(modelled(0).write).toBe(0);
  expect(modelled(0).read / metered('idle').read).toBeGreaterThan(0.8);
  expect(modelled(0).read / metered('idle').read).toBeLessThan(1.25);
});

test('with ten rows in each minute, units are what the model says', () => {
  const says = modelled(rowsPerMinute * 60 * 24);
  const is = metered('busy');
  expect(says.write / is.write).toBeGreaterThan(0.8);
  expect(says.write / is.write).toBeLessThan(1.25);
  expect(says.read / is.read).toBeGreaterThan(0.8);
  expect(says.read / is.read).toBeLessThan(1.25);
});

test('an idle source and sink, polled every minute, cost less than ten cents a month', () => {
  const { byConnector, shared } = usageOf(model, { rowsPerDay: 0, rowBytes: 300 });
  const dollars = [...byConnector.values(), shared].reduce((sum, usage) => sum + dollarsOf(usage), 0);
  expect(dollars).toBeLessThan(0.1);
});

test('a source of changes is asked for its lag every ten minutes, for about a cent a month', () => {
  const asked = model.map((one) => ({
    ...one,
    spec: { ...one.spec, ...(one.spec.kind === 'source' && { lag: true as const }) },
  }));
  const usage = (of: readonly ModelledConnector[]) =>
    usageOf(of, { rowsPerDay: 0, rowBytes: 300 }).byConnector.get('p-rows')!;
  expect(usage(asked).writeUnits).toBe(30 * 24 * 6);
  expect(dollarsOf(usage(asked)) - dollarsOf(usage(model))).toBeGreaterThan(0.005);
  expect(dollarsOf(usage(asked)) - dollarsOf(usage(model))).toBeLessThan(0.015);
});

test('the command prices idle, low and high; or the volume that it is given', async () => {
  const { lines, result } = await estimate([file], { rowBytes: 300 });
  expect(lines[0]).toMatch(/^\$ a month +idle +10,000 rows\/day +100,000,000 rows\/day$/);
  const dollars = (result as { readonly dollars: number }[]).map((each) => each.dollars);
  expect(dollars).toEqual([...dollars].sort((a, b) => a - b));
  const own = await estimate([file], { rowBytes: 300, rowsPerDay: 500 });
  expect(own.lines[0]).toMatch(/^\$ a month +idle +500 rows\/day$/);
  await expect(estimate([file], { rowBytes: 300, rowsPerDay: -1 })).rejects.toThrow('--rows-per-day must be a number');
});

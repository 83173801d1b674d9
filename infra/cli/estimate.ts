import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConnectError } from '../../shared/connect/errors.ts';
import { ConnectorSpec } from '../../shared/connect/spec.ts';
import { nextFiring, parseCron } from '../cron.ts';
import { createIntrinsics, type Intrinsics } from '../local/intrinsics.ts';
import { type Assembly, loadAssembly, type Resource } from '../local/template.ts';
import { synthPipelines } from '../synth.ts';
import { type ModelledConnector, usageOf, type Volume } from './cost-model.ts';
import { type Answer, count, tableLines } from './output.ts';
import { addUsage, dollarsOf, type Priced, prices, pricesAsOf, type Usage } from './prices.ts';

export interface EstimateOptions {
  readonly rowsPerDay?: number;
  readonly rowBytes: number;
}

/** Idle, low and high; one's own volume instead of the latter two where it is known. */
const volumesOf = ({ rowsPerDay }: EstimateOptions): readonly number[] =>
  rowsPerDay === undefined ? [0, 10_000, 100_000_000] : [0, rowsPerDay];

/** What a pipeline costs a month on AWS, by a model of what each of its runs uses. */
export const estimate = async (files: readonly string[], options: EstimateOptions): Promise<Answer> => {
  const { rowsPerDay, rowBytes } = options;
  for (const [name, value] of Object.entries({ 'rows-per-day': rowsPerDay, 'row-bytes': rowBytes }))
    if (value !== undefined && !(value >= 0 && Number.isFinite(value)))
      throw new ConnectError('CONFIG_INVALID', `--${name} must be a number, 0 or more`);
  const connectors = await modelOf(files);
  const volumes = volumesOf(options).map((rows): Volume => ({ rowsPerDay: rows, rowBytes }));
  const estimates = volumes.map((volume) => ({ volume, ...usageOf(connectors, volume) }));
  const titles = volumes.map(({ rowsPerDay: rows }) => (rows === 0 ? 'idle' : `${count(rows)} rows/day`));
  const connectorRows = connectors.map(({ spec: { name } }) => [
    name,
    ...estimates.map(({ byConnector }) => dollars(byConnector.get(name)!)),
  ]);
  const totals = estimates.map(({ byConnector, shared }) => addUsage(shared, ...byConnector.values()));
  const services = [...new Set(Object.values(prices).map(({ service }) => service))];
  return {
    lines: [
      ...tableLines(
        ['$ a month', ...titles],
        [
          ...connectorRows,
          ['platform', ...estimates.map(({ shared }) => dollars(shared))],
          ['all', ...totals.map((usage) => dollars(usage))],
        ],
      ),
      '',
      ...tableLines(
        ['of which', ...titles],
        services.map((service) => [service, ...totals.map((usage) => dollars(ofService(usage, service)))]),
      ),
      '',
      `rows of ${count(rowBytes)} bytes; list prices of us-east-1, ${pricesAsOf}: infra/cli/prices.ts; the model: docs/cost.md`,
    ],
    result: estimates.map(({ volume, byConnector, shared }, at) => ({
      ...volume,
      dollars: dollarsOf(totals[at]!),
      usage: totals[at]!,
      connectors: Object.fromEntries([...byConnector].map(([name, usage]) => [name, dollarsOf(usage)])),
      platform: dollarsOf(shared),
    })),
  };
};

const dollars = (usage: Usage): string => {
  const value = dollarsOf(usage);
  return value === 0 ? '0' : value < 1 ? value.toFixed(3) : value.toFixed(2);
};

const ofService = (usage: Usage, service: string): Usage =>
  Object.fromEntries(
    (Object.entries(usage) as [Priced, number][]).filter(([item]) => prices[item].service === service),
  );

/** Synthesizes the files and reads what the template makes of them: what is told of it is what is deployed. */
export const modelOf = async (files: readonly string[]): Promise<readonly ModelledConnector[]> => {
  const outdir = await mkdtemp(join(tmpdir(), 'sluice-synth-'));
  try {
    const connectors = await modelAt(await synthPipelines({ files, outdir }));
    if (connectors.length === 0) throw new ConnectError('CONFIG_INVALID', `${files.join(', ')}: no connector in it`);
    return connectors;
  } finally {
    await rm(outdir, { recursive: true, force: true });
  }
};

/** Of the cloud assembly in a directory. */
export const modelAt = async (directory: string): Promise<readonly ModelledConnector[]> =>
  modelOfAssembly(await loadAssembly(directory, process.env.AWS_REGION ?? 'us-east-1'));

export const modelOfAssembly = (assembly: Assembly): readonly ModelledConnector[] => {
  const intrinsics = createIntrinsics(assembly);
  const resources = assembly.stacks.flatMap((stack) => [...stack.resources.values()]);
  const ofType = (type: string) => resources.filter((resource) => resource.type === type);
  return ofType('Custom::SluiceConnector').map((resource) => {
    const spec = ConnectorSpec.parse(JSON.parse(String(intrinsics.properties(resource).Spec)));
    const lambda = ofType('AWS::Lambda::Function').find(
      (one) => intrinsics.identityOf(one).name === spec.functionName,
    )!;
    const { MemorySize, Timeout } = intrinsics.properties(lambda);
    const runs = ofType('AWS::Scheduler::Schedule').map((schedule) => runsPerMonth(schedule, lambda, intrinsics));
    return {
      spec,
      memoryMb: Number(MemorySize),
      timeoutMs: Number(Timeout) * 1000,
      scheduledRunsPerMonth: runs.reduce((sum, one) => sum + one, 0),
      wokenByEvents: /^(s3|sqs)\b/.test(spec.trigger),
    };
  });
};

const dayMs = 86_400_000;

const runsPerMonth = (schedule: Resource, lambda: Resource, intrinsics: Intrinsics): number => {
  if (!intrinsics.dependencies(schedule).includes(lambda)) return 0;
  const { ScheduleExpression, ScheduleExpressionTimezone = 'UTC' } = intrinsics.properties(schedule);
  const [, every, unit] = /^rate\((\d+) (minute|hour|day)/.exec(String(ScheduleExpression)) ?? [];
  if (every !== undefined)
    return (30 * dayMs) / (Number(every) * { minute: 60_000, hour: 3_600_000, day: dayMs }[unit!]!);
  const cron = parseCron(/^cron\((.*)\)$/.exec(String(ScheduleExpression))![1]!);
  let runs = 0;
  const endMs = Date.now() + 30 * dayMs;
  for (
    let at = nextFiring(cron, Date.now(), String(ScheduleExpressionTimezone));
    at !== undefined && at < endMs;
    runs++
  )
    at = nextFiring(cron, at, String(ScheduleExpressionTimezone));
  return runs;
};

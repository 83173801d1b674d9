import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { type Activity, createActivity } from './activity.ts';
import { type CustomResources, createCustomResources } from './custom-resources.ts';
import { clientConfig, type Dynamodb, startDynamodb } from './dynamodb.ts';
import { createEventQueue, type EventInvokeConfig } from './event-queue.ts';
import { describeFunction, type FunctionDefinition } from './function.ts';
import { createFunctions, type Functions, type InvocationReport } from './functions.ts';
import { createIntrinsics, type Intrinsics } from './intrinsics.ts';
import { createInvoke, type InvocationType, type InvokeAnswer, startLambdaApi } from './lambda-api.ts';
import { acquireLock } from './lock.ts';
import { functionNameOf } from './properties.ts';
import { isCustomResource, requireKnownTypes } from './resource-types.ts';
import { startSchedules } from './schedules.ts';
import { writeStateFile } from './state-file.ts';
import { type Streams, startStreams } from './streams.ts';
import { isTable, provideTable, type Table } from './tables.ts';
import { type Assembly, loadAssembly, type Resource } from './template.ts';
import { describeWiring } from './wiring.ts';

export interface HostOptions {
  /** A synthesized cloud assembly (cdk.out). */
  assembly: string;
  /** Everything that outlives a run: tables, objects, stream positions, custom resources. One run at a time uses it. */
  stateDir: string;
  /** Variables for every function, over those of the template. */
  env?: Record<string, string>;
  /** A line that a function wrote, or that the host has to say about it. @default - to stderr */
  onLog?: (functionName: string, line: string) => unknown;
  onInvocation?: (report: InvocationReport) => void;
  /** Called when the tables are there, before any function of this host runs. */
  beforeFunctions?: (dynamodb: Pick<Dynamodb, 'endpoint' | 'kind'>) => Promise<void>;
  /** @default - AWS_REGION, else us-east-1; a stack with a region of its own keeps it */
  region?: string;
  /** Invocations at a time, further ones wait. @default 8 */
  maxConcurrency?: number;
  /** A process unused for so long is ended. @default 300000 */
  idleMs?: number;
  /** Before the first, second… retry of an event; AWS waits 1 and 2 minutes. @default [1000, 2000] */
  eventRetryDelaysMs?: readonly number[];
  /** Before a retry of a stream's batch, doubled up to the longest. @default { first: 100, longest: 5000 } */
  streamRetryDelayMs?: { first: number; longest: number };
  /** Schedules fire once at the start, not only a period later. @default true */
  fireAtStart?: boolean;
  /** The length of a schedule's minute. @default 60000 */
  minuteMs?: number;
}

export interface Host {
  lambdaEndpoint: string;
  dynamodb: { endpoint: string; kind: 'embedded' | 'external'; readonly pid: number | undefined };
  functions: { name: string; logicalId: string }[];
  /** @throws an error with the name that the Invoke API gives it (ResourceNotFoundException…); what fails in the function is in the answer */
  invoke(name: string, payload: unknown, type?: InvocationType): Promise<InvokeAnswer>;
  /** Resolves when nothing runs or waits, retries included, and the streams delivered what was written. Schedules go on. */
  idle(): Promise<void>;
  /** Running invocations may finish within graceMs, then no process, timer or socket is left. @default 0 */
  stop(options?: { graceMs?: number }): Promise<void>;
}

type Settings = Required<HostOptions>;

const HOST_RECORD = 'host.json';
const STATE_DIRECTORIES = ['s3', 'streams', 'code', 'functions'];

function settingsOf(options: HostOptions): Settings {
  return {
    assembly: options.assembly,
    stateDir: resolve(options.stateDir),
    env: options.env ?? {},
    onLog: options.onLog ?? ((functionName, line) => process.stderr.write(`${functionName}: ${line}\n`)),
    onInvocation: options.onInvocation ?? (() => {}),
    beforeFunctions: options.beforeFunctions ?? (async () => {}),
    region: options.region ?? process.env.AWS_REGION ?? 'us-east-1',
    maxConcurrency: options.maxConcurrency ?? 8,
    idleMs: options.idleMs ?? 300_000,
    eventRetryDelaysMs: options.eventRetryDelaysMs ?? [1_000, 2_000],
    streamRetryDelayMs: options.streamRetryDelayMs ?? { first: 100, longest: 5_000 },
    fireAtStart: options.fireAtStart ?? true,
    minuteMs: options.minuteMs ?? 60_000,
  };
}

type Closer = (graceMs: number) => Promise<void>;

/** Runs the app until `stop`. Where it cannot start, it says why and leaves nothing running. */
export async function startHost(options: HostOptions): Promise<Host> {
  const closers: Closer[] = [];
  const close: Closer = async (graceMs) => {
    const failures: unknown[] = [];
    // What can't be closed well, such as a position on a full disk, must not keep the rest running.
    for (const closer of closers.splice(0).reverse())
      await closer(graceMs).catch((failure: unknown) => failures.push(failure));
    if (failures.length > 0) throw failures[0];
  };
  let stopped: Promise<void> | undefined;
  try {
    const host = await start(options, closers);
    return {
      ...host,
      stop: ({ graceMs = 0 } = {}) => {
        stopped ??= close(graceMs);
        return stopped;
      },
    };
  } catch (error) {
    // Why it could not start is what to tell.
    await close(0).catch(() => {});
    throw error;
  }
}

async function start(options: HostOptions, closers: Closer[]): Promise<Omit<Host, 'stop'>> {
  const settings = settingsOf(options);
  const { stateDir, region, onLog } = settings;
  const assembly = await loadAssembly(settings.assembly, region);
  const resources = assembly.stacks.flatMap((stack) => [...stack.resources.values()]);
  requireKnownTypes(resources);
  const intrinsics = createIntrinsics(assembly);

  const lock = await acquireLock(stateDir);
  closers.push(() => lock.release());
  for (const name of STATE_DIRECTORIES) await mkdir(join(stateDir, name), { recursive: true });
  const dynamodb = await startDynamodb({ stateDir, onLog: (line) => onLog('dynamodb', line) });
  closers.push(() => dynamodb.stop());
  const tables = await provideStorage(resources, intrinsics, dynamodb, region, stateDir);
  await settings.beforeFunctions(dynamodb);

  const runtime = createRuntime(settings);
  const { activity, functions, events, invoke } = runtime;
  const provideFunction = functionProvider(resources, intrinsics, assembly, functions, stateDir);
  const customResources = createCustomResources({
    resources: resources.filter(isCustomResource),
    intrinsics,
    functions,
    provideFunction,
    invoke,
    stateDir,
  });
  const api = await startLambdaApi({ invoke, onCustomResourceResponse: customResources.respond });
  closers.push(() => api.stop());
  let streams: Streams | undefined;
  // Together: stream readers and events wait for their invocations, which end with the functions after the grace.
  closers.push(async (graceMs) => {
    await Promise.all([streams?.stop(), events.stop(), functions.stop(graceMs)]);
  });
  Object.assign(runtime.environment, sharedEnvironment(dynamodb, api.endpoint, stateDir), settings.env);

  await provideFunctions(resources, intrinsics, provideFunction, customResources, api.endpoint);
  const wiring = describeWiring(resources, intrinsics, functions, tables);
  for (const config of wiring.configs) runtime.configs.set(config.functionName, config);
  const started = await startStreams(wiring.mappings, {
    endpoint: dynamodb.endpoint,
    stateDir,
    functions,
    events,
    activity,
    onLog,
    retryDelayMs: settings.streamRetryDelayMs,
  });
  streams = started;
  activity.onChange(started.nudge);
  await recordHost(stateDir, api.endpoint, dynamodb);
  closers.push(() => rm(join(stateDir, HOST_RECORD), { force: true }));
  const schedules = startSchedules(wiring.schedules, {
    invoke,
    fireAtStart: settings.fireAtStart,
    minuteMs: settings.minuteMs,
    onError: ({ arn, targetArn }, error) => onLog(functionNameOf(targetArn), `${arn} did not fire: ${error.message}`),
  });
  closers.push(async () => schedules.stop());
  return {
    lambdaEndpoint: api.endpoint,
    dynamodb,
    functions: functions.all().map(({ name, logicalId }) => ({ name, logicalId })),
    invoke: (name, payload, type = 'RequestResponse') => invoke(name, JSON.stringify(payload) ?? '', type),
    idle: () => untilIdle(activity, started),
  };
}

async function untilIdle(activity: Activity, streams: Streams): Promise<void> {
  for (;;) {
    await activity.whenQuiet();
    const before = activity.started;
    await streams.caughtUp();
    if (activity.underWay === 0 && activity.started === before) return;
  }
}

/** Invocations, before there is anything that invokes. */
function createRuntime(settings: Settings) {
  const activity = createActivity();
  const environment: Record<string, string> = {};
  const functions = createFunctions({ ...settings, activity, environment: () => environment });
  const configs = new Map<string, EventInvokeConfig>();
  const retryDelaysMs = settings.eventRetryDelaysMs;
  const events = createEventQueue({ functions, activity, configs, retryDelaysMs, onLog: settings.onLog });
  return { activity, environment, functions, configs, events, invoke: createInvoke(functions, events) };
}

/** Other programs find the running host by it. */
async function recordHost(stateDir: string, lambdaEndpoint: string, dynamodb: Dynamodb): Promise<void> {
  await writeStateFile(join(stateDir, HOST_RECORD), {
    pid: process.pid,
    lambdaEndpoint,
    dynamodb: { endpoint: dynamodb.endpoint, kind: dynamodb.kind },
  });
}

async function provideStorage(
  resources: Resource[],
  intrinsics: Intrinsics,
  dynamodb: Dynamodb,
  region: string,
  stateDir: string,
): Promise<Table[]> {
  for (const resource of resources) {
    if (resource.type !== 'AWS::S3::Bucket') continue;
    await mkdir(join(stateDir, 's3', intrinsics.identityOf(resource).name), { recursive: true });
  }
  const client = new DynamoDBClient(clientConfig(dynamodb.endpoint, region));
  try {
    const tables: Table[] = [];
    for (const resource of resources.filter(isTable)) tables.push(await provideTable(resource, intrinsics, client));
    return tables;
  } finally {
    client.destroy();
  }
}

function sharedEnvironment(dynamodb: Dynamodb, lambdaEndpoint: string, stateDir: string): Record<string, string> {
  const credentials = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'].flatMap((name) =>
    process.env[name] ? [[name, process.env[name]]] : [],
  );
  return {
    AWS_ENDPOINT_URL_DYNAMODB: dynamodb.endpoint,
    AWS_ENDPOINT_URL_DYNAMODB_STREAMS: dynamodb.endpoint,
    AWS_ENDPOINT_URL_LAMBDA: lambdaEndpoint,
    SLUICE_S3_DIRECTORY: join(stateDir, 's3'),
    // An endpoint of the user's own may check them; the embedded one never sees real ones.
    ...(dynamodb.kind === 'external' ? Object.fromEntries(credentials) : {}),
  };
}

type ProvideFunction = (name: string) => Promise<FunctionDefinition | undefined>;

function functionProvider(
  resources: Resource[],
  intrinsics: Intrinsics,
  assembly: Assembly,
  functions: Functions,
  stateDir: string,
): ProvideFunction {
  const byName = new Map(
    resources
      .filter(({ type }) => type === 'AWS::Lambda::Function')
      .map((resource) => [intrinsics.identityOf(resource).name, resource]),
  );
  return async (name) => {
    const known = functions.find(name);
    const resource = byName.get(name);
    if (known || !resource) return known;
    const definition = await describeFunction(resource, intrinsics, assembly, stateDir);
    functions.add(definition);
    return definition;
  };
}

/** A function whose variables hold what a custom resource gives comes after it, all others before, as a custom resource may call them. */
async function provideFunctions(
  resources: Resource[],
  intrinsics: Intrinsics,
  provideFunction: ProvideFunction,
  customResources: CustomResources,
  lambdaEndpoint: string,
): Promise<void> {
  const all = resources.filter(({ type }) => type === 'AWS::Lambda::Function');
  const early = all.filter((resource) => !intrinsics.dependencies(resource).some(isCustomResource));
  for (const resource of early) await provideFunction(intrinsics.identityOf(resource).name);
  await customResources.apply(lambdaEndpoint);
  for (const resource of all) await provideFunction(intrinsics.identityOf(resource).name);
}

import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { type Activity, createActivity } from './activity.ts';
import { createAuthorizer, describePermission } from './authorizer.ts';
import { type ChaosOptions, createChaos } from './chaos.ts';
import { createCustomResources } from './custom-resources.ts';
import { clientConfig, type Dynamodb, startDynamodb } from './dynamodb.ts';
import { startDynamodbProxy } from './dynamodb-proxy.ts';
import { createEventQueue, type EventInvokeConfig } from './event-queue.ts';
import { createFunctions, type InvocationReport } from './functions.ts';
import { createIntrinsics, type Intrinsics } from './intrinsics.ts';
import { createInvoke, type InvocationType, type InvokeAnswer, startLambdaApi } from './lambda-api.ts';
import { acquireLock } from './lock.ts';
import { functionNameOf } from './properties.ts';
import { functionProvider, provideFunctions } from './provide-functions.ts';
import { isCustomResource, requireKnownTypes } from './resource-types.ts';
import { type ObjectRequest, startS3 } from './s3.ts';
import { describeNotifications, startNotifications } from './s3-notifications.ts';
import { startSchedules } from './schedules.ts';
import { type Queues, startQueues } from './sqs.ts';
import { type QueueDelivery, queueOf, startQueueDelivery } from './sqs-mapping.ts';
import { writeStateFile } from './state-file.ts';
import { type Streams, startStreams } from './streams.ts';
import { isTable, provideTable, type Table } from './tables.ts';
import { loadAssembly, type Resource } from './template.ts';
import { startTimeToLive } from './time-to-live.ts';
import { requireScheduleAccess, requireTriggerAccess } from './trigger-access.ts';
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
  onObjectRequest?: (request: ObjectRequest) => void;
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
  /** Makes everything go wrong that may go wrong on AWS, once the app is deployed. @default - nothing does */
  chaos?: ChaosOptions;
}

export interface Host {
  lambdaEndpoint: string;
  dynamodb: { endpoint: string; kind: 'embedded' | 'external'; readonly pid: number | undefined };
  s3: { endpoint: string };
  sqs: { endpoint: string; urls: string[] };
  functions: { name: string; logicalId: string }[];
  /** @throws an error with the name that the Invoke API gives it (ResourceNotFoundException…); what fails in the function is in the answer */
  invoke(name: string, payload: unknown, type?: InvocationType): Promise<InvokeAnswer>;
  /** What chaos has done by now. */
  chaos(): string | undefined;
  /** Resolves when nothing runs or waits, retries included, and the streams delivered what was written. Schedules go on. */
  idle(): Promise<void>;
  /** Running invocations may finish within graceMs, then no process, timer or socket is left. @default 0 */
  stop(options?: { graceMs?: number }): Promise<void>;
}

type Settings = Required<Omit<HostOptions, 'chaos'>> & Pick<HostOptions, 'chaos'>;

const HOST_RECORD = 'host.json';
const STATE_DIRECTORIES = ['s3', 'streams', 'code', 'functions'];

function settingsOf(options: HostOptions): Settings {
  return {
    assembly: options.assembly,
    stateDir: resolve(options.stateDir),
    env: options.env ?? {},
    onLog: options.onLog ?? ((functionName, line) => process.stderr.write(`${functionName}: ${line}\n`)),
    onInvocation: options.onInvocation ?? (() => {}),
    onObjectRequest: options.onObjectRequest ?? (() => {}),
    beforeFunctions: options.beforeFunctions ?? (async () => {}),
    region: options.region ?? process.env.AWS_REGION ?? 'us-east-1',
    maxConcurrency: options.maxConcurrency ?? 8,
    idleMs: options.idleMs ?? 300_000,
    eventRetryDelaysMs: options.eventRetryDelaysMs ?? [1_000, 2_000],
    streamRetryDelayMs: options.streamRetryDelayMs ?? { first: 100, longest: 5_000 },
    fireAtStart: options.fireAtStart ?? true,
    minuteMs: options.minuteMs ?? 60_000,
    ...(options.chaos ? { chaos: options.chaos } : {}),
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
  const { stateDir, region, onLog, onObjectRequest } = settings;
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

  const queues = await startQueues(resources, intrinsics, join(stateDir, 'sqs'), (name, error) =>
    onLog(name, `its messages can't be kept: ${error.message}`),
  );
  closers.push(() => queues.stop());
  const runtime = createRuntime(settings, resources, intrinsics, queues);
  const { activity, functions, events, invoke, authorizer, chaos, faultOf } = runtime;
  const proxy = await startDynamodbProxy({
    dynamodb,
    region,
    authorizer,
    tables,
    faultOf,
    onWritten: () => streams?.nudge(),
  });
  closers.push(() => proxy.stop());
  const provideFunction = functionProvider(resources, intrinsics, assembly, functions, stateDir);
  const customResources = createCustomResources({
    resources: resources.filter(isCustomResource),
    intrinsics,
    functions,
    provideFunction,
    invoke,
    stateDir,
  });
  const s3 = await startS3({
    root: join(stateDir, 's3'),
    authorize: authorizer.authorize,
    faultOf,
    onRequest: onObjectRequest,
  });
  closers.push(() => s3.stop());
  const api = await startLambdaApi({
    invoke,
    authorize: (accessKeyId, nameOrArn) => {
      const called = functions.find(functionNameOf(nameOrArn));
      return called && authorizer.authorizeInvoke(accessKeyId, called.arn);
    },
    onCustomResourceResponse: customResources.respond,
  });
  closers.push(() => api.stop());
  let streams: Streams | undefined;
  let deliveries: QueueDelivery | undefined;
  // Together: stream readers, queues and events wait for their invocations, which end with the functions after the grace.
  closers.push(async (graceMs) => {
    await Promise.all([streams?.stop(), deliveries?.stop(), events.stop(), functions.stop(graceMs)]);
  });
  Object.assign(
    runtime.environment,
    sharedEnvironment(proxy.endpoint, api.endpoint, s3.endpoint, queues.endpoint),
    settings.env,
  );

  await provideFunctions(resources, intrinsics, provideFunction, customResources, api.endpoint);
  const wiring = describeWiring(resources, intrinsics, functions, tables);
  requireTriggerAccess(wiring, functions, authorizer);
  requireScheduleAccess(resources, intrinsics, runtime.permissions);
  for (const config of wiring.configs) runtime.configs.set(config.functionName, config);
  const started = await startStreams(wiring.mappings, {
    endpoint: dynamodb.endpoint,
    stateDir,
    functions,
    events,
    activity,
    onLog,
    retryDelayMs: settings.streamRetryDelayMs,
    chaos,
  });
  streams = started;
  activity.onChange(started.nudge);
  const mapped = wiring.queueMappings.map(async (mapping) => ({
    mapping,
    queue: await queueOf(mapping, queues, functions),
  }));
  const delivering = startQueueDelivery(await Promise.all(mapped), { functions, activity, onLog });
  deliveries = delivering;
  const notifications = await startNotifications(wiring.notifications, {
    s3,
    invoke,
    onError: ({ bucket, functionArn }, error) =>
      onLog(functionNameOf(functionArn), `was not told of an object in ${bucket}: ${error.message}`),
  });
  closers.push(() => notifications.stop());
  await recordHost(stateDir, api.endpoint, dynamodb, s3.endpoint);
  closers.push(() => rm(join(stateDir, HOST_RECORD), { force: true }));
  const schedules = startSchedules(wiring.schedules, {
    invoke,
    fireAtStart: settings.fireAtStart,
    minuteMs: settings.minuteMs,
    onError: ({ arn, targetArn }, error) => onLog(functionNameOf(targetArn), `${arn} did not fire: ${error.message}`),
  });
  closers.push(async () => schedules.stop());
  // An endpoint of the user's own expires its items itself.
  if (dynamodb.kind === 'embedded') {
    const timeToLive = startTimeToLive(tables, {
      endpoint: dynamodb.endpoint,
      region,
      intervalMs: chaos ? 1_000 : 60_000,
      firstMs: chaos ? 1_000 : 5 * settings.minuteMs,
      chaos,
      onError: (table, error) => onLog('dynamodb', `expired items of ${table} were not deleted: ${error.message}`),
    });
    closers.push(() => timeToLive.stop());
  }
  chaos?.begin();
  return {
    lambdaEndpoint: api.endpoint,
    dynamodb,
    s3,
    sqs: { endpoint: queues.endpoint, urls: queues.urls() },
    functions: functions.all().map(({ name, logicalId }) => ({ name, logicalId })),
    invoke: (name, payload, type = 'RequestResponse') => invoke(name, JSON.stringify(payload) ?? '', type),
    chaos: () => chaos?.summary(),
    idle: () => untilIdle(activity, started, delivering),
  };
}

async function untilIdle(activity: Activity, streams: Streams, deliveries: QueueDelivery): Promise<void> {
  for (;;) {
    await activity.whenQuiet();
    const before = activity.started;
    await Promise.all([streams.caughtUp(), deliveries.caughtUp()]);
    if (activity.underWay === 0 && activity.started === before) return;
  }
}

/** Invocations, before there is anything that invokes. */
function createRuntime(settings: Settings, resources: Resource[], intrinsics: Intrinsics, queues: Queues) {
  const activity = createActivity();
  const chaos = settings.chaos && createChaos(settings.chaos);
  const permissions = resources
    .filter(({ type }) => type === 'AWS::Lambda::Permission')
    .map((permission) => describePermission(permission, intrinsics));
  const authorizer = createAuthorizer(permissions);
  const faultOf = (accessKeyId: string) => {
    const caller = authorizer.functionOf(accessKeyId);
    return caller && chaos?.faultOf(caller.name);
  };
  const environment: Record<string, string> = {};
  const functions = createFunctions({
    ...settings,
    activity,
    chaos,
    environment: () => environment,
    accessKeyOf: authorizer.accessKeyOf,
  });
  const configs = new Map<string, EventInvokeConfig>();
  const retryDelaysMs = settings.eventRetryDelaysMs;
  const events = createEventQueue({
    functions,
    activity,
    configs,
    retryDelaysMs,
    chaos,
    // Whoever reads it hides a message as long as it likes.
    sendToQueue: async (arn, body) => (await queues.provide(arn, 30_000)).send({ body, attributes: {} }),
    onLog: settings.onLog,
  });
  const invoke = createInvoke(functions, events);
  return { activity, chaos, authorizer, permissions, faultOf, environment, functions, configs, events, invoke };
}

/** Other programs find the running host by it. */
async function recordHost(
  stateDir: string,
  lambdaEndpoint: string,
  dynamodb: Dynamodb,
  s3Endpoint: string,
): Promise<void> {
  await writeStateFile(join(stateDir, HOST_RECORD), {
    pid: process.pid,
    lambdaEndpoint,
    dynamodb: { endpoint: dynamodb.endpoint, kind: dynamodb.kind },
    s3: { endpoint: s3Endpoint },
  });
}

async function provideStorage(
  resources: Resource[],
  intrinsics: Intrinsics,
  dynamodb: Dynamodb,
  region: string,
  stateDir: string,
): Promise<Table[]> {
  // Also those that are no part of the app, but wake something in it: before a function looks into them.
  const buckets = resources.flatMap((resource) => {
    if (resource.type === 'AWS::S3::Bucket') return [intrinsics.identityOf(resource).name];
    if (resource.type !== 'Custom::S3BucketNotifications') return [];
    return describeNotifications(resource, intrinsics).map(({ bucket }) => bucket);
  });
  for (const bucket of buckets) await mkdir(join(stateDir, 's3', bucket), { recursive: true });
  const client = new DynamoDBClient(clientConfig(dynamodb.endpoint, region));
  try {
    const tables: Table[] = [];
    for (const resource of resources.filter(isTable)) tables.push(await provideTable(resource, intrinsics, client));
    return tables;
  } finally {
    client.destroy();
  }
}

function sharedEnvironment(
  dynamodbEndpoint: string,
  lambdaEndpoint: string,
  s3Endpoint: string,
  sqsEndpoint: string,
): Record<string, string> {
  return {
    AWS_ENDPOINT_URL_DYNAMODB: dynamodbEndpoint,
    AWS_ENDPOINT_URL_DYNAMODB_STREAMS: dynamodbEndpoint,
    AWS_ENDPOINT_URL_LAMBDA: lambdaEndpoint,
    AWS_ENDPOINT_URL_S3: s3Endpoint,
    AWS_ENDPOINT_URL_SQS: sqsEndpoint,
    // Paths and secrets in files of this machine may be named here, and nowhere else.
    SLUICE_LOCAL: '1',
  };
}

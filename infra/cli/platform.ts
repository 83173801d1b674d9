import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DescribeTableCommand, DynamoDBClient, ListTablesCommand } from '@aws-sdk/client-dynamodb';
import { LambdaClient } from '@aws-sdk/client-lambda';
import { ConnectError } from '../../shared/connect/errors.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import type { ObjectStore } from '../../shared/log/objects.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import { type S3, s3Client } from '../../shared/s3/client.ts';
import { s3Objects } from '../../shared/s3/objects.ts';
import { dynamoTable, kindIndex } from '../../shared/state/dynamodb/table.ts';
import type { Table } from '../../shared/state/table.ts';
import { startDynamodb } from '../local/dynamodb.ts';
import { acquireLock } from '../local/lock.ts';
import { startS3 } from '../local/s3.ts';
import { openDeployed } from './deployed-platform.ts';

/** What the commands that look at a platform, or change it, work on. */
export interface OpenPlatform {
  readonly table: Table;
  /** To read what is in the log. */
  readonly objects: Pick<ObjectStore, 'get'>;
  readonly functions: InvokeFunction;
  /** Whether a run or `sluice dev` is alive, so that functions can be invoked. */
  readonly running: boolean;
  close(): Promise<void>;
}

/** Who asks the local host: it checks neither. */
export const localAccess = {
  region: process.env.AWS_REGION ?? 'us-east-1',
  credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
};

/** Asks long enough for an embedded DynamoDB that died to be there again. */
export const clientAt = (endpoint: string): DynamoDBClient =>
  new DynamoDBClient({ ...localAccess, endpoint, maxAttempts: 8 });

/** Where a platform is: under a state directory of this machine, or on AWS, by its name. */
export interface Place {
  readonly state: string;
  readonly platform?: string;
}

/** One of this machine is a running host's, or its tables and objects alone while nothing runs. */
export const openPlatform = async ({ state: stateDir, platform }: Place): Promise<OpenPlatform> => {
  if (platform !== undefined) return openDeployed(platform);
  await using opened = new AsyncDisposableStack();
  const host = await readHost(stateDir);
  const { dynamodb, s3 } = host ?? (await startStores(resolve(stateDir), opened));
  const client = opened.adopt(clientAt(dynamodb.endpoint), (it) => it.destroy());
  const tableName = await findTable(client);
  const objects = objectsOf(s3Client({ ...localAccess, endpoint: s3.endpoint }), await bucketsOf(stateDir));
  const functions =
    host === undefined ? nothingRuns : lambdaInvoker(opened.adopt(lambdaAt(host.lambdaEndpoint), (it) => it.destroy()));
  const table = dynamoTable({ client, tableName });
  const all = opened.move();
  return { table, objects, functions, running: host !== undefined, close: () => all.disposeAsync() };
};

/** Who asks the local host to run a task waits for its end, and decides itself what to try again. */
export const lambdaAt = (endpoint: string): LambdaClient =>
  new LambdaClient({ ...localAccess, endpoint, maxAttempts: 1, requestHandler: { requestTimeout: 0 } });

const startStores = async (
  stateDir: string,
  opened: AsyncDisposableStack,
): Promise<Pick<HostRecord, 'dynamodb' | 's3'>> => {
  // To look must not make anything.
  if (process.env.AWS_ENDPOINT_URL_DYNAMODB === undefined && !existsSync(join(stateDir, 'dynamodb.db')))
    throw nothingRan();
  opened.adopt(await acquireLock(stateDir), (lock) => lock.release());
  const s3 = opened.adopt(await startS3({ root: join(stateDir, 's3') }), (it) => it.stop());
  const dynamodb = await startDynamodb({ stateDir, onLog: () => {} });
  return { s3, dynamodb: opened.adopt(dynamodb, (it) => it.stop()) };
};

/** While nothing runs, a wake-up is nobody's loss: the next run looks for itself. */
const nothingRuns: InvokeFunction = {
  event: async () => {},
  request: async () => ({ problems: [] }),
};

/** A segment's object has a name of its own, so the bucket that has it is the platform's; the others are the pipelines'. */
const objectsOf = (s3: S3, buckets: readonly string[]): OpenPlatform['objects'] => ({
  async get(...range) {
    for (const bucket of buckets) {
      const bytes = await s3Objects(s3, bucket).get(...range);
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  },
});

const bucketsOf = async (stateDir: string): Promise<readonly string[]> =>
  (await readdir(join(resolve(stateDir), 's3'))).filter((name) => !name.startsWith('.'));

interface HostRecord {
  readonly pid: number;
  readonly lambdaEndpoint: string;
  readonly dynamodb: { readonly endpoint: string };
  readonly s3: { readonly endpoint: string };
}

const readHost = async (stateDir: string): Promise<HostRecord | undefined> => {
  try {
    const host = JSON.parse(await readFile(join(stateDir, 'host.json'), 'utf8')) as HostRecord;
    process.kill(host.pid, 0);
    return host;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw cause;
  }
};

/** The platform's table is the one with its index: an endpoint of the user's own may hold others. */
export const findTable = async (client: DynamoDBClient): Promise<string> => {
  const { TableNames = [] } = await client.send(new ListTablesCommand({}));
  for (const TableName of TableNames) {
    const { Table: table } = await client.send(new DescribeTableCommand({ TableName }));
    if (table?.GlobalSecondaryIndexes?.some((index) => index.IndexName === kindIndex)) return TableName;
  }
  throw nothingRan();
};

const nothingRan = (): ConnectError =>
  new ConnectError(
    'NOT_FOUND',
    'nothing has run here yet: `sluice run FILE` first, or name another directory with --state',
  );

import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DescribeTableCommand, DynamoDBClient, ListTablesCommand } from '@aws-sdk/client-dynamodb';
import { LambdaClient } from '@aws-sdk/client-lambda';
import { ConnectError } from '../../shared/connect/errors.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { directoryObjects } from '../../shared/log/directory-objects.ts';
import type { ObjectStore } from '../../shared/log/objects.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import { dynamoTable, kindIndex } from '../../shared/state/dynamodb/table.ts';
import type { Table } from '../../shared/state/table.ts';
import { startDynamodb } from '../local/dynamodb.ts';
import { acquireLock } from '../local/lock.ts';

/** What the commands that look at a platform, or change it, work on. */
export interface OpenPlatform {
  readonly table: Table;
  readonly objects: ObjectStore;
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

/** The platform under a state directory: a running host's, or the tables alone while nothing runs. */
export const openPlatform = async (stateDir: string): Promise<OpenPlatform> => {
  const host = await readHost(stateDir);
  if (host !== undefined) {
    const lambda = new LambdaClient({ ...localAccess, endpoint: host.lambdaEndpoint });
    return open(stateDir, host.dynamodb.endpoint, lambdaInvoker(lambda), true, async () => lambda.destroy());
  }
  // To look must not make anything.
  if (process.env.AWS_ENDPOINT_URL_DYNAMODB === undefined && !existsSync(join(stateDir, 'dynamodb.db')))
    throw nothingRan();
  const lock = await acquireLock(resolve(stateDir));
  try {
    const dynamodb = await startDynamodb({ stateDir: resolve(stateDir), onLog: () => {} });
    return await open(stateDir, dynamodb.endpoint, nothingRuns, false, async () => {
      await dynamodb.stop();
      await lock.release();
    });
  } catch (cause) {
    await lock.release();
    throw cause;
  }
};

/** While nothing runs, a wake-up is nobody's loss: the next run looks for itself. */
const nothingRuns: InvokeFunction = {
  event: async () => {},
  request: async () => ({ problems: [] }),
};

const open = async (
  stateDir: string,
  endpoint: string,
  functions: InvokeFunction,
  running: boolean,
  release: () => Promise<void>,
): Promise<OpenPlatform> => {
  const client = clientAt(endpoint);
  const close = async () => {
    client.destroy();
    await release();
  };
  try {
    const tableName = await findTable(client);
    const objects = directoryObjects(await bucketDirectory(stateDir));
    return { table: dynamoTable({ client, tableName }), objects, functions, running, close };
  } catch (cause) {
    await close();
    throw cause;
  }
};

interface HostRecord {
  readonly pid: number;
  readonly lambdaEndpoint: string;
  readonly dynamodb: { readonly endpoint: string };
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

const bucketDirectory = async (stateDir: string): Promise<string> => {
  const root = join(resolve(stateDir), 's3');
  const [bucket] = await readdir(root);
  return join(root, bucket ?? '');
};

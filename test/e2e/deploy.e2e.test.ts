import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DynamoDBClient, ListTablesCommand } from '@aws-sdk/client-dynamodb';
import { LambdaClient, ListFunctionsCommand } from '@aws-sdk/client-lambda';
import { ListBucketsCommand, PutBucketTaggingCommand, S3Client } from '@aws-sdk/client-s3';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readStates } from '../../shared/management/status.ts';
import { type S3, s3Client } from '../../shared/s3/client.ts';
import { setTarget } from '../../shared/state/connectors.ts';
import { dynamoTable } from '../../shared/state/dynamodb/table.ts';
import { type Ministack, startMinistack } from '../kit/ministack.ts';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { queryRows } from '../kit/rows.ts';
import { envelopeOf, makeWorkplace, repository } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';
import type { Variant } from './deploy-app.ts';

/**
 * `cdk deploy` for real, on an emulator of AWS: the bootstrap, the deployment, what flows then through functions, streams, events and
 * buckets, and every change of it that a user makes later. Nothing of it uses a local path.
 */
let directory: string;
let postgres: PostgresServer;
let ministack: Ministack;
let s3: S3;
let dynamodb: DynamoDBClient;
let lambda: LambdaClient;
let buckets: S3Client;
let outputs: { readonly InBucket: string; readonly LakeBucket: string; readonly Table: string };

const app = fileURLToPath(new URL('./deploy-app.ts', import.meta.url));
const cdkProgram = join(repository, 'node_modules/aws-cdk/bin/cdk');

/** Runs the CDK's command line; its whole output where it fails. */
const cdk = async (args: readonly string[], variant: Variant = {}): Promise<string> => {
  const child = spawn(process.execPath, [cdkProgram, ...args, '--output', join(directory, 'cdk.out')], {
    cwd: directory,
    env: {
      PATH: process.env.PATH,
      HOME: directory,
      ...ministack.env,
      CDK_HOME: join(directory, 'cdk-home'),
      CDK_DEFAULT_ACCOUNT: '000000000000',
      CDK_DEFAULT_REGION: 'us-east-1',
      CDK_VALIDATION: 'false',
      SLUICE_TEST_VARIANT: JSON.stringify(variant),
      SLUICE_TEST_DIRECTORY: directory,
      SLUICE_TEST_URL: postgres.url,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`cdk ${args.join(' ')} ended with ${code}:\n${output}`);
  return output;
};

const program = ['--app', `${process.execPath} ${app}`];

const deploy = async (variant: Variant = {}): Promise<string> => {
  const file = join(directory, 'outputs.json');
  const output = await cdk([...program, 'deploy', '--require-approval', 'never', '--outputs-file', file], variant);
  outputs = JSON.parse(await readFile(file, 'utf8')).Orders;
  return output;
};

const orders = new Map<number, string>();

/** Puts an object of orders into the bucket: what the event then wakes is what the test waits for. */
const put = async (name: string, ids: readonly number[], total: string): Promise<void> => {
  for (const id of ids) orders.set(id, total);
  const lines = ids.map((id) => `${id},${total},2026-11-${String(10 + (id % 3))}`);
  await s3.put(outputs.InBucket, `in/${name}.csv`, Buffer.from(['order_id,total,day', ...lines, ''].join('\n')));
};

const range = (from: number, to: number): readonly number[] => Array.from({ length: to - from }, (_, i) => from + i);

const warehouse = async (): Promise<ReadonlyMap<number, string>> => {
  const rows = await queryRows(postgres.url, 'select order_id, total from orders').catch(() => []);
  return new Map(rows.map(([id, total]) => [Number(id), total!]));
};

const isInWarehouse = async (): Promise<boolean> => {
  const rows = await warehouse();
  return rows.size === orders.size && [...orders].every(([id, total]) => rows.get(id) === total);
};

const arrived = () => until(isInWarehouse, { timeoutMs: 120_000 });

const lakeRows = async (): Promise<readonly Record<string, unknown>[]> => {
  const rows: Record<string, unknown>[] = [];
  for await (const page of s3.list(outputs.LakeBucket, 'orders/'))
    for (const { key } of page) {
      const { bytes } = (await s3.get(outputs.LakeBucket, key))!;
      const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
      rows.push(...(await parquetReadObjects({ file })));
    }
  return rows;
};

const table = () => dynamoTable({ client: dynamodb, tableName: outputs.Table });

const states = () => readStates(table(), Date.now());

const target = (connector: string, verb: 'pause' | 'resume') => setTarget(table(), connector, verb);

const stateOf = async (name: string) => (await states()).find(({ row }) => row.name === name);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sluice-deploy-'));
  await mkdir(join(directory, 'cdk-home'));
  postgres = await startPostgres();
  ministack = await startMinistack();
  const { endpoint } = ministack;
  const access = { endpoint, region: 'us-east-1', credentials: { accessKeyId: 'test', secretAccessKey: 'test' } };
  s3 = s3Client(access);
  dynamodb = new DynamoDBClient(access);
  lambda = new LambdaClient(access);
  buckets = new S3Client({ ...access, forcePathStyle: true });
}, 300_000);
afterAll(async () => {
  for (const client of [dynamodb, lambda, buckets]) client?.destroy();
  await ministack?.stop();
  await postgres?.stop();
  await rm(directory, { recursive: true, force: true });
});

const timeout = 300_000;

test('without a bootstrap the deployment says what to do', { timeout }, async () => {
  await expect(deploy()).rejects.toThrow(/cdk bootstrap/);
});

test('an object becomes rows in PostgreSQL and Parquet objects in another bucket', { timeout }, async () => {
  await cdk(['bootstrap', 'aws://000000000000/us-east-1']);
  await deploy();
  await put('a', range(0, 500), '10.00');
  await arrived();
  await until(async () => (await lakeRows()).length === 500, { timeoutMs: 60_000 });
  const first = (await lakeRows()).find((row) => row.order_id === 7n);
  expect(first).toMatchObject({ order_id: 7n, day: new Date('2026-11-11') });
});

test('the command line finds the platform by its name', { timeout }, async () => {
  await using place = await makeWorkplace();
  const sluice = (...args: string[]) => place.sluice([...args, '--json'], ministack.env);
  const of = ['--platform', 'default'];
  const status = envelopeOf(await sluice('status', ...of)).result as readonly { readonly name: string }[];
  expect(status.map(({ name }) => name).sort()).toEqual(['orders-files', 'orders-lake', 'orders-warehouse']);
  const tail = envelopeOf(await sluice('topics', 'tail', 'orders', '-n', '2', ...of)).result;
  expect(tail).toMatchObject([{ value: { total: '10.00' } }, {}]);
  expect((await sluice('connectors', 'pause', 'orders-lake', ...of)).code).toBe(0);
  expect((await stateOf('orders-lake'))?.row.target).toBe('PAUSED');
  expect((await sluice('connectors', 'resume', 'orders-lake', ...of)).code).toBe(0);
  // It is asked in its own function, which answers that there is nothing to compare with.
  const verified = await sluice('verify', '--connector', 'orders-warehouse', ...of);
  expect([verified.code, envelopeOf(verified).result]).toMatchObject([
    2,
    { error: { code: 'CONFIG_INVALID', message: expect.stringContaining("the rows of file can't be compared") } },
  ]);
  const nowhere = await sluice('status', '--platform', 'nowhere');
  expect(envelopeOf(nowhere).error).toMatchObject({ code: 'NOT_FOUND', message: expect.stringContaining('nowhere') });
});

test('an update with data flowing loses nothing', { timeout }, async () => {
  const flowing = (async () => {
    for (let i = 0; i < 10; i++) await put(`flow-${i}`, range(1_000 + i * 50, 1_060 + i * 50), `${i}.00`);
  })();
  await deploy({ tasks: 2 });
  await flowing;
  await arrived();
  await until(async () => (await stateOf('orders-warehouse'))?.row.tasks === 2, { timeoutMs: 180_000 });
});

test('a failed update is rolled back, and the old goes on', { timeout }, async () => {
  const before = await stateOf('orders-lake');
  await expect(deploy({ tasks: 2, lakePath: 's3://sluice-no-such-bucket/orders/' })).rejects.toThrow(
    /sluice-no-such-bucket/,
  );
  const after = await stateOf('orders-lake');
  expect(after?.row.config).toEqual(before?.row.config);
  expect(after?.row.incarnation).toBe(before?.row.incarnation);
  await put('rolled-back', range(2_000, 2_100), '20.00');
  await arrived();
});

test('a release that writes a newer shape, rolled back with data flowing: stopped loudly, lost nothing', {
  timeout,
}, async () => {
  await deploy({ tasks: 2, newer: true });
  await put('newer', range(3_000, 3_100), '30.00');
  await arrived();
  // Paused, so that the old release finds segments of the new one before it.
  await target('orders-warehouse', 'pause');
  for (let i = 0; i < 10; i++) await put(`newer-${i}`, range(3_100 + i * 50, 3_150 + i * 50), `3${i}.00`);
  await until(async () => (await stateOf('orders-warehouse'))?.lagRecords === 500, { timeoutMs: 60_000 });
  await deploy({ tasks: 2 });
  await target('orders-warehouse', 'resume');
  await put('older', range(3_800, 3_900), '38.00');
  const failed = await until(
    async () => (await states()).flatMap(({ tasks }) => tasks).find(({ row }) => row.trace?.includes('SHAPE_TOO_NEW')),
    { timeoutMs: 60_000 },
  );
  expect(failed.row.state).toBe('FAILED');
  await deploy({ tasks: 2, newer: true });
  await arrived();
  expect((await states()).flatMap(({ tasks }) => tasks).filter(({ row }) => row.state === 'FAILED')).toEqual([]);
});

test('a construct that is renamed keeps its connectors and their offsets', { timeout }, async () => {
  const before = await stateOf('orders-warehouse');
  await deploy({ id: 'Renamed', tasks: 2 });
  const after = await stateOf('orders-warehouse');
  expect(after?.row.incarnation).toBe(before?.row.incarnation);
  expect(after?.row.functionName).not.toBe(before?.row.functionName);
  const lake = (await lakeRows()).length;
  await put('renamed', range(4_000, 4_100), '40.00');
  await arrived();
  await until(async () => (await lakeRows()).length === lake + 100, { timeoutMs: 60_000 });
});

test('a connector that is left out is removed, the others go on', { timeout }, async () => {
  await deploy({ id: 'Renamed', tasks: 2, withoutLake: true });
  expect((await states()).map(({ row }) => row.name).sort()).toEqual(['orders-files', 'orders-warehouse']);
  await put('removed', range(5_000, 5_100), '50.00');
  await arrived();
});

test('destroy leaves nothing', { timeout }, async () => {
  await setTagsOfBuckets();
  await cdk([...program, 'destroy', '--force'], { id: 'Renamed', tasks: 2, withoutLake: true });
  const { Functions = [] } = await lambda.send(new ListFunctionsCommand({}));
  const { TableNames = [] } = await dynamodb.send(new ListTablesCommand({}));
  expect([Functions, TableNames, await ownBuckets()]).toEqual([[], [], []]);
});

const ownBuckets = async (): Promise<readonly string[]> => {
  const { Buckets = [] } = await buckets.send(new ListBucketsCommand({}));
  // The one of the bootstrap stays.
  return Buckets.flatMap(({ Name }) => (Name!.startsWith('cdk-') ? [] : [Name!]));
};

/** The emulator's CloudFormation leaves out the tags of a bucket, by which the CDK knows that it may empty it. */
const setTagsOfBuckets = async (): Promise<void> => {
  const Tagging = { TagSet: [{ Key: 'aws-cdk:auto-delete-objects', Value: 'true' }] };
  for (const Bucket of await ownBuckets()) await buckets.send(new PutBucketTaggingCommand({ Bucket, Tagging }));
};

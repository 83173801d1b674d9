import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  DescribeTableCommand,
  DescribeTimeToLiveCommand,
  DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
} from '@aws-sdk/client-dynamodb';
import { describe, expect, onTestFinished, test } from 'vitest';
import { startHost } from '../../../infra/local/host.ts';
import { until } from '../../kit/until.ts';
import { items, mapping, type RunningApp, run, temporaryDirectory, writeAssembly } from './app.ts';
import { childrenOf, isRunning } from './processes.ts';

function client({ dynamodb }: Pick<RunningApp, 'dynamodb'>): DynamoDBClient {
  const dynamo = new DynamoDBClient({ endpoint: dynamodb.endpoint, region: 'us-east-1' });
  onTestFinished(() => dynamo.destroy());
  return dynamo;
}

const table = {
  ...items,
  Global: {
    Type: 'AWS::DynamoDB::GlobalTable',
    Properties: {
      TableName: 'global',
      AttributeDefinitions: ['pk', 'sk', 'kind'].map((AttributeName) => ({ AttributeName, AttributeType: 'S' })),
      KeySchema: [
        { AttributeName: 'pk', KeyType: 'HASH' },
        { AttributeName: 'sk', KeyType: 'RANGE' },
      ],
      GlobalSecondaryIndexes: [
        {
          IndexName: 'by-kind',
          KeySchema: [{ AttributeName: 'kind', KeyType: 'HASH' }],
          Projection: { ProjectionType: 'KEYS_ONLY' },
        },
      ],
      BillingMode: 'PAY_PER_REQUEST',
      StreamSpecification: { StreamViewType: 'KEYS_ONLY' },
      TimeToLiveSpecification: { AttributeName: 'expires', Enabled: true },
      Replicas: [{ Region: 'us-east-1' }],
    },
  },
};

describe('tables', () => {
  test('have the keys, indexes, stream and TTL of the template, and keep their items over restarts', async () => {
    const directory = await temporaryDirectory();
    const first = await run({ resources: table }, { directory });
    const dynamo = client(first);
    const { Table } = await dynamo.send(new DescribeTableCommand({ TableName: 'global' }));
    expect(Table).toMatchObject({
      KeySchema: table.Global.Properties.KeySchema,
      StreamSpecification: { StreamEnabled: true, StreamViewType: 'KEYS_ONLY' },
      GlobalSecondaryIndexes: [{ IndexName: 'by-kind', Projection: { ProjectionType: 'KEYS_ONLY' } }],
    });
    const { TimeToLiveDescription } = await dynamo.send(new DescribeTimeToLiveCommand({ TableName: 'global' }));
    expect(TimeToLiveDescription).toEqual({ AttributeName: 'expires', TimeToLiveStatus: 'ENABLED' });
    await dynamo.send(new PutItemCommand({ TableName: 'App-Items', Item: { id: { S: 'kept' } } }));
    await first.stop();

    const second = await run({ resources: table }, { directory });
    const { Item } = await client(second).send(
      new GetItemCommand({ TableName: 'App-Items', Key: { id: { S: 'kept' } } }),
    );
    expect(Item).toEqual({ id: { S: 'kept' } });
  });

  test('get an index and a stream that the template has since, but another key is refused', async () => {
    const directory = await temporaryDirectory();
    const { StreamSpecification: _stream, GlobalSecondaryIndexes: _indexes, ...Properties } = table.Global.Properties;
    const attributes = Properties.AttributeDefinitions.slice(0, 2);
    const old = { ...table.Global, Properties: { ...Properties, AttributeDefinitions: attributes } };
    await (await run({ resources: { Global: old } }, { directory })).stop();
    const second = await run({ resources: { Global: table.Global } }, { directory });
    const { Table } = await client(second).send(new DescribeTableCommand({ TableName: 'global' }));
    expect(Table?.GlobalSecondaryIndexes).toHaveLength(1);
    expect(Table?.StreamSpecification?.StreamViewType).toBe('KEYS_ONLY');
    await second.stop();

    const other = { ...old, Properties: { ...old.Properties, KeySchema: [{ AttributeName: 'pk', KeyType: 'HASH' }] } };
    await expect(run({ resources: { Global: other } }, { directory })).rejects.toThrow(
      'table global has the key pk (HASH), sk (RANGE), the template says pk (HASH)',
    );
  });

  test('live in an endpoint of the user where one is given', async () => {
    const own = await run({});
    process.env.AWS_ENDPOINT_URL_DYNAMODB = own.dynamodb.endpoint;
    onTestFinished(() => {
      delete process.env.AWS_ENDPOINT_URL_DYNAMODB;
    });
    const app = await run({ resources: items });
    expect(app.dynamodb).toMatchObject({ endpoint: own.dynamodb.endpoint, kind: 'external', pid: undefined });
    await app.stop();
    await client(own).send(new DescribeTableCommand({ TableName: 'App-Items' }));
    process.env.AWS_ENDPOINT_URL_DYNAMODB = 'http://127.0.0.1:9';
    await expect(run({})).rejects.toThrow('no DynamoDB answers at AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:9');
  });
});

test('an embedded DynamoDB that is killed comes back with its data, and streams go on', async () => {
  const print =
    'export const handler = async ({ Records }) => Records.forEach((r) => console.log(r.dynamodb.Keys.id.S));';
  const app = await run({ functions: { Reader: print }, resources: { ...items, Stream: mapping('Reader') } });
  const dynamo = client(app);
  const put = (id: string) => dynamo.send(new PutItemCommand({ TableName: 'App-Items', Item: { id: { S: id } } }));
  await put('before');
  await app.idle();
  const { pid } = app.dynamodb;
  process.kill(pid!, 'SIGKILL');
  await until(() => app.dynamodb.pid !== pid);
  await put('after');
  // A look at the stream in between says that it failed, if the restart took long.
  const delivered = () => app.lines('Reader').filter((line) => !line.startsWith('cannot read'));
  await until(() => delivered().length === 2);
  expect(delivered()).toEqual(['before', 'after']);
  expect(app.logs.map(({ line }) => line).find((line) => line.startsWith('dynoxide ended (SIGKILL)'))).toBeDefined();
});

test('buckets are directories behind an endpoint that functions find', async () => {
  const app = await run({
    functions: { Where: 'export const handler = async () => [process.env.AWS_ENDPOINT_URL_S3, process.env.BUCKET];' },
    functionProperties: { Where: { Environment: { Variables: { BUCKET: { Ref: 'Bodies' } } } } },
    resources: { Bodies: { Type: 'AWS::S3::Bucket' } },
  });
  const { payload } = await app.call('Where');
  expect(payload).toEqual([app.s3.endpoint, 'app-bodies']);
  expect((await stat(join(app.stateDir, 's3', 'app-bodies'))).isDirectory()).toBe(true);
});

describe('the end of a run', () => {
  test('leaves no process, and lets what runs finish within the grace', async () => {
    const slow = `export const handler = async () => { console.log(process.pid); await new Promise((r) => setTimeout(r, 300)); console.log('done'); };`;
    const app = await run({ functions: { Slow: slow }, resources: items });
    const { pid } = app.dynamodb;
    await app.invoke('App-Slow', {}, 'Event');
    await until(() => app.lines('Slow').length > 0);
    await app.stop({ graceMs: 10_000 });
    expect(app.lines('Slow')).toEqual([expect.any(String), 'done']);
    expect(childrenOf(process.pid)).not.toContain(pid);
    expect(isRunning(Number(app.lines('Slow')[0]))).toBe(false);
    expect(isRunning(pid!)).toBe(false);
    expect(await readdir(app.stateDir)).not.toContain('host.json');
    await expect(fetch(app.lambdaEndpoint)).rejects.toThrow();
  });

  test('kills what still runs after the grace', async () => {
    const app = await run({
      functions: { Stuck: `export const handler = async () => { console.log(process.pid); for (;;) {} };` },
    });
    await app.invoke('App-Stuck', {}, 'Event');
    const pid = await until(() => Number(app.lines('Stuck')[0]) || undefined);
    await app.stop({ graceMs: 50 });
    expect(isRunning(pid)).toBe(false);
  });

  test('by SIGKILL takes its processes along, and the next run goes on', async () => {
    const directory = await temporaryDirectory();
    const assembly = await writeAssembly(join(directory, 'cdk.out'), {
      functions: {
        Sleep: `export const handler = async () => { console.log('pid ' + process.pid); setInterval(() => {}, 1000); await new Promise(() => {}); };`,
      },
      functionProperties: { Sleep: { Timeout: 900 } },
      resources: items,
    });
    const stateDir = join(directory, 'state');
    const host = new URL('../../../infra/local/host.ts', import.meta.url).href;
    const code = `import { startHost } from '${host}';
      const host = await startHost({ assembly: '${assembly}', stateDir: '${stateDir}', onLog: (_name, line) => console.log(line, 'dynamodb ' + host.dynamodb.pid) });
      await host.invoke('App-Sleep', {}, 'Event');`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = await once(child.stdout.setEncoding('utf8'), 'data');
    const [functionPid, dynamodbPid] = [...String(line).matchAll(/\d+/g)].map(Number);
    expect(JSON.parse(await readFile(join(stateDir, 'host.json'), 'utf8')).pid).toBe(child.pid);
    await expect(startHost({ assembly, stateDir })).rejects.toThrow(`another run (pid ${child.pid}) uses ${stateDir}`);
    child.kill('SIGKILL');
    await until(() => !isRunning(functionPid!) && !isRunning(dynamodbPid!));
    const next = await startHost({ assembly, stateDir, onLog: () => {} });
    await next.stop();
  });

  test('that never began, for a resource it does not know, leaves nothing either', async () => {
    const before = childrenOf(process.pid);
    const resources = { Broker: { Type: 'AWS::AmazonMQ::Broker' }, Cluster: { Type: 'AWS::RDS::DBCluster' } };
    await expect(run({ resources })).rejects.toThrow(
      'the local host does not run App/Broker (AWS::AmazonMQ::Broker), App/Cluster (AWS::RDS::DBCluster)',
    );
    await expect(
      run({ functions: { F: 'x' }, resources: items, functionProperties: { F: { Handler: 'nodot' } } }),
    ).rejects.toThrow(/App\/F .*Handler must be file.export/s);
    // The guard of a database is gone a moment after it, also that of the test before.
    await until(() => childrenOf(process.pid).every((pid) => before.includes(pid)));
  });
});

test('idle waits for what an invocation sets off', async () => {
  const app = await run({ functions: { Nothing: 'export const handler = async () => {};' } });
  await app.idle();
  await app.invoke('App-Nothing', {}, 'Event');
  await app.idle();
  expect(app.reports).toHaveLength(1);
});

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { CreateTableCommand, DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { freePort } from '../../infra/local/listen.ts';
import { kindIndex } from '../../shared/state/dynamodb/table.ts';
import { until } from './until.ts';

/** An embedded DynamoDB of its own: random port, own directory. One per test file, a table per test. */
export interface Dynoxide {
  readonly client: DynamoDBClient;
  readonly endpoint: string;
  /** A table as the platform's stack makes it. */
  createTable(name: string): Promise<void>;
  /** SIGKILL: what was acknowledged must be in the file. */
  kill9(): Promise<void>;
  /** Starts again on the same file and port. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export const startDynoxide = async (): Promise<Dynoxide> => {
  const directory = await mkdtemp(join(tmpdir(), 'sluice-dynoxide-'));
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new DynamoDBClient({
    endpoint,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  });
  const serve = () =>
    startServer(['serve', '--host', '127.0.0.1', '-p', `${port}`, '--db-path', join(directory, 'db')], endpoint);
  let server = await serve();
  return {
    client,
    endpoint,
    createTable: (name) => createTable(client, name),
    kill9: () => end(server, 'SIGKILL'),
    async restart() {
      server = await serve();
    },
    async stop() {
      client.destroy();
      await end(server, 'SIGKILL');
      await rm(directory, { recursive: true, force: true });
    },
  };
};

const createTable = async (client: DynamoDBClient, TableName: string): Promise<void> => {
  const string = (AttributeName: string) => ({ AttributeName, AttributeType: 'S' as const });
  const key = (hash: string, range: string) => [
    { AttributeName: hash, KeyType: 'HASH' as const },
    { AttributeName: range, KeyType: 'RANGE' as const },
  ];
  await client.send(
    new CreateTableCommand({
      TableName,
      AttributeDefinitions: ['pk', 'sk', 'kind', 'name'].map(string),
      KeySchema: key('pk', 'sk'),
      GlobalSecondaryIndexes: [
        { IndexName: kindIndex, KeySchema: key('kind', 'name'), Projection: { ProjectionType: 'KEYS_ONLY' } },
      ],
      StreamSpecification: { StreamEnabled: true, StreamViewType: 'KEYS_ONLY' },
      BillingMode: 'PAY_PER_REQUEST',
    }),
  );
};

const startServer = async (args: readonly string[], endpoint: string): Promise<ChildProcess> => {
  const server = spawn(binary(), args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  server.stderr.on('data', (chunk: Buffer) => {
    output = `${output}${chunk}`.slice(-2_000);
  });
  const orphan = () => server.kill('SIGKILL');
  process.once('exit', orphan);
  server.once('exit', () => process.off('exit', orphan));
  await once(server, 'spawn');
  await until(async () => {
    if (server.exitCode !== null) throw new Error(`dynoxide ended with ${server.exitCode}: ${output}`);
    return fetch(endpoint).then(
      (answer) => answer.ok,
      () => false,
    );
  });
  return server;
};

const end = async (server: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill(signal);
  await once(server, 'exit');
};

const binary = (): string =>
  join(dirname(createRequire(import.meta.url).resolve('@dynoxide/linux-x64/package.json')), 'dynoxide');

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { InvocationReport } from '../../../infra/local/functions.ts';
import { type Host, type HostOptions, startHost } from '../../../infra/local/host.ts';

export interface App {
  /** Handler source by logical id: each becomes an AWS::Lambda::Function whose bundle is an asset folder. */
  functions?: Record<string, string>;
  /** Properties of those functions beyond code and handler. */
  functionProperties?: Record<string, Record<string, unknown>>;
  resources?: Record<string, { Type: string; Properties?: Record<string, unknown>; DependsOn?: string[] }>;
  template?: Record<string, unknown>;
}

/** A directory that goes when the test has finished. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'sluice-host-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Writes what `cdk synth` would: manifest, template, asset manifest and asset folders of one stack "App". */
export async function writeAssembly(directory: string, app: App): Promise<string> {
  await mkdir(directory, { recursive: true });
  const resources: Record<string, unknown> = { Everything: everything, ...app.resources };
  const files: Record<string, unknown> = {};
  for (const [logicalId, code] of Object.entries(app.functions ?? {})) {
    const asset = `asset.${logicalId}${Buffer.from(code).length}`;
    await mkdir(join(directory, asset), { recursive: true });
    await writeFile(join(directory, asset, 'index.mjs'), code);
    files[asset] = {
      source: { path: asset, packaging: 'zip' },
      destinations: { current: { objectKey: `${asset}.zip` } },
    };
    resources[logicalId] = {
      Type: 'AWS::Lambda::Function',
      Properties: {
        Code: { S3Bucket: sub('assets-<AWS::AccountId>-<AWS::Region>'), S3Key: `${asset}.zip` },
        Handler: 'index.handler',
        Runtime: 'nodejs24.x',
        Role: { 'Fn::GetAtt': ['Everything', 'Arn'] },
        Timeout: 30,
        MemorySize: 256,
        ...app.functionProperties?.[logicalId],
      },
    };
  }
  const write = (name: string, value: unknown) => writeFile(join(directory, name), JSON.stringify(value));
  await write('App.template.json', { ...app.template, Resources: resources });
  await write('App.assets.json', { version: '48.0.0', files });
  await write('manifest.json', {
    version: '48.0.0',
    artifacts: {
      'App.assets': { type: 'cdk:asset-manifest', properties: { file: 'App.assets.json' } },
      App: {
        type: 'aws:cloudformation:stack',
        environment: 'aws://unknown-account/unknown-region',
        properties: { templateFile: 'App.template.json' },
      },
    },
  });
  return directory;
}

/** The role of functions that have none of their own. */
const everything = role([{ Effect: 'Allow', Action: '*', Resource: '*' }]);

export function role(Statement: unknown[]) {
  return { Type: 'AWS::IAM::Role', Properties: { Policies: [{ PolicyName: 'P', PolicyDocument: { Statement } }] } };
}

export interface RunningApp extends Host {
  directory: string;
  stateDir: string;
  logs: { functionName: string; line: string }[];
  lines(logicalId: string): string[];
  reports: InvocationReport[];
  call(logicalId: string, payload?: unknown): Promise<{ statusCode: number; functionError?: string; payload: unknown }>;
}

/** Starts the app; it is stopped when the test has finished. The same directory again is the same state. */
export async function run(app: App, options: Partial<HostOptions> & { directory?: string } = {}): Promise<RunningApp> {
  const { directory = await temporaryDirectory(), ...overrides } = options;
  const logs: RunningApp['logs'] = [];
  const reports: InvocationReport[] = [];
  const stateDir = join(directory, 'state');
  const host = await startHost({
    assembly: await writeAssembly(join(directory, 'cdk.out'), app),
    stateDir,
    onLog: (functionName, line) => logs.push({ functionName, line }),
    onInvocation: (report) => reports.push(report),
    eventRetryDelaysMs: [10, 20],
    streamRetryDelayMs: { first: 10, longest: 50 },
    ...overrides,
  });
  onTestFinished(() => host.stop());
  return {
    ...host,
    dynamodb: host.dynamodb,
    directory,
    stateDir,
    logs,
    lines: (logicalId) => logs.filter((log) => log.functionName === `App-${logicalId}`).map(({ line }) => line),
    reports,
    async call(logicalId, payload) {
      const answer = await host.invoke(`App-${logicalId}`, payload);
      return {
        statusCode: answer.statusCode,
        ...(answer.functionError ? { functionError: answer.functionError } : {}),
        payload: JSON.parse(answer.payload),
      };
    },
  };
}

/** Handlers in a temporary directory find the SDK under its own address. */
export function sdk(name: string): string {
  return import.meta.resolve(name);
}

/** Fn::Sub with <name> for its placeholders. */
export function sub(text: string): { 'Fn::Sub': string } {
  return { 'Fn::Sub': text.replaceAll('<', '$' + '{').replaceAll('>', '}') };
}

/** A table "Items" (key: id) with a stream. */
export const items = {
  Items: {
    Type: 'AWS::DynamoDB::Table',
    Properties: {
      AttributeDefinitions: [{ AttributeName: 'id', AttributeType: 'S' }],
      KeySchema: [{ AttributeName: 'id', KeyType: 'HASH' }],
      BillingMode: 'PAY_PER_REQUEST',
      StreamSpecification: { StreamViewType: 'NEW_IMAGE' },
    },
  },
};

export function mapping(functionId: string, properties: Record<string, unknown> = {}) {
  return {
    Type: 'AWS::Lambda::EventSourceMapping',
    Properties: {
      EventSourceArn: { 'Fn::GetAtt': ['Items', 'StreamArn'] },
      FunctionName: { Ref: functionId },
      StartingPosition: 'TRIM_HORIZON',
      ...properties,
    },
  };
}

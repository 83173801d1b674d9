import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type App, run, temporaryDirectory } from './app.ts';

/** Prints what it was asked and answers by PUT; `fail` in the properties makes it fail on that request type. */
const PROVIDER = `export const handler = async (event) => {
  const { RequestType, LogicalResourceId, PhysicalResourceId, ResourceProperties, OldResourceProperties, ResponseURL, ServiceToken } = event;
  console.log(JSON.stringify({ RequestType, LogicalResourceId, PhysicalResourceId, size: ResourceProperties.size, old: OldResourceProperties?.size, from: ResourceProperties.from }));
  if (ResourceProperties.fail === 'throw') throw new Error('provider broke');
  const failed = ResourceProperties.fail === RequestType;
  const body = { Status: failed ? 'FAILED' : 'SUCCESS', Reason: failed ? 'no quota' : undefined,
    PhysicalResourceId: LogicalResourceId + '-' + (ResourceProperties.replace ?? 1), Data: { token: LogicalResourceId + ':' + ResourceProperties.size },
    StackId: event.StackId, RequestId: event.RequestId, LogicalResourceId };
  await fetch(ResponseURL, { method: 'PUT', body: JSON.stringify(body) });
};`;
const custom = (properties: Record<string, unknown>) => ({
  Type: 'Custom::Thing',
  Properties: { ServiceToken: { 'Fn::GetAtt': ['Provider', 'Arn'] }, ...properties },
});
const app = (resources: App['resources']): App => ({ functions: { Provider: PROVIDER }, resources });

/** Starts, stops and tells what the provider was asked. */
async function requests(directory: string, resources: App['resources']): Promise<Record<string, unknown>[]> {
  const running = await run(app(resources), { directory });
  await running.stop();
  return running.lines('Provider').map((line) => JSON.parse(line));
}

describe('a custom resource', () => {
  test('is created once, updated when its properties change, deleted when it left the template', async () => {
    const directory = await temporaryDirectory();
    expect(await requests(directory, { Thing: custom({ size: 1 }) })).toEqual([
      { RequestType: 'Create', LogicalResourceId: 'Thing', size: 1 },
    ]);
    expect(await requests(directory, { Thing: custom({ size: 1 }) })).toEqual([]);
    expect(await requests(directory, { Thing: custom({ size: 2 }) })).toEqual([
      { RequestType: 'Update', LogicalResourceId: 'Thing', PhysicalResourceId: 'Thing-1', size: 2, old: 1 },
    ]);
    expect(await requests(directory, {})).toEqual([
      { RequestType: 'Delete', LogicalResourceId: 'Thing', PhysicalResourceId: 'Thing-1', size: 2 },
    ]);
    expect(await requests(directory, {})).toEqual([]);
  });

  test('that answers another physical id was replaced: the old one is deleted', async () => {
    const directory = await temporaryDirectory();
    await requests(directory, { Thing: custom({ size: 1 }) });
    const asked = await requests(directory, { Thing: custom({ size: 1, replace: 2 }) });
    expect(asked.map(({ RequestType, PhysicalResourceId }) => [RequestType, PhysicalResourceId])).toEqual([
      ['Update', 'Thing-1'],
      ['Delete', 'Thing-1'],
    ]);
  });

  test('is deleted after all others were created and updated', async () => {
    const directory = await temporaryDirectory();
    await requests(directory, { Old: custom({ size: 1 }), Thing: custom({ size: 1 }) });
    const asked = await requests(directory, { Thing: custom({ size: 1, replace: 2 }), New: custom({ size: 1 }) });
    expect(asked.map(({ RequestType, LogicalResourceId }) => `${RequestType} ${LogicalResourceId}`)).toEqual([
      'Update Thing',
      'Create New',
      'Delete Thing',
      'Delete Old',
    ]);
  });

  test('comes after what it refers to, and its attributes are known to others, also after a restart', async () => {
    const directory = await temporaryDirectory();
    const resources = {
      A: custom({ size: 1, from: { 'Fn::GetAtt': ['Z', 'token'] } }),
      B: { ...custom({ size: 3 }), DependsOn: ['A'] },
      Z: custom({ size: 26, from: { Ref: 'AWS::StackName' } }),
    };
    const user = {
      functions: {
        Provider: PROVIDER,
        User: 'export const handler = async () => [process.env.TOKEN, process.env.ID];',
      },
      functionProperties: {
        User: { Environment: { Variables: { TOKEN: { 'Fn::GetAtt': ['A', 'token'] }, ID: { Ref: 'A' } } } },
      },
      resources,
    };
    const first = await run(user, { directory });
    const asked = first.lines('Provider').map((line) => JSON.parse(line));
    expect(asked.map(({ LogicalResourceId }) => LogicalResourceId)).toEqual(['Z', 'A', 'B']);
    expect(asked[1].from).toBe('Z:26');
    expect((await first.call('User')).payload).toEqual(['A:1', 'A-1']);
    await first.stop();

    const second = await run(user, { directory });
    expect(second.lines('Provider')).toEqual([]);
    expect((await second.call('User')).payload).toEqual(['A:1', 'A-1']);
  });

  test('is deleted by the recorded function where that left the template with it', async () => {
    const directory = await temporaryDirectory();
    await requests(directory, { Thing: custom({ size: 1 }) });
    await rm(join(directory, 'cdk.out'), { recursive: true });
    const without = await run({ functions: { Other: PROVIDER } }, { directory });
    expect(without.lines('Provider').map((line) => JSON.parse(line).RequestType)).toEqual(['Delete']);
    expect(without.functions.map(({ logicalId }) => logicalId)).toEqual(['Other']);
    expect(JSON.parse(await readFile(join(without.stateDir, 'custom-resources.json'), 'utf8'))).toEqual({});
  });

  test('of the CDK itself that only housekeeps on AWS is left out', async () => {
    const asked = await requests(await temporaryDirectory(), {
      Thing: { ...custom({ size: 1 }), Type: 'Custom::S3AutoDeleteObjects' },
    });
    expect(asked).toEqual([]);
  });
});

describe('a custom resource that fails', () => {
  test('stops the start with the reason, and is asked again at the next', async () => {
    const directory = await temporaryDirectory();
    await expect(run(app({ Thing: custom({ size: 1, fail: 'Create' }) }), { directory })).rejects.toThrow(
      'App/Thing: Create failed: no quota',
    );
    expect(await requests(directory, { Thing: custom({ size: 1 }) })).toMatchObject([{ RequestType: 'Create' }]);
    await expect(run(app({ Thing: custom({ size: 2, fail: 'Update' }) }), { directory })).rejects.toThrow(
      'App/Thing: Update failed: no quota',
    );
    expect(await requests(directory, { Thing: custom({ size: 3 }) })).toMatchObject([
      { RequestType: 'Update', old: 1 },
    ]);
  });

  test('says what its function threw', async () => {
    await expect(run(app({ Thing: custom({ size: 1, fail: 'throw' }) }))).rejects.toThrow(
      /App\/Thing: Create failed in App-Provider: .*provider broke/,
    );
  });

  test('that never answers is given up', async () => {
    const silent = { functions: { Provider: 'export const handler = async () => {};' } };
    const resources = { Thing: custom({ ServiceTimeout: '1' }) };
    await expect(run({ ...silent, resources })).rejects.toThrow('App/Thing: no answer to Create within 1 s');
  });

  test('that asks no function of the app is refused', async () => {
    const resources = { Thing: custom({ ServiceToken: 'arn:aws:sns:us-east-1:0:topic' }) };
    await expect(run(app(resources))).rejects.toThrow(
      /ServiceToken arn:aws:sns.* is not a Lambda function of this app/,
    );
  });

  test('that refers to itself through another is refused', async () => {
    const resources = { A: custom({ from: { Ref: 'B' } }), B: custom({ from: { Ref: 'A' } }) };
    await expect(run(app(resources))).rejects.toThrow('circular dependency: A -> B -> A');
  });
});

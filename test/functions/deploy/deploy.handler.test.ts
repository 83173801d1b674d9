import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { specOf } from '../../kit/platform.ts';

/** What CloudFormation takes: an answer by PUT, of 4,096 bytes at most. */
const answers: Record<string, unknown>[] = [];
let status = 200;
const server = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (request.method === 'PUT' && body.byteLength <= 4_096) answers.push(JSON.parse(body.toString()));
  response.writeHead(status).end();
});

let handle: typeof import('../../../functions/deploy/deploy.handler.ts').handler;
beforeAll(async () => {
  for (const [name, value] of Object.entries({
    SLUICE_TABLE: 'table',
    SLUICE_OBJECTS: 's3://objects',
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'key',
    AWS_SECRET_ACCESS_KEY: 'secret',
  }))
    vi.stubEnv(name, value);
  handle = (await import('../../../functions/deploy/deploy.handler.ts')).handler;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(() => {
  answers.length = 0;
  status = 200;
});
afterAll(() => {
  vi.unstubAllEnvs();
  server.close();
});

const create = (spec: object) =>
  handle({
    RequestType: 'Create',
    ResponseURL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    StackId: 'stack',
    RequestId: 'request',
    LogicalResourceId: 'Orders',
    ResourceProperties: { Spec: JSON.stringify(spec) },
  });
const spec = specOf({ name: 'orders', kind: 'sink', from: ['rows'], managedBy: 'deploy', functionName: 'f' });

it('says what to do where the app is newer than the platform that it found', async () => {
  await create({ ...spec, colour: 'red', tasks: 0 });
  expect(answers).toEqual([
    {
      StackId: 'stack',
      RequestId: 'request',
      LogicalResourceId: 'Orders',
      Status: 'FAILED',
      // CloudFormation deletes by it what was not created.
      PhysicalResourceId: 'orders',
      Reason: expect.stringMatching(
        /^CONFIG_INVALID: the platform is of another release than the app.*tasks: Too small.*"colour".*: deploy the platform's stack with the app's release first$/,
      ),
    },
  ]);
});

it('keeps its answer within what CloudFormation takes, whatever it has to say', async () => {
  const keys = Array.from({ length: 500 }, (_, i) => [`"\u{1F4A5}${i}"`, 1]);
  await create({ ...spec, ...Object.fromEntries(keys) });
  expect(answers).toMatchObject([{ Status: 'FAILED' }]);
  expect(String(answers[0]!.Reason).length).toBeGreaterThan(500);
});

it('fails where its answer is not taken, so that Lambda shows it', async () => {
  status = 403;
  await expect(create({ ...spec, colour: 'red' })).rejects.toThrow('CloudFormation did not take the answer: 403');
});

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { lambdaInvoker } from '../../../shared/lambda/invoke.ts';
import { run } from './app.ts';

/** Our own client of Invoke, on the real API of the local host. */
const access = { region: 'us-east-1', credentials: { accessKeyId: 'local', secretAccessKey: 'local' } };
const payload = { connector: 'ä', task: 0, reason: 'manual' } as const;

test('events are accepted, requests answered, and what a function died of is told', async () => {
  const app = await run({
    functions: {
      Echo: 'export const handler = async (event) => { console.log(JSON.stringify(event)); return event; };',
      Dies: "export const handler = async () => { throw new Error('no more rows'); };",
      Silent: 'export const handler = async () => {};',
    },
  });
  const functions = lambdaInvoker({ ...access, endpoint: app.lambdaEndpoint });
  await functions.event('App-Echo', payload);
  await app.idle();
  expect(app.lines('Echo').map((line) => JSON.parse(line))).toEqual([payload]);
  expect(await functions.request('arn:aws:lambda:us-east-1:000000000000:function:App-Echo', payload)).toEqual(payload);
  expect(await functions.request('App-Silent', payload)).toBeNull();
  await expect(functions.request('App-Dies', payload)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    retriable: true,
    message: 'function App-Dies failed: no more rows',
  });
  await expect(functions.event('App-Gone', payload)).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: expect.stringMatching(/^function App-Gone could not be invoked: ResourceNotFoundException: .*App-Gone/),
  });
});

/** Answers in turn, the last one from then on. */
const serve = async (...answers: readonly (readonly [status: number, body: string, type?: string] | 'break')[]) => {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    request.resume().once('end', () => {
      const answer = answers[Math.min(asked.length, answers.length - 1)]!;
      asked.push(`${request.method} ${request.url} ${request.headers['x-amz-invocation-type']}`);
      if (answer === 'break') return void request.socket.destroy();
      const [status, body, type] = answer;
      response.writeHead(status, type === undefined ? {} : { 'x-amzn-errortype': type }).end(body);
    });
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { asked, endpoint };
};

test('what passes is tried again, what does not is told with its reason', async () => {
  const busy = await serve(
    'break',
    [429, '{"Reason":"x","message":"Rate Exceeded."}', 'TooManyRequestsException'],
    [202, ''],
  );
  await lambdaInvoker({ ...access, endpoint: busy.endpoint }).event('arn:aws:f', payload);
  expect(busy.asked).toEqual(Array(3).fill('POST /2015-03-31/functions/arn%3Aaws%3Af/invocations Event'));

  const down = await serve([503, '<html>']);
  const invoker = lambdaInvoker({ ...access, endpoint: down.endpoint, tries: 2 });
  await expect(invoker.event('f', payload)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    retriable: true,
    message: 'function f could not be invoked: 503: <html>',
  });
  expect(down.asked).toHaveLength(2);

  const denied = await serve([
    403,
    '{"Message":"User: x is not authorized to perform: lambda:InvokeFunction"}',
    'AccessDeniedException:http://x',
  ]);
  await expect(lambdaInvoker({ ...access, endpoint: denied.endpoint }).event('f', payload)).rejects.toMatchObject({
    code: 'ACCESS_DENIED',
    message:
      'function f could not be invoked: AccessDeniedException: User: x is not authorized to perform: lambda:InvokeFunction',
  });
  expect(denied.asked).toHaveLength(1);
});

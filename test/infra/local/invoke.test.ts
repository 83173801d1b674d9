import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { lambdaAt } from '../../../infra/cli/platform.ts';
import { lambdaInvoker } from '../../../shared/lambda/invoke.ts';
import { run } from './app.ts';

/** On the real API of the local host, and on servers that answer as they are told. */
const invokerAt = (endpoint: string) => lambdaInvoker(lambdaAt(endpoint));
const payload = { connector: 'ä', task: 0, reason: 'manual' } as const;

test('events are accepted, requests answered, and what a function died of is told', async () => {
  const app = await run({
    functions: {
      Echo: 'export const handler = async (event) => { console.log(JSON.stringify(event)); return event; };',
      Dies: "export const handler = async () => { throw new Error('no more rows'); };",
      Silent: 'export const handler = async () => {};',
    },
  });
  const functions = invokerAt(app.lambdaEndpoint);
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

test('what passes may be tried again, what does not is told with its reason', async () => {
  const busy = await serve([429, '{"Reason":"x","message":"Rate Exceeded."}', 'TooManyRequestsException']);
  await expect(invokerAt(busy.endpoint).event('arn:aws:f', payload)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    retriable: true,
    message: 'function arn:aws:f could not be invoked: TooManyRequestsException: Rate Exceeded.',
  });
  expect(busy.asked).toEqual(['POST /2015-03-31/functions/arn%3Aaws%3Af/invocations Event']);

  const gone = await serve('break');
  await expect(invokerAt(gone.endpoint).event('f', payload)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    retriable: true,
    message: expect.stringMatching(/^function f could not be invoked: /),
  });

  const denied = await serve([
    403,
    '{"Message":"User: x is not authorized to perform: lambda:InvokeFunction"}',
    'AccessDeniedException:http://x',
  ]);
  await expect(invokerAt(denied.endpoint).event('f', payload)).rejects.toMatchObject({
    code: 'ACCESS_DENIED',
    message:
      'function f could not be invoked: AccessDeniedException: User: x is not authorized to perform: lambda:InvokeFunction',
  });
});

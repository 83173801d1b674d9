import { describe, expect, test } from 'vitest';
import { until } from '../../kit/until.ts';
import { run, sub } from './app.ts';
import { isRunning } from './processes.ts';

describe('a function', () => {
  test('runs its bundle with the variables of the template and a Lambda context', async () => {
    const app = await run(
      {
        functions: {
          Hello: `export const handler = async (event, context) => ({ event, env: process.env, context, remaining: context.getRemainingTimeInMillis() });`,
        },
        functionProperties: {
          Hello: {
            Environment: { Variables: { ME: sub('<AWS::StackName>:<AWS::Region>'), SHADOWED: 'template' } },
          },
        },
      },
      { env: { SHADOWED: 'caller' } },
    );
    const { payload } = await app.call('Hello', { a: 1 });
    const answer = payload as Record<'event' | 'env' | 'context', Record<string, unknown>> & { remaining: number };
    expect(answer.event).toEqual({ a: 1 });
    expect(answer.env).toMatchObject({
      ME: 'App:us-east-1',
      SHADOWED: 'caller',
      AWS_REGION: 'us-east-1',
      AWS_LAMBDA_FUNCTION_NAME: 'App-Hello',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256',
      AWS_ENDPOINT_URL_LAMBDA: app.lambdaEndpoint,
      AWS_ENDPOINT_URL_DYNAMODB: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
      AWS_ENDPOINT_URL_S3: app.s3.endpoint,
      AWS_ACCESS_KEY_ID: expect.stringMatching(/^App-Hello\./),
    });
    expect(answer.env.VITEST).toBeUndefined();
    expect(answer.context).toMatchObject({
      functionName: 'App-Hello',
      memoryLimitInMB: '256',
      invokedFunctionArn: 'arn:aws:lambda:us-east-1:000000000000:function:App-Hello',
    });
    expect(answer.context.awsRequestId).toBe(app.reports[0]?.requestId);
    expect(answer.remaining).toBeGreaterThan(20_000);
    expect(answer.remaining).toBeLessThanOrEqual(30_000);
  });

  test('is reused while warm, gets further instances when busy, and loses idle ones', async () => {
    const app = await run(
      {
        functions: {
          Pid: `export const handler = async ({ ms }) => { await new Promise((r) => setTimeout(r, ms)); return process.pid; };`,
        },
      },
      { idleMs: 200 },
    );
    const first = await app.call('Pid', { ms: 0 });
    expect((await app.call('Pid', { ms: 0 })).payload).toBe(first.payload);
    expect(app.reports.map(({ initMs }) => initMs > 0)).toEqual([true, false]);
    const parallel = await Promise.all([app.call('Pid', { ms: 300 }), app.call('Pid', { ms: 300 })]);
    expect(new Set(parallel.map(({ payload }) => payload)).size).toBe(2);
    await until(() => !isRunning(first.payload as number));
  });

  test('waits beyond the limit of the host, and beyond its reserved concurrency where it was sent as an event', async () => {
    const code = `export const handler = async () => { console.log('in'); await new Promise((r) => setTimeout(r, 100)); console.log('out'); };`;
    const app = await run(
      { functions: { One: code, Any: code }, functionProperties: { One: { ReservedConcurrentExecutions: 1 } } },
      { maxConcurrency: 2 },
    );
    await Promise.all([app.call('Any'), app.call('Any'), app.call('Any')]);
    const running = mostAtOnce(app.lines('Any'));
    expect(running).toBe(2);
    await Promise.all([1, 2, 3].map(() => app.invoke('App-One', {}, 'Event')));
    await expect(app.call('One')).rejects.toThrow(/Rate Exceeded/);
    await app.idle();
    expect(app.lines('One')).toEqual(['in', 'out', 'in', 'out', 'in', 'out']);
  });

  test('reports what an invocation took', async () => {
    const app = await run({ functions: { Hello: `export const handler = async () => 'hello';` } });
    await app.call('Hello');
    const [report] = app.reports;
    expect(report).toMatchObject({ functionName: 'App-Hello', memoryMb: 256 });
    expect(report!.maxRssMb).toBeGreaterThan(10);
    expect(report!.billedMs).toBe(Math.ceil(report!.durationMs + report!.initMs));
    expect(report!.error).toBeUndefined();
  });
});

describe('a failing function', () => {
  test('is answered in the shape of Lambda', async () => {
    const app = await run({
      functions: { Bad: `export const handler = async () => { throw new RangeError('too far'); };` },
    });
    const { statusCode, functionError, payload } = await app.call('Bad');
    expect({ statusCode, functionError }).toEqual({ statusCode: 200, functionError: 'Unhandled' });
    expect(payload).toMatchObject({ errorType: 'RangeError', errorMessage: 'too far' });
    expect((payload as { trace: string[] }).trace[0]).toBe('RangeError: too far');
    expect(app.reports[0]?.error?.errorType).toBe('RangeError');
  });

  test('is killed at its timeout, together with what it started', async () => {
    const app = await run({
      functions: {
        Slow: `import { spawn } from 'node:child_process';
          export const handler = async ({ block }) => {
            console.log(spawn('sleep', ['60']).pid, process.pid);
            if (block) for (;;) {}
            await new Promise(() => {});
          };`,
      },
      functionProperties: { Slow: { Timeout: 1 } },
    });
    for (const block of [false, true]) {
      const { payload } = await app.call('Slow', { block });
      expect(payload).toEqual({
        errorType: 'Sandbox.Timedout',
        errorMessage: `RequestId: ${app.reports.at(-1)?.requestId} Task timed out after 1.00 seconds`,
      });
      const pids = app.lines('Slow').at(-1)!.split(' ').map(Number);
      await until(() => pids.every((pid) => !isRunning(pid)));
    }
  });

  test('is killed above its memory', async () => {
    const app = await run({
      functions: {
        Big: `const kept = []; export const handler = async () => {
          for (;;) { kept.push(Buffer.alloc(10_000_000, 1)); await new Promise((r) => setTimeout(r, 10)); } };`,
      },
    });
    const { functionError, payload } = await app.call('Big');
    expect(functionError).toBe('Unhandled');
    expect(payload).toMatchObject({ errorType: 'Runtime.OutOfMemory' });
    expect(app.reports[0]!.maxRssMb).toBeGreaterThan(256);
  });

  test('that ends its process is a Runtime.ExitError, and the next invocation gets a new one', async () => {
    const app = await run({
      functions: {
        Exit: `export const handler = async ({ how }) => {
          if (how === 'exit') process.exit(3);
          if (how === 'throw') { setTimeout(() => { throw new Error('late'); }); await new Promise(() => {}); }
          if (how === 'reject') { Promise.reject(new Error('lost')); await new Promise(() => {}); }
          return process.pid; };`,
      },
    });
    await app.call('Exit', { how: 'exit' });
    const { requestId } = app.reports[0]!;
    expect(app.reports[0]?.error).toEqual({
      errorType: 'Runtime.ExitError',
      errorMessage: `RequestId: ${requestId} Error: Runtime exited with error: exit status 3`,
    });
    expect((await app.call('Exit', { how: 'throw' })).payload).toMatchObject({
      errorType: 'Error',
      errorMessage: 'late',
    });
    expect((await app.call('Exit', { how: 'reject' })).payload).toMatchObject({
      errorType: 'Runtime.UnhandledPromiseRejection',
      errorMessage: 'Error: lost',
    });
    expect((await app.call('Exit', {})).functionError).toBeUndefined();
  });

  test('that cannot be loaded says why', async () => {
    const app = await run({
      functions: {
        Syntax: 'export const handler = async () => {',
        Missing: `import 'not-there'; export const handler = async () => {};`,
        Unnamed: 'export const other = async () => {};',
        Throws: `throw new TypeError('at the top');`,
      },
    });
    const errorTypeOf = async (name: string) => ((await app.call(name)).payload as { errorType: string }).errorType;
    expect(await errorTypeOf('Syntax')).toBe('Runtime.UserCodeSyntaxError');
    expect(await errorTypeOf('Missing')).toBe('Runtime.ImportModuleError');
    expect(await errorTypeOf('Unnamed')).toBe('Runtime.HandlerNotFound');
    expect(await errorTypeOf('Throws')).toBe('TypeError');
  });

  test('that answers more than 6 MB fails', async () => {
    const app = await run({ functions: { Big: `export const handler = async () => 'x'.repeat(7_000_000);` } });
    expect((await app.call('Big')).payload).toMatchObject({ errorType: 'Function.ResponseSizeTooLarge' });
  });
});

test('inline code is a CommonJS module', async () => {
  const app = await run({
    resources: {
      Inline: {
        Type: 'AWS::Lambda::Function',
        Properties: {
          Code: { ZipFile: `exports.handler = async () => require('node:path').basename(__filename);` },
          Handler: 'index.handler',
          Runtime: 'nodejs24.x',
          Role: { 'Fn::GetAtt': ['Everything', 'Arn'] },
        },
      },
    },
  });
  expect((await app.call('Inline')).payload).toBe('index.js');
});

function mostAtOnce(lines: string[]): number {
  let now = 0;
  let most = 0;
  for (const line of lines) {
    now += line === 'in' ? 1 : -1;
    most = Math.max(most, now);
  }
  return most;
}

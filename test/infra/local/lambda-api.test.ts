import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { describe, expect, onTestFinished, test } from 'vitest';
import { until } from '../../kit/until.ts';
import { type RunningApp, run, sdk } from './app.ts';

const ARN = 'arn:aws:lambda:us-east-1:000000000000:function:App-Echo';
const echo = {
  functions: { Echo: 'export const handler = async (event) => { console.log(JSON.stringify(event)); return event; };' },
};

function client({ lambdaEndpoint }: RunningApp): LambdaClient {
  const lambda = new LambdaClient({ endpoint: lambdaEndpoint, region: 'us-east-1', maxAttempts: 1 });
  onTestFinished(() => lambda.destroy());
  return lambda;
}

describe('Invoke through the SDK', () => {
  test('RequestResponse answers by name, ARN and qualified ARN', async () => {
    const app = await run(echo);
    const lambda = client(app);
    for (const FunctionName of ['App-Echo', ARN, `${ARN}:live`]) {
      const answer = await lambda.send(new InvokeCommand({ FunctionName, Payload: '{"a":"ä"}' }));
      expect(answer.StatusCode).toBe(200);
      expect(answer.FunctionError).toBeUndefined();
      expect(answer.ExecutedVersion).toBe('$LATEST');
      expect(answer.Payload?.transformToString()).toBe('{"a":"ä"}');
    }
  });

  test('a function error is told in the answer', async () => {
    const app = await run({ functions: { Echo: `export const handler = async () => { throw new Error('no'); };` } });
    const answer = await client(app).send(new InvokeCommand({ FunctionName: 'App-Echo' }));
    expect(answer.StatusCode).toBe(200);
    expect(answer.FunctionError).toBe('Unhandled');
    expect(JSON.parse(answer.Payload!.transformToString())).toMatchObject({ errorType: 'Error', errorMessage: 'no' });
  });

  test('Event is accepted at once and runs afterwards, DryRun runs nothing', async () => {
    const app = await run(echo);
    const lambda = client(app);
    const dry = await lambda.send(
      new InvokeCommand({ FunctionName: 'App-Echo', InvocationType: 'DryRun', Payload: '"dry"' }),
    );
    expect(dry.StatusCode).toBe(204);
    const event = await lambda.send(
      new InvokeCommand({ FunctionName: 'App-Echo', InvocationType: 'Event', Payload: '"event"' }),
    );
    expect(event.StatusCode).toBe(202);
    await app.idle();
    expect(app.lines('Echo')).toEqual(['"event"']);
  });

  test('refuses what AWS refuses', async () => {
    const app = await run({ ...echo, functionProperties: { Echo: { ReservedConcurrentExecutions: 0 } } });
    const lambda = client(app);
    const nameOf = (input: ConstructorParameters<typeof InvokeCommand>[0]) =>
      lambda.send(new InvokeCommand(input)).then(
        () => 'accepted',
        (error: Error & { $metadata: { httpStatusCode: number } }) => `${error.name} ${error.$metadata.httpStatusCode}`,
      );
    const big = (bytes: number) => JSON.stringify('x'.repeat(bytes));
    expect(await nameOf({ FunctionName: 'Nobody' })).toBe('ResourceNotFoundException 404');
    expect(await nameOf({ FunctionName: 'App-Echo', Payload: '{' })).toBe('InvalidRequestContentException 400');
    expect(await nameOf({ FunctionName: 'App-Echo', Payload: big(6_300_000) })).toBe('RequestTooLargeException 413');
    expect(await nameOf({ FunctionName: 'App-Echo', InvocationType: 'Event', Payload: big(262_144) })).toBe(
      'RequestTooLargeException 413',
    );
    expect(await nameOf({ FunctionName: 'App-Echo', Payload: '{}' })).toBe('TooManyRequestsException 429');
  });
});

describe('an event that fails', () => {
  const handlers = {
    Bad: `export const handler = async (event, context) => { console.log(context.awsRequestId); throw new Error('no ' + event.n); };`,
    Failed: 'export const handler = async (event) => console.log(JSON.stringify(event));',
  };
  const config = (properties: Record<string, unknown>) => ({
    Config: {
      Type: 'AWS::Lambda::EventInvokeConfig',
      Properties: {
        FunctionName: { Ref: 'Bad' },
        Qualifier: '$LATEST',
        DestinationConfig: { OnFailure: { Destination: { 'Fn::GetAtt': ['Failed', 'Arn'] } } },
        ...properties,
      },
    },
  });

  test('is retried twice with the same request id, then goes to the on-failure destination', async () => {
    const app = await run({ functions: handlers, resources: config({}) });
    await app.invoke('App-Bad', { n: 7 }, 'Event');
    await app.idle();
    const ids = app.lines('Bad');
    expect(ids).toHaveLength(3);
    expect(new Set(ids).size).toBe(1);
    expect(app.lines('Failed').map((line) => JSON.parse(line))).toEqual([
      {
        version: '1.0',
        timestamp: expect.any(String),
        requestContext: {
          requestId: ids[0],
          functionArn: 'arn:aws:lambda:us-east-1:000000000000:function:App-Bad:$LATEST',
          condition: 'RetriesExhausted',
          approximateInvokeCount: 3,
        },
        requestPayload: { n: 7 },
        responseContext: { statusCode: 200, executedVersion: '$LATEST', functionError: 'Unhandled' },
        responsePayload: { errorType: 'Error', errorMessage: 'no 7', trace: expect.any(Array) },
      },
    ]);
  });

  test('is retried as often as configured, and is logged where nobody takes it', async () => {
    const app = await run({
      functions: handlers,
      resources: config({ MaximumRetryAttempts: 0, DestinationConfig: {} }),
    });
    await app.invoke('App-Bad', { n: 1 }, 'Event');
    await app.idle();
    expect(app.lines('Bad')).toHaveLength(2);
    expect(app.lines('Bad')[1]).toMatch(/^event .* dropped \(RetriesExhausted, invoked 1 times\): .*no 1/);
  });

  test('is given up when it is too old', async () => {
    const app = await run(
      { functions: handlers, resources: config({ MaximumEventAgeInSeconds: 60 }) },
      { eventRetryDelaysMs: [61_000] },
    );
    await app.invoke('App-Bad', { n: 1 }, 'Event');
    await app.idle();
    const record = JSON.parse(app.lines('Failed')[0]!);
    expect(record.requestContext).toMatchObject({ condition: 'EventAgeExceeded', approximateInvokeCount: 1 });
  });

  test('a destination that is neither a function nor a queue is refused at the start', async () => {
    const resources = config({ DestinationConfig: { OnFailure: { Destination: 'arn:aws:sns:us-east-1:0:dead' } } });
    await expect(run({ functions: handlers, resources })).rejects.toThrow(
      /App\/Config .*arn:aws:sns.* is neither a Lambda function nor a queue/,
    );
  });
});

describe('a function that invokes itself through the SDK', () => {
  const loop = (type: string) => `
    import { InvokeCommand, LambdaClient } from '${sdk('@aws-sdk/client-lambda')}';
    const lambda = new LambdaClient({ maxAttempts: 1 });
    export const handler = async ({ n }, context) => {
      console.log('hop ' + n);
      if (n >= 20) return n;
      try {
        await lambda.send(new InvokeCommand({ FunctionName: context.functionName, InvocationType: '${type}', Payload: JSON.stringify({ n: n + 1 }) }));
      } catch (error) {
        console.log(error.name);
      }
      return n;
    };`;

  test('is stopped after 16 invocations in one chain', async () => {
    const app = await run({ functions: { Loop: loop('Event') } });
    await app.invoke('App-Loop', { n: 1 }, 'Event');
    await app.idle();
    expect(app.lines('Loop').filter((line) => line.startsWith('hop'))).toHaveLength(16);
    expect(app.lines('Loop').at(-1)).toMatch(/RecursiveInvocationException/);
  });

  test('hears of it where it waits for the answer, and callers that wait take no place of the limit', async () => {
    const app = await run(
      { functions: { Loop: loop('RequestResponse') }, functionProperties: { Loop: { MemorySize: 512 } } },
      { maxConcurrency: 1 },
    );
    await app.call('Loop', { n: 1 });
    expect(app.lines('Loop').filter((line) => line.startsWith('hop'))).toHaveLength(16);
    await until(() => app.lines('Loop').includes('RecursiveInvocationException'));
  });

  test('goes on where its RecursiveLoop is Allow', async () => {
    const app = await run({
      functions: { Loop: loop('Event') },
      functionProperties: { Loop: { RecursiveLoop: 'Allow' } },
    });
    await app.invoke('App-Loop', { n: 1 }, 'Event');
    await app.idle();
    expect(app.lines('Loop')).toHaveLength(20);
  });
});

import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { ConnectError } from '../connect/errors.ts';
import type { InvokeFunction } from '../management/ports.ts';

/** Functions by Lambda's Invoke API. */
export const lambdaInvoker = (client = new LambdaClient({ maxAttempts: 3 })): InvokeFunction => ({
  async event(functionName, payload) {
    await client.send(
      new InvokeCommand({ FunctionName: functionName, InvocationType: 'Event', Payload: encode(payload) }),
    );
  },
  async request(functionName, payload) {
    const answer = await client.send(new InvokeCommand({ FunctionName: functionName, Payload: encode(payload) }));
    const body = JSON.parse(Buffer.from(answer.Payload ?? []).toString() || 'null');
    if (answer.FunctionError === undefined) return body;
    throw new ConnectError(
      'UNAVAILABLE',
      `function ${functionName} failed: ${body?.errorMessage ?? answer.FunctionError}`,
      { retriable: true },
    );
  },
});

const encode = (payload: unknown): Uint8Array => Buffer.from(JSON.stringify(payload));

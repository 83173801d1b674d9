import { InvokeCommand, type InvokeCommandInput, LambdaClient } from '@aws-sdk/client-lambda';
import { ConnectError } from '../connect/errors.ts';
import type { InvokeFunction } from '../management/ports.ts';

/** Functions by Lambda's Invoke API. */
export const lambdaInvoker = (client = new LambdaClient({ maxAttempts: 3 })): InvokeFunction => {
  const invoke = async (functionName: string, payload: unknown, options: Partial<InvokeCommandInput> = {}) => {
    const input = { FunctionName: functionName, Payload: Buffer.from(JSON.stringify(payload)), ...options };
    try {
      return await client.send(new InvokeCommand(input));
    } catch (thrown) {
      throw refusal(functionName, thrown as Error);
    }
  };
  return {
    async event(functionName, payload) {
      await invoke(functionName, payload, { InvocationType: 'Event' });
    },
    async request(functionName, payload) {
      const { Payload = [], FunctionError } = await invoke(functionName, payload);
      const result = JSON.parse(Buffer.from(Payload).toString() || 'null');
      if (FunctionError === undefined) return result;
      throw new ConnectError(
        'UNAVAILABLE',
        `function ${functionName} failed: ${result?.errorMessage ?? FunctionError}`,
        {
          retriable: true,
        },
      );
    },
  };
};

/** What Lambda, or the way to it, says of a call that it did not take: tried again by the client where it may pass. */
const refusal = (functionName: string, cause: Error): ConnectError => {
  const { name, message, $metadata } = cause as Error & { readonly $metadata?: { readonly httpStatusCode?: number } };
  const reason = `function ${functionName} could not be invoked: ${name}: ${message}`;
  const status = $metadata?.httpStatusCode ?? 0;
  if (status === 403) return new ConnectError('ACCESS_DENIED', reason, { cause });
  if (status === 404) return new ConnectError('NOT_FOUND', reason, { cause });
  const isPassing = status < 400 || status >= 500 || status === 429;
  return new ConnectError('UNAVAILABLE', reason, { retriable: isPassing, cause });
};

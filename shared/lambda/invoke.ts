import { backoffMs, delay } from '../connect/backoff.ts';
import { ConnectError } from '../connect/errors.ts';
import type { ConnectorEvent, InvokeFunction } from '../management/ports.ts';
import type { Answer } from '../s3/exchange.ts';
import { isNetworkError } from '../s3/exchange.ts';
import { postSigned, type ServiceAccess } from './signed-request.ts';

export interface InvokerOptions extends ServiceAccess {
  /** @default 3 */
  readonly tries?: number;
}

/** Lambda lets no function run for longer. */
const longestRunMs = 15 * 60_000;
const acceptMs = 20_000;

/** Functions by Lambda's Invoke API. */
export const lambdaInvoker = ({ tries = 3, ...access }: InvokerOptions = {}): InvokeFunction => {
  const endpoint =
    access.endpoint ?? (process.env.AWS_ENDPOINT_URL_LAMBDA || process.env.AWS_ENDPOINT_URL || undefined);
  const post = (functionName: string, type: 'Event' | 'RequestResponse', payload: ConnectorEvent) =>
    postSigned({
      ...access,
      endpoint,
      service: 'lambda',
      path: `/2015-03-31/functions/${encodeURIComponent(functionName)}/invocations`,
      headers: { 'content-type': 'application/json', 'x-amz-invocation-type': type },
      body: JSON.stringify(payload),
      timeoutMs: type === 'Event' ? acceptMs : longestRunMs + acceptMs,
    });
  const invoke = async (...call: Parameters<typeof post>): Promise<Answer> => {
    for (let attempt = 1; ; attempt++) {
      const answer = await post(...call).catch((thrown: unknown) => {
        if (isNetworkError(thrown)) return thrown;
        throw thrown;
      });
      if ('status' in answer && answer.status < 300) return answer;
      const isPassing = !('status' in answer) || answer.status >= 500 || answer.status === 429;
      if (!isPassing || attempt === tries) throw refusal(call[0], answer);
      await delay(backoffMs(attempt, 100, 1_000));
    }
  };
  return {
    async event(functionName, payload) {
      await invoke(functionName, 'Event', payload);
    },
    async request(functionName, payload) {
      const { headers, body } = await invoke(functionName, 'RequestResponse', payload);
      const result = JSON.parse(body.toString() || 'null');
      const error = headers['x-amz-function-error'];
      if (error === undefined) return result;
      throw new ConnectError('UNAVAILABLE', `function ${functionName} failed: ${result?.errorMessage ?? error}`, {
        retriable: true,
      });
    },
  };
};

const refusal = (functionName: string, answer: Answer | Error): ConnectError => {
  const message = (reason: string) => `function ${functionName} could not be invoked: ${reason}`;
  if (answer instanceof Error)
    return new ConnectError('UNAVAILABLE', message(answer.message), { retriable: true, cause: answer });
  const { status, headers, body } = answer;
  const type = String(headers['x-amzn-errortype'] ?? status).replace(/:.*$/, '');
  const reason = message(`${type}: ${textOf(body)}`);
  if (status === 403) return new ConnectError('ACCESS_DENIED', reason);
  if (status === 404) return new ConnectError('NOT_FOUND', reason);
  return new ConnectError('UNAVAILABLE', reason, { retriable: status >= 500 || status === 429 });
};

/** A proxy on the way may answer with anything. */
const textOf = (body: Buffer): string => {
  const text = body.toString();
  try {
    const { Message, message } = JSON.parse(text) as { readonly Message?: string; readonly message?: string };
    return Message ?? message ?? text.slice(0, 200);
  } catch {
    return text.slice(0, 200);
  }
};

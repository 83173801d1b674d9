import { createHash } from 'node:crypto';
import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { Sha256 } from '@smithy/core/checksum';
import { SignatureV4 } from '@smithy/signature-v4';
import { backoffMs, delay } from '../connect/backoff.ts';
import { ConnectError } from '../connect/errors.ts';
import { addressOf, encode } from './address.ts';
import { codeOf, messageOf, type Purpose } from './errors.ts';
import { type Answer, exchange, isNetworkError } from './exchange.ts';

export interface S3Options {
  /** Asked with the bucket in the path. @default - AWS_ENDPOINT_URL_S3, else AWS_ENDPOINT_URL, else AWS itself */
  readonly endpoint?: string | undefined;
  /** @default - AWS_REGION, else AWS_DEFAULT_REGION */
  readonly region?: string | undefined;
  /** @default - the chain of the AWS SDK: environment, files, container, instance */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** Silence after which a try is given up. @default 20000 */
  readonly timeoutMs?: number;
  /** Before the second try; doubled for each further one. @default 100 */
  readonly firstDelayMs?: number;
}

export interface S3Request extends Purpose {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  readonly query?: { readonly [name: string]: string };
  readonly headers?: { readonly [name: string]: string };
  readonly body?: Uint8Array;
  readonly signal?: AbortSignal | undefined;
}

export interface S3Answer extends Answer {
  /** An earlier try failed without telling whether it took effect. */
  readonly retried: boolean;
}

export interface Sender {
  readonly region: string;
  /** The answer, whatever its status, once it is one that another try would not change. */
  send(request: S3Request): Promise<S3Answer>;
}

const credentialChain = defaultProvider();
const maxTries = 5;

export const createSender = (options: S3Options): Sender => {
  const region = options.region ?? (process.env.AWS_REGION || process.env.AWS_DEFAULT_REGION);
  if (region === undefined || region === '')
    throw new ConnectError('CONFIG_INVALID', 'no region for S3: set the environment variable AWS_REGION');
  const { timeoutMs = 20_000, firstDelayMs = 100 } = options;
  const endpoint = options.endpoint ?? (process.env.AWS_ENDPOINT_URL_S3 || process.env.AWS_ENDPOINT_URL || undefined);
  const signer = new SignatureV4({
    service: 's3',
    region,
    credentials: options.credentials ?? credentialChain,
    sha256: Sha256,
    // A key is signed as it is sent: `//` and `..` in it are no path segments.
    uriEscapePath: false,
  });

  const tryOnce = async (request: S3Request): Promise<Answer> => {
    const { method, query = {}, body, signal } = request;
    const { protocol, host, path } = addressOf(request, region, endpoint);
    const signed = await signer.sign({
      method,
      protocol,
      hostname: host,
      path,
      query: { ...query },
      // The hash of the body is signed: what changed on its way is refused.
      headers: {
        ...request.headers,
        host,
        'x-amz-content-sha256': createHash('sha256')
          .update(body ?? '')
          .digest('hex'),
      },
    });
    const search = Object.entries(query).map(([name, value]) => `${encode(name)}=${encode(value)}`);
    const answer = await exchange({
      method,
      url: new URL(`${protocol}//${host}`),
      path: search.length === 0 ? path : `${path}?${search.join('&')}`,
      headers: {
        ...signed.headers,
        ...(method === 'PUT' || method === 'POST' ? { 'content-length': String(body?.length ?? 0) } : {}),
      },
      body,
      timeoutMs,
      signal,
    });
    // S3 begins its answer to a long request with 200, and may have to end it with an error.
    const hasFailed = method === 'POST' && answer.status === 200 && answer.body.includes('<Error>');
    return hasFailed ? { ...answer, status: 400 } : answer;
  };

  const send: Sender['send'] = async (request) => {
    for (let attempt = 1; ; attempt++) {
      request.signal?.throwIfAborted();
      let reason: string;
      let cause: unknown;
      try {
        const answer = await tryOnce(request);
        if (!isPassing(answer)) return { ...answer, retried: attempt > 1 };
        reason = `${codeOf(answer)}: ${messageOf(answer)}`;
      } catch (error) {
        request.signal?.throwIfAborted();
        if (!isNetworkError(error)) throw error;
        cause = error;
        reason = error.message;
      }
      if (attempt === maxTries) {
        const what = `${request.action} on s3://${request.bucket}/${request.key ?? ''}`;
        throw new ConnectError('UNAVAILABLE', `S3 did not serve ${what} in ${attempt} tries: ${reason}`, {
          retriable: true,
          cause,
        });
      }
      await delay(backoffMs(attempt, firstDelayMs, 5_000), request.signal);
    }
  };
  return { region, send };
};

const passing =
  /^(InternalError|SlowDown|ServiceUnavailable|RequestTimeout|OperationAborted|ConditionalRequestConflict)$/;

const isPassing = (answer: Answer): boolean =>
  (answer.status >= 500 && answer.status !== 501) ||
  answer.status === 429 ||
  (answer.status >= 400 && passing.test(codeOf(answer)));

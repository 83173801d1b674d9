import { createHash } from 'node:crypto';
import * as http from 'node:http';
import * as https from 'node:https';
import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { Sha256 } from '@smithy/core/checksum';
import { SignatureV4 } from '@smithy/signature-v4';
import { backoffMs, delay } from '../connect/backoff.ts';
import { ConnectError } from '../connect/errors.ts';
import { addressOf, encode } from './address.ts';
import { codeOf, messageOf, type Purpose } from './errors.ts';

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

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
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

/** Shared by all: a warm function reuses its connections. A socket that nobody uses keeps no process alive. */
const agents = { 'http:': new http.Agent({ keepAlive: true }), 'https:': new https.Agent({ keepAlive: true }) };
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
    const { request: open } = protocol === 'http:' ? http : https;
    const url = new URL(`${protocol}//${host}`);
    const answer = await exchange(
      open({
        method,
        hostname: url.hostname,
        port: url.port,
        path: search.length === 0 ? path : `${path}?${search.join('&')}`,
        headers: {
          ...signed.headers,
          ...(method === 'PUT' || method === 'POST' ? { 'content-length': body?.length ?? 0 } : {}),
        },
        agent: agents[protocol],
        timeout: timeoutMs,
        signal,
      }),
      body,
      timeoutMs,
    );
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
        if (error instanceof ConnectError) throw error;
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

/** Errors of the wire, by their code; anything else is a mistake of ours. */
const isNetworkError = (error: unknown): error is Error =>
  error instanceof Error && typeof (error as NodeJS.ErrnoException).code === 'string';

const exchange = (request: http.ClientRequest, body: Uint8Array | undefined, timeoutMs: number): Promise<Answer> =>
  new Promise((resolve, reject) => {
    request.once('timeout', () => {
      request.destroy(Object.assign(new Error(`silent for ${timeoutMs} ms`), { code: 'ETIMEDOUT' }));
    });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      // A connection that breaks before the length that was announced is an error, not an end.
      response.once('error', reject);
      response.once('end', () =>
        resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }),
      );
    });
    request.end(body);
  });

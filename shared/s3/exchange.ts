import * as http from 'node:http';
import * as https from 'node:https';
import { ConnectError } from '../connect/errors.ts';

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Exchange {
  readonly method: string;
  /** Where the server is: protocol, host and port. */
  readonly url: URL;
  /** As it is sent, with the query. */
  readonly path: string;
  readonly headers: { readonly [name: string]: string };
  readonly body?: Uint8Array | string | undefined;
  /** Silence after which it is given up. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Shared by all: a warm function reuses its connections. A socket that nobody uses keeps no process alive. */
const agents = { 'http:': new http.Agent({ keepAlive: true }), 'https:': new https.Agent({ keepAlive: true }) };

/** One request and its whole answer. */
export const exchange = ({ method, url, path, headers, body, timeoutMs, signal }: Exchange): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const isPlain = url.protocol === 'http:';
    const request = (isPlain ? http : https).request({
      method,
      hostname: url.hostname,
      port: url.port,
      path,
      headers,
      agent: agents[isPlain ? 'http:' : 'https:'],
      timeout: timeoutMs,
      signal,
    });
    request.once('timeout', () => {
      request.destroy(Object.assign(new Error(`silent for ${timeoutMs} ms`), { code: 'ETIMEDOUT' }));
    });
    request.once('error', (error: NodeJS.ErrnoException) => {
      // Of a host with several addresses, which all refused, there is no message.
      if (error.message === '') error.message = String(error.code);
      reject(error);
    });
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

/** Errors of the wire, by their code; anything else is a mistake of ours. */
export const isNetworkError = (error: unknown): error is Error =>
  error instanceof Error &&
  !(error instanceof ConnectError) &&
  typeof (error as NodeJS.ErrnoException).code === 'string';

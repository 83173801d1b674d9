import { createHash, createHmac } from 'node:crypto';

/** A request as a server has it. */
export interface Received {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly url: string;
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined };
  readonly body: Buffer;
}

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();

/** What AWS's description of version 4 calls UriEncode. */
const uriEncode = (bytes: Buffer): string =>
  Array.from(bytes, (byte) => {
    const char = String.fromCharCode(byte);
    return /[A-Za-z0-9\-._~]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }).join('');

const bytesOf = (encoded: string): Buffer =>
  Buffer.from(
    encoded.replace(/%([\dA-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );

/**
 * The signature that a request must have, worked out from what was received as AWS describes it, without any code of the client's: the
 * path and the query are decoded and encoded again, and the hash of the body is the body's.
 */
export const expectedSignature = ({ method, url, headers, body }: Received, secret: string): string => {
  const authorization = String(headers.authorization);
  const [, date, region, service] = /Credential=[^/]+\/(\d+)\/([^/]+)\/([^/]+)\/aws4_request/.exec(authorization)!;
  const signedHeaders = /SignedHeaders=([^,\s]+)/.exec(authorization)![1]!.split(';');
  const [path, search = ''] = url.split('?');
  const query = (search === '' ? [] : search.split('&'))
    .map((pair) => pair.split('=').map((text) => uriEncode(bytesOf(text))))
    .map(([name, value = '']) => [name!, value] as const)
    .sort(([a, x], [b, y]) => (a < b || (a === b && x < y) ? -1 : 1))
    .map((pair) => pair.join('='));
  const canonical = [
    method,
    path!
      .split('/')
      .map((part) => uriEncode(bytesOf(part)))
      .join('/'),
    query.join('&'),
    ...signedHeaders.map((name) => `${name}:${String(headers[name]).trim()}`),
    '',
    signedHeaders.join(';'),
    sha256(body),
  ].join('\n');
  const scope = [date, region, service, 'aws4_request'].join('/');
  const toSign = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(canonical)].join('\n');
  const key = [date!, region!, service!, 'aws4_request'].reduce<string | Buffer>(hmac, `AWS4${secret}`);
  return hmac(key as Buffer, toSign).toString('hex');
};

export const signatureOf = ({ headers }: Received): string =>
  /Signature=([\da-f]+)/.exec(String(headers.authorization))?.[1] ?? '';

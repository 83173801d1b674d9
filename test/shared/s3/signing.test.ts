import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addressOf } from '../../../shared/s3/address.ts';
import { s3Client } from '../../../shared/s3/client.ts';
import { expectedSignature, type Received, signatureOf } from './signature.ts';

const credentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
};

const received: Received[] = [];
const server = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  const { method, url, headers } = request;
  received.push({ method: method!, url: url!, headers, body: Buffer.concat(chunks) });
  response.writeHead(200).end('<ListBucketResult></ListBucketResult>');
});
let endpoint = '';
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

test("the test's own signer gives the signatures of AWS's documentation", () => {
  const host = 'examplebucket.s3.amazonaws.com';
  const authorization = (headers: string) =>
    `AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=${headers},Signature=`;
  const empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
  const date = { 'x-amz-date': '20130524T000000Z' };
  const get = {
    host,
    range: 'bytes=0-9',
    ...date,
    'x-amz-content-sha256': empty,
    authorization: authorization('host;range;x-amz-content-sha256;x-amz-date'),
  };
  const list = {
    host,
    ...date,
    'x-amz-content-sha256': empty,
    authorization: authorization('host;x-amz-content-sha256;x-amz-date'),
  };
  const put = {
    ...date,
    host,
    date: 'Fri, 24 May 2013 00:00:00 GMT',
    'x-amz-content-sha256': '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
    'x-amz-storage-class': 'REDUCED_REDUNDANCY',
    authorization: authorization('date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class'),
  };
  const secret = credentials.secretAccessKey;
  const body = Buffer.alloc(0);
  expect(expectedSignature({ method: 'GET', url: '/test.txt', headers: get, body }, secret)).toBe(
    'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  );
  expect(expectedSignature({ method: 'GET', url: '/?max-keys=2&prefix=J', headers: list, body }, secret)).toBe(
    '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  );
  const welcome = Buffer.from('Welcome to Amazon S3.');
  expect(expectedSignature({ method: 'PUT', url: '/test%24file.text', headers: put, body: welcome }, secret)).toBe(
    '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  );
});

test('whatever the key, the prefix and the bytes: what was sent is what was signed', async () => {
  const s3 = s3Client({ endpoint, region: 'eu-central-1', credentials });
  const odd = fc.string({
    unit: fc.constantFrom(...`ab/ +%&<>"'!*();:@=,$?#[]~.-_\\^é日😀\n`),
    minLength: 1,
    maxLength: 20,
  });
  const key = fc.oneof(odd, fc.string({ unit: 'binary', minLength: 1 })).filter((text) => text.isWellFormed());
  await fc.assert(
    fc.asyncProperty(key, fc.uint8Array(), async (text, bytes) => {
      received.splice(0);
      await s3.put('bucket', text, bytes, { ifAbsent: true });
      await s3.get('bucket', text, { start: 3, length: 4, ifMatch: 'abc' });
      await s3.delete('bucket', text);
      for await (const _page of s3.list('bucket', text, { after: text }));
      await s3.uploadPart('bucket', text, 'up/+= load', 3, bytes);
      expect(received.map(({ method }) => method)).toEqual(['PUT', 'GET', 'DELETE', 'GET', 'PUT']);
      for (const request of received)
        expect(signatureOf(request)).toBe(expectedSignature(request, credentials.secretAccessKey));
      expect(decodeURIComponent(received[0]!.url)).toBe(`/bucket/${text}`);
      expect(received[0]!.body).toEqual(Buffer.from(bytes));
    }),
    { numRuns: 100 },
  );
});

test('credentials, region and endpoint are those of the environment', async () => {
  const variables = {
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: 'eu-west-3',
    AWS_ACCESS_KEY_ID: 'of-the-role',
    AWS_SECRET_ACCESS_KEY: 'secret',
    AWS_SESSION_TOKEN: 'token',
  };
  const before = { ...process.env };
  Object.assign(process.env, variables);
  try {
    received.splice(0);
    await s3Client().get('bucket', 'key');
  } finally {
    process.env = before;
  }
  const { headers } = received[0]!;
  expect(headers.authorization).toMatch(/Credential=of-the-role\/\d{8}\/eu-west-3\/s3\/aws4_request/);
  expect(headers['x-amz-security-token']).toBe('token');
  expect(signatureOf(received[0]!)).toBe(expectedSignature(received[0]!, 'secret'));
});

test('a client without a region says what to set', () => {
  const { AWS_REGION, ...rest } = process.env;
  process.env = rest;
  try {
    expect(() => s3Client()).toThrow('no region for S3: set the environment variable AWS_REGION');
  } finally {
    process.env = { ...rest, AWS_REGION };
  }
});

test.each([
  ['orders-lake', 'eu-central-1', undefined, 'https://orders-lake.s3.eu-central-1.amazonaws.com/a%20b/c'],
  ['orders.lake', 'eu-central-1', undefined, 'https://s3.eu-central-1.amazonaws.com/orders.lake/a%20b/c'],
  ['Old_Bucket', 'us-east-1', undefined, 'https://s3.us-east-1.amazonaws.com/Old_Bucket/a%20b/c'],
  ['orders', 'cn-north-1', undefined, 'https://orders.s3.cn-north-1.amazonaws.com.cn/a%20b/c'],
  ['orders', 'us-gov-west-1', undefined, 'https://orders.s3.us-gov-west-1.amazonaws.com/a%20b/c'],
  ['orders', 'us-east-1', 'http://localhost:4566', 'http://localhost:4566/orders/a%20b/c'],
  ['orders', 'us-east-1', 'https://minio.example/s3/', 'https://minio.example/s3/orders/a%20b/c'],
])('%s in %s at %s is %s', (bucket, region, endpoint, url) => {
  const { protocol, host, path } = addressOf({ bucket, key: 'a b/c' }, region, endpoint);
  expect(`${protocol}//${host}${path}`).toBe(url);
});

test.each([
  [{ bucket: 'evil.example/', key: 'a' }, 'is not the name of a bucket'],
  [{ bucket: 'a@b.c', key: 'a' }, 'is not the name of a bucket'],
  [{ bucket: 'bucket', key: '' }, 'is not a key'],
  [{ bucket: 'bucket', key: '\ud800' }, 'is not a key'],
])('%j is refused', (place, message) => {
  expect(() => addressOf(place, 'us-east-1', undefined)).toThrow(message);
});

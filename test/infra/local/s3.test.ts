import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdir, readdir, readFile, rename, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { startS3 } from '../../../infra/local/s3.ts';
import { readObject } from '../../../infra/local/s3-read.ts';
import type { S3Store } from '../../../infra/local/s3-store.ts';
import { type S3, s3Client } from '../../../shared/s3/client.ts';
import { elements, textOf } from '../../../shared/s3/xml.ts';
import { startLocalS3 } from '../../kit/s3.ts';
import { until } from '../../kit/until.ts';
import { temporaryDirectory } from './app.ts';

let local: Awaited<ReturnType<typeof startLocalS3>>;
let s3: S3;
beforeAll(async () => {
  local = await startLocalS3();
  s3 = local.s3;
});
afterAll(() => local?.stop());

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
}

/** The path goes as it is: a URL would be put in order. */
const ask = (method: string, path: string, headers: Record<string, string> = {}, body = ''): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(local.endpoint);
    const asking = request({ method, hostname, port, path, headers }, async (response) => {
      let text = '';
      for await (const chunk of response.setEncoding('utf8')) text += chunk;
      resolve({ status: response.statusCode!, headers: response.headers, text });
    });
    asking.once('error', reject);
    asking.end(body);
  });

const keysOf = (xml: string): readonly string[] => elements(xml, 'Contents').map((one) => textOf(one, 'Key')!);
const keysIn = async (bucket: string): Promise<readonly string[]> => {
  const keys: string[] = [];
  for await (const page of s3.list(bucket, '')) keys.push(...page.map(({ key }) => key));
  return keys;
};

describe('a file that is copied into the directory of a bucket', () => {
  test('is an object, and an object is a file', async () => {
    const bucket = await local.newBucket();
    const directory = join(local.root, bucket);
    await mkdir(join(directory, 'in'));
    await writeFile(join(directory, 'in', 'a b.csv'), 'id\n1\n');
    const etag = createHash('md5').update('id\n1\n').digest('hex');
    expect(await s3.get(bucket, 'in/a b.csv')).toEqual({ bytes: Buffer.from('id\n1\n'), size: 5, etag });
    await s3.put(bucket, 'out/b', Buffer.from('b'));
    expect(await readFile(join(directory, 'out', 'b'), 'utf8')).toBe('b');
    expect(await keysIn(bucket)).toEqual(['in/a b.csv', 'out/b']);
    await symlink(join(directory, 'out', 'b'), join(directory, 'link'));
    await symlink(directory, join(directory, 'loop'));
    expect(await keysIn(bucket)).toEqual(['in/a b.csv', 'link', 'out/b']);
  });

  test('has another etag when it has other bytes, even of the same length and time', async () => {
    const bucket = await local.newBucket();
    const path = join(local.root, bucket, 'a');
    const at = new Date(1_700_000_000_000);
    const etags = new Set<string>();
    for (const text of ['one', 'two', 'six']) {
      await writeFile(path, text);
      await utimes(path, at, at);
      etags.add((await s3.head(bucket, 'a'))!.etag);
    }
    expect(etags.size).toBe(3);
  });

  test('in a directory that came while the host runs is in a bucket of that name', async () => {
    await mkdir(join(local.root, 'by-hand'));
    await writeFile(join(local.root, 'by-hand', 'a'), 'a');
    expect(await keysIn('by-hand')).toEqual(['a']);
  });

  test('that changes while it is read is never given in part', async () => {
    const bucket = await local.newBucket();
    const path = join(local.root, bucket, 'growing');
    await writeFile(path, randomBytes(64 << 20));
    const { etag } = (await s3.head(bucket, 'growing'))!;
    const asking = request(`${local.endpoint}/${bucket}/growing`);
    const outcome = new Promise<string>((resolve) => {
      asking.once('response', (response) => {
        response.once('error', (error) => resolve(error.message));
        response.once('end', () => resolve('whole'));
        // Nothing is taken until the file is another one.
        response.once('readable', async () => {
          await truncate(path, 10 << 20);
          response.resume();
        });
      });
    });
    asking.end();
    expect(await outcome).toBe('aborted');
    await expect(s3.get(bucket, 'growing', { ifMatch: etag })).rejects.toMatchObject({ code: 'LOST_POSITION' });
  });
});

test('an object keeps its etag when the host starts again, however it was written', async () => {
  const root = await temporaryDirectory();
  await mkdir(join(root, 'bucket'));
  const start = async () => {
    const server = await startS3({ root });
    const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
    return { server, client: s3Client({ endpoint: server.endpoint, region: 'us-east-1', credentials }) };
  };
  const { server, client } = await start();
  await client.put('bucket', 'a', Buffer.from('a'));
  const uploadId = await client.createUpload('bucket', 'b');
  const etag = await client.uploadPart('bucket', 'b', uploadId, 1, Buffer.from('b'));
  const unfinished = await client.createUpload('bucket', 'c');
  const part = await client.uploadPart('bucket', 'c', unfinished, 1, Buffer.from('c'));
  await client.completeUpload('bucket', 'b', uploadId, [{ partNumber: 1, etag }]);
  const heads = await Promise.all(['a', 'b'].map((key) => client.head('bucket', key)));
  await server.stop();
  // What was under way when a host was killed.
  await mkdir(join(root, '.staging'), { recursive: true });
  await writeFile(join(root, '.staging', 'half'), 'half');

  const again = await start();
  onTestFinished(() => again.server.stop());
  expect(await Promise.all(['a', 'b'].map((key) => again.client.head('bucket', key)))).toEqual(heads);
  expect(await again.client.listUploads('bucket', '')).toMatchObject([{ key: 'c', uploadId: unfinished }]);
  expect(await again.client.completeUpload('bucket', 'c', unfinished, [{ partNumber: 1, etag: part }])).toBe(true);
  expect((await readdir(root)).sort()).toEqual(['.staging', '.uploads', 'bucket']);
  expect(await readdir(join(root, '.staging'))).toEqual([]);
  expect(await readdir(join(root, '.uploads'))).toEqual([]);
});

test.each([
  ['a//b', 'a part between its slashes is empty'],
  ['/a', 'a part between its slashes is empty'],
  ['a/', 'a part between its slashes is empty'],
  ['../../a', 'a part of it is "." or ".."'],
  ['a/./b', 'a part of it is "." or ".."'],
  ['a\0b', 'it holds a zero byte'],
  ['ä'.repeat(128), 'a part of it is longer than 255 bytes'],
  ['file/a', 'an object is where its directory would be'],
  ['directory', 'its file is the directory of other objects'],
])('the key %j, which no file can have, is refused with the reason', async (key, reason) => {
  const bucket = await local.newBucket();
  await s3.put(bucket, 'file', Buffer.of(1));
  await s3.put(bucket, 'directory/a', Buffer.of(1));
  for (const ifAbsent of [true, false])
    await expect(s3.put(bucket, key, Buffer.of(2), { ifAbsent })).rejects.toMatchObject({
      retriable: false,
      message: expect.stringContaining(`can't be one: ${reason}; on AWS it could`),
    });
  if (!key.includes('file') && key !== 'directory')
    await expect(s3.createUpload(bucket, key)).rejects.toThrow(`can't be one: ${reason}`);
  expect(await s3.get(bucket, key)).toBeUndefined();
  await s3.delete(bucket, key);
  expect(await keysIn(bucket)).toEqual(['directory/a', 'file']);
  expect(await readdir(join(local.root, '.staging'))).toEqual([]);
});

test('a key has 1024 bytes at most, as on AWS', async () => {
  const bucket = await local.newBucket();
  const key = 'a/'.repeat(511);
  await s3.put(bucket, `${key}bc`, Buffer.of(1));
  await expect(s3.put(bucket, `${key}bcd`, Buffer.of(1))).rejects.toMatchObject({ code: 'TOO_LARGE' });
});

test.each([
  ['bytes=0-0', 206, 'bytes 0-0/10', '0'],
  ['bytes=3-', 206, 'bytes 3-9/10', '3456789'],
  ['bytes=3-99', 206, 'bytes 3-9/10', '3456789'],
  ['bytes=-3', 206, 'bytes 7-9/10', '789'],
  ['bytes=-99', 206, 'bytes 0-9/10', '0123456789'],
  ['bytes=5-4', 200, undefined, '0123456789'],
  ['bytes=0-1,3-4', 200, undefined, '0123456789'],
  ['lines=1-2', 200, undefined, '0123456789'],
])('Range: %s', async (range, status, contentRange, text) => {
  const bucket = await local.newBucket();
  await s3.put(bucket, 'a', Buffer.from('0123456789'));
  const answer = await ask('GET', `/${bucket}/a`, { range });
  expect([answer.status, answer.headers['content-range'], answer.text]).toEqual([status, contentRange, text]);
  const head = await ask('HEAD', `/${bucket}/a`, { range });
  expect([head.status, head.headers['content-length'], head.text]).toEqual([status, String(text.length), '']);
});

test('a list has common prefixes, pages and the two ways to write a key', async () => {
  const bucket = await local.newBucket();
  const keys = ['a', 'b/1', 'b/2', 'b c/3', 'd/e/4', 'd/f', 'z&<z'];
  for (const key of keys) await s3.put(bucket, key, Buffer.of(1));
  const list = (query: string) => ask('GET', `/${bucket}?list-type=2&${query}`).then(({ text }) => text);
  const prefixesOf = (xml: string) => elements(xml, 'CommonPrefixes').map((one) => textOf(one, 'Prefix'));

  const whole = await list('delimiter=/');
  expect([keysOf(whole), prefixesOf(whole)]).toEqual([
    ['a', 'z&<z'],
    ['b c/', 'b/', 'd/'],
  ]);
  expect(textOf(whole, 'KeyCount')).toBe('5');
  const under = await list('delimiter=/&prefix=d/');
  expect([keysOf(under), prefixesOf(under)]).toEqual([['d/f'], ['d/e/']]);
  expect(keysOf(await list('encoding-type=url&prefix=b%20c'))).toEqual(['b+c/3']);

  const seen: (string | undefined)[] = [];
  for (let token: string | undefined = ''; token !== undefined; ) {
    const page: string = await list(`delimiter=/&max-keys=2${token === '' ? '' : `&continuation-token=${token}`}`);
    seen.push(...keysOf(page), ...prefixesOf(page));
    token = textOf(page, 'NextContinuationToken');
    expect(textOf(page, 'IsTruncated')).toBe(String(token !== undefined));
  }
  expect(seen).toEqual(['a', 'b c/', 'b/', 'd/', 'z&<z']);
  const none = await list('max-keys=0');
  expect([keysOf(none), textOf(none, 'IsTruncated')]).toEqual([[], 'false']);
});

describe('the API answers as S3 does', () => {
  const md5 = createHash('md5').update('other').digest('base64');
  test.each<[string, string, string, Record<string, string>, number, string]>([
    ['an object that is not there', 'GET', '/none', {}, 404, 'NoSuchKey'],
    ['a directory', 'GET', '/in', {}, 404, 'NoSuchKey'],
    ['a file as a directory', 'GET', '/in/a/b', {}, 404, 'NoSuchKey'],
    ['another etag', 'GET', '/in/a', { 'if-match': '"no"' }, 412, 'PreconditionFailed'],
    ['a range after the end', 'GET', '/in/a', { range: 'bytes=5-' }, 416, 'InvalidRange'],
    ['a key that is there', 'PUT', '/in/a', { 'if-none-match': '*' }, 412, 'PreconditionFailed'],
    [
      'bytes that changed on their way',
      'PUT',
      '/b',
      { 'x-amz-content-sha256': 'f'.repeat(64) },
      400,
      'XAmzContentSHA256Mismatch',
    ],
    ['bytes of another digest', 'PUT', '/b', { 'content-md5': md5 }, 400, 'BadDigest'],
    ['an upload that is not there', 'POST', '/in/a?uploadId=none', {}, 404, 'NoSuchUpload'],
    ['an upload elsewhere', 'DELETE', '/in/a?uploadId=..%2F..', {}, 404, 'NoSuchUpload'],
    ['the part 0', 'PUT', '/b?partNumber=0&uploadId=none', {}, 400, 'InvalidArgument'],
    ['a copy', 'PUT', '/b', { 'x-amz-copy-source': '/x/y' }, 501, 'NotImplemented'],
    ['metadata', 'PUT', '/b', { 'x-amz-meta-a': 'b' }, 501, 'NotImplemented'],
    [
      'signed chunks',
      'PUT',
      '/b',
      { 'x-amz-content-sha256': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER' },
      501,
      'NotImplemented',
    ],
    ['If-Match on a write', 'PUT', '/b', { 'if-match': '"a"' }, 501, 'NotImplemented'],
    ['the first list', 'GET', '?prefix=a', {}, 501, 'NotImplemented'],
    ['tags', 'GET', '/in/a?tagging', {}, 501, 'NotImplemented'],
    ['no URI', 'GET', '/%zz', {}, 400, 'InvalidURI'],
  ])('%s', async (_name, method, path, headers, status, code) => {
    const bucket = await local.newBucket();
    await s3.put(bucket, 'in/a', Buffer.from('a'));
    const answer = await ask(method, `/${bucket}${path}`, headers, method === 'PUT' ? 'body' : '');
    expect([answer.status, textOf(answer.text, 'Code')]).toEqual([status, code]);
    expect(await keysIn(bucket)).toEqual(['in/a']);
    expect(Buffer.from((await s3.get(bucket, 'in/a'))!.bytes).toString()).toBe('a');
    expect(await readdir(join(local.root, '.staging'))).toEqual([]);
  });

  test('a bucket is there or not, and its name leads nowhere else', async () => {
    const bucket = await local.newBucket();
    expect((await ask('HEAD', `/${bucket}`)).status).toBe(200);
    for (const path of ['/none', '/.uploads', '/..%2F..', '/%2e%2e'])
      expect((await ask('HEAD', path)).status, path).toBe(404);
  });

  test('parts must be there, in order, and large enough', async () => {
    const bucket = await local.newBucket();
    const uploadId = await s3.createUpload(bucket, 'a');
    const etags = await Promise.all(
      [1, 2].map((n) => s3.uploadPart(bucket, 'a', uploadId, n, Buffer.from(`part ${n}`))),
    );
    const [first, second] = etags.map((etag, i) => ({ partNumber: i + 1, etag }));
    const complete = (...parts: readonly { partNumber: number; etag: string }[]) =>
      s3.completeUpload(bucket, 'a', uploadId, parts);
    await expect(complete(first!, second!)).rejects.toThrow('EntityTooSmall');
    await expect(complete(second!, first!)).rejects.toThrow('InvalidPartOrder');
    await expect(complete()).rejects.toThrow('MalformedXML');
    await expect(complete({ ...first!, etag: second!.etag })).rejects.toThrow('InvalidPart');
    const { text } = await ask('GET', `/${bucket}/a?uploadId=${uploadId}`);
    expect(elements(text, 'Part').map((part) => [textOf(part, 'PartNumber'), textOf(part, 'Size')])).toEqual([
      ['1', '6'],
      ['2', '6'],
    ]);
    expect(await complete(second!)).toBe(true);
  });

  test('a completion may demand that the key is free', async () => {
    const bucket = await local.newBucket();
    const uploadId = await s3.createUpload(bucket, 'a');
    const etag = await s3.uploadPart(bucket, 'a', uploadId, 1, Buffer.from('new'));
    await s3.put(bucket, 'a', Buffer.from('old'));
    const body = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${etag}</ETag></Part></CompleteMultipartUpload>`;
    const answer = await ask('POST', `/${bucket}/a?uploadId=${uploadId}`, { 'if-none-match': '*' }, body);
    expect([answer.status, textOf(answer.text, 'Code')]).toEqual([412, 'PreconditionFailed']);
    expect(Buffer.from((await s3.get(bucket, 'a'))!.bytes).toString()).toBe('old');
  });
});

describe('who asks', () => {
  const withAccess = async (allowed: readonly string[]) => {
    const asked: unknown[] = [];
    const root = await temporaryDirectory();
    await mkdir(join(root, 'bucket'));
    await writeFile(join(root, 'bucket', 'a'), 'a');
    const server = await startS3({
      root,
      authorize: (accessKeyId, action, resource, context) => {
        asked.push([action, resource, ...(context ? [context] : [])]);
        if (accessKeyId !== 'known') return { reason: 'unknownKey', message: 'who are you?' };
        return allowed.includes(action) ? undefined : { reason: 'denied', message: `no ${action}` };
      },
    });
    onTestFinished(() => server.stop());
    const client = (accessKeyId: string) =>
      s3Client({
        endpoint: server.endpoint,
        region: 'us-east-1',
        credentials: { accessKeyId, secretAccessKey: 'b' },
      });
    return { client: client('known'), stranger: client('stranger'), asked };
  };

  test('is asked about with the action, the object and the prefix', async () => {
    const all = [
      'GetObject',
      'PutObject',
      'DeleteObject',
      'ListBucket',
      'AbortMultipartUpload',
      'ListBucketMultipartUploads',
    ];
    const { client, asked } = await withAccess(all.map((name) => `s3:${name}`));
    await client.get('bucket', 'a');
    await client.head('bucket', 'a');
    await client.put('bucket', 'in/b c', Buffer.of(1));
    for await (const _page of client.list('bucket', 'in/'));
    await client.listUploads('bucket', 'in/');
    const uploadId = await client.createUpload('bucket', 'd');
    const etag = await client.uploadPart('bucket', 'd', uploadId, 1, Buffer.of(1));
    await client.completeUpload('bucket', 'd', uploadId, [{ partNumber: 1, etag }]);
    await client.abortUpload('bucket', 'd', uploadId);
    await client.delete('bucket', 'd');
    const d = 'arn:aws:s3:::bucket/d';
    expect(asked).toEqual([
      ['s3:GetObject', 'arn:aws:s3:::bucket/a'],
      ['s3:GetObject', 'arn:aws:s3:::bucket/a'],
      ['s3:PutObject', 'arn:aws:s3:::bucket/in/b c'],
      ['s3:ListBucket', 'arn:aws:s3:::bucket', { 's3:prefix': ['in/'] }],
      ['s3:ListBucketMultipartUploads', 'arn:aws:s3:::bucket'],
      ['s3:PutObject', d],
      ['s3:PutObject', d],
      ['s3:PutObject', d],
      ['s3:AbortMultipartUpload', d],
      ['s3:DeleteObject', d],
    ]);
  });

  test('and may not, is told what is missing; nothing is done', async () => {
    const { client, stranger } = await withAccess(['s3:GetObject']);
    await expect(client.put('bucket', 'a', Buffer.of(1))).rejects.toMatchObject({
      code: 'ACCESS_DENIED',
      message: expect.stringContaining('s3:PutObject on arn:aws:s3:::bucket/a'),
    });
    await expect(client.delete('bucket', 'a')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    expect(Buffer.from((await client.get('bucket', 'a'))!.bytes).toString()).toBe('a');
    await expect(stranger.get('bucket', 'a')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('InvalidAccessKeyId'),
    });
  });

  test('without the right to list can not tell a missing object from a forbidden one', async () => {
    const { client } = await withAccess(['s3:GetObject']);
    await expect(client.get('bucket', 'none')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    await expect(client.head('bucket', 'none')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    const listing = await withAccess(['s3:GetObject', 's3:ListBucket']);
    expect(await listing.client.get('bucket', 'none')).toBeUndefined();
  });
});

test('a client that goes away while it sends leaves nothing', async () => {
  const bucket = await local.newBucket();
  const { hostname, port } = new URL(local.endpoint);
  const headers = { 'content-length': '1000000' };
  const sending = request({ method: 'PUT', hostname, port, path: `/${bucket}/a`, headers });
  sending.once('error', () => {});
  sending.write(randomBytes(100_000));
  await until(async () => (await readdir(join(local.root, '.staging'))).length > 0);
  sending.destroy();
  await until(async () => (await readdir(join(local.root, '.staging'))).length === 0);
  expect(await keysIn(bucket)).toEqual([]);
});

test('a client that goes away while its object is read is not waited for', { timeout: 20_000 }, async () => {
  let gone = false;
  const file = {
    read: async (_piece: Buffer, _at: number, bytesRead: number) => {
      sending.destroy();
      await until(() => gone);
      return { bytesRead };
    },
    close: async () => {},
  };
  const object = { file, size: 100, etag: 'x', modifiedMs: 0, isUnchanged: async () => true };
  const store = { open: async () => object } as unknown as S3Store;
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
  const server = createServer((asked, response) => {
    response.once('close', () => {
      gone = true;
    });
    readObject(store, 'bucket', 'a', asked, response).then(resolve, reject);
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const sending = request({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
  sending.once('error', () => {});
  sending.end();
  await ended;
});

test('the directory of a bucket may be moved away and come back', async () => {
  const bucket = await local.newBucket();
  await s3.put(bucket, 'a', Buffer.of(1));
  const directory = join(local.root, bucket);
  await rename(directory, `${directory}-away`);
  await expect(s3.get(bucket, 'a')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await cp(`${directory}-away`, directory, { recursive: true });
  expect((await s3.get(bucket, 'a'))!.size).toBe(1);
});

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type S3, s3Client } from '../../../shared/s3/client.ts';

type Step = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void;

/** A server that takes one step per request; the last one again and again. */
const scripted = async (
  ...steps: readonly Step[]
): Promise<S3 & { readonly requests: string[]; readonly endpoint: string }> => {
  const requests: string[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    requests.push(`${request.method} ${request.url}`);
    steps[Math.min(requests.length, steps.length) - 1]!(request, response, Buffer.concat(chunks));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  return {
    ...s3Client({ endpoint, region: 'eu-central-1', credentials, timeoutMs: 200, firstDelayMs: 1 }),
    requests,
    endpoint,
  };
};

const ok: Step = (_request, response) => void response.writeHead(200, { etag: '"e"' }).end('bytes');
const fail =
  (status: number, code = '', extra = '', headers: Record<string, string> = {}): Step =>
  (_request, response) => {
    const xml = code === '' ? '' : `<Error><Code>${code}</Code><Message>it &lt;says&gt; so</Message>${extra}</Error>`;
    response.writeHead(status, headers).end(xml);
  };
const hangUp: Step = (request) => void request.socket.destroy();
const silence: Step = () => {};
/** Half of what was announced. */
const breakOff: Step = (_request, response) => {
  response.writeHead(200, { 'content-length': '10', etag: '"e"' });
  response.write('bytes', () => response.destroy());
};

test.each<[string, Step]>([
  ['503 SlowDown', fail(503, 'SlowDown')],
  ['500 InternalError', fail(500, 'InternalError')],
  ['429', fail(429)],
  ['400 RequestTimeout', fail(400, 'RequestTimeout')],
  ['409 ConditionalRequestConflict', fail(409, 'ConditionalRequestConflict')],
  ['a connection that is closed', hangUp],
  ['a connection that breaks off in the body', breakOff],
  ['silence', silence],
])('%s passes: the call is tried again', async (_name, step) => {
  const s3 = await scripted(step, step, ok);
  expect(await s3.get('bucket', 'key')).toMatchObject({ bytes: Buffer.from('bytes'), size: 5, etag: 'e' });
  expect(s3.requests).toEqual(Array(3).fill('GET /bucket/key'));
});

test.each<[string, Step, string]>([
  ['busy', fail(503, 'SlowDown'), 'SlowDown: it <says> so'],
  ['silent', silence, 'silent for 200 ms'],
  ['broken', hangUp, 'socket hang up'],
])('an S3 that stays %s is UNAVAILABLE after five tries', async (_name, step, reason) => {
  const s3 = await scripted(step);
  await expect(s3.put('bucket', 'a/b', Buffer.of(1))).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    retriable: true,
    message: expect.stringMatching(/^S3 did not serve s3:PutObject on s3:\/\/bucket\/a\/b in 5 tries: /),
  });
  expect(s3.requests).toHaveLength(5);
  await expect(s3.get('bucket', 'a')).rejects.toThrow(reason);
});

test('a server that is not there is UNAVAILABLE', async () => {
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const s3 = s3Client({ endpoint: 'http://127.0.0.1:9', region: 'eu-central-1', credentials, firstDelayMs: 1 });
  await expect(s3.head('bucket', 'key')).rejects.toMatchObject({ code: 'UNAVAILABLE', retriable: true });
});

test('a signal ends the wait for an answer and the wait for the next try', async () => {
  for (const step of [silence, fail(503)]) {
    const s3 = await scripted(step);
    const abort = new AbortController();
    const call = s3.get('bucket', 'key', { signal: abort.signal });
    abort.abort(new Error('the run ends'));
    await expect(call).rejects.toThrow('the run ends');
  }
});

/** A bucket of one key, whose answers to the first put are lost. */
const forgetful = (there: Buffer | undefined): Step => {
  let stored = there;
  let lost = false;
  return (request, response, body) => {
    if (request.method === 'GET') return void response.writeHead(200, { etag: '"e"' }).end(stored);
    const exists = stored !== undefined;
    stored ??= body;
    if (!lost) {
      lost = true;
      return void request.socket.destroy();
    }
    response.writeHead(exists ? 412 : 200).end(exists ? '<Error><Code>PreconditionFailed</Code></Error>' : '');
  };
};

test('a put whose answer was lost succeeded if its bytes are there', async () => {
  const s3 = await scripted(forgetful(undefined));
  expect(await s3.put('bucket', 'key', Buffer.from('mine'), { ifAbsent: true })).toBe(true);
  expect(s3.requests).toEqual(['PUT /bucket/key', 'PUT /bucket/key', 'GET /bucket/key']);
});

test('a put whose answer was lost failed if the bytes of another are there', async () => {
  const s3 = await scripted(forgetful(Buffer.from('of another')));
  expect(await s3.put('bucket', 'key', Buffer.from('mine'), { ifAbsent: true })).toBe(false);
});

test('a put that finds another at its first try did not write, whatever the bytes', async () => {
  const s3 = await scripted(fail(412, 'PreconditionFailed'));
  expect(await s3.put('bucket', 'key', Buffer.from('mine'), { ifAbsent: true })).toBe(false);
  expect(s3.requests).toHaveLength(1);
});

test('a completion that S3 begins with 200 and ends with an error is tried again', async () => {
  const late: Step = (_request, response) =>
    void response.writeHead(200).end('<?xml version="1.0"?>\n<Error><Code>InternalError</Code></Error>');
  const s3 = await scripted(late, (_request, response) => void response.writeHead(200).end('<ok/>'));
  expect(await s3.completeUpload('bucket', 'key', 'id', [{ partNumber: 1, etag: 'e' }])).toBe(true);
  expect(s3.requests).toHaveLength(2);
});

const refusals: readonly (readonly [string, Step, (s3: S3) => Promise<unknown>, object])[] = [
  [
    'reading without the right',
    fail(403, 'AccessDenied'),
    (s3) => s3.get('bucket', 'in/a.csv'),
    {
      code: 'ACCESS_DENIED',
      message:
        'S3 denied s3:GetObject on arn:aws:s3:::bucket/in/a.csv (AccessDenied): allow it in the role of the function. Without s3:ListBucket on arn:aws:s3:::bucket, S3 answers the same for an object that does not exist.',
    },
  ],
  [
    'asking about an object without the right',
    fail(403),
    (s3) => s3.head('bucket', 'a'),
    { code: 'ACCESS_DENIED', message: expect.stringMatching(/s3:GetObject on arn:aws:s3:::bucket\/a \(status 403\)/) },
  ],
  [
    'listing without the right',
    fail(403, 'AccessDenied'),
    async (s3) => {
      for await (const _page of s3.list('bucket', ''));
    },
    {
      code: 'ACCESS_DENIED',
      message: 'S3 denied s3:ListBucket on arn:aws:s3:::bucket (AccessDenied): allow it in the role of the function.',
    },
  ],
  [
    'deleting without the right',
    fail(403, 'AccessDenied'),
    (s3) => s3.delete('bucket', 'a'),
    { code: 'ACCESS_DENIED', message: expect.stringContaining('s3:DeleteObject on arn:aws:s3:::bucket/a') },
  ],
  [
    'a bucket that does not exist',
    fail(404, 'NoSuchBucket'),
    (s3) => s3.get('gone', 'a'),
    { code: 'NOT_FOUND', message: 'the bucket gone does not exist: create it or correct its name' },
  ],
  [
    'a bucket elsewhere',
    fail(301, 'PermanentRedirect', '', { 'x-amz-bucket-region': 'us-west-2' }),
    (s3) => s3.get('bucket', 'a'),
    {
      code: 'CONFIG_INVALID',
      message:
        'the bucket bucket is in us-west-2, but this runs in eu-central-1: use a bucket in eu-central-1, or run in us-west-2',
    },
  ],
  [
    'a bucket elsewhere, asked without a body',
    fail(400, '', '', { 'x-amz-bucket-region': 'us-west-2' }),
    (s3) => s3.head('bucket', 'a'),
    { code: 'CONFIG_INVALID', message: expect.stringContaining('is in us-west-2, but this runs in eu-central-1') },
  ],
  [
    'a signature for another region',
    fail(400, 'AuthorizationHeaderMalformed', '<Region>ap-south-1</Region>'),
    (s3) => s3.put('bucket', 'a', Buffer.of(1)),
    { code: 'CONFIG_INVALID', message: expect.stringContaining('is in ap-south-1, but this runs in eu-central-1') },
  ],
  [
    'a redirect that does not say where to',
    fail(301, 'PermanentRedirect'),
    (s3) => s3.get('bucket', 'a'),
    { code: 'CONFIG_INVALID', message: expect.stringContaining('the bucket bucket is not in eu-central-1') },
  ],
  [
    'credentials that ran out',
    fail(400, 'ExpiredToken'),
    (s3) => s3.get('bucket', 'a'),
    { code: 'CONFIG_INVALID', message: expect.stringContaining('S3 did not accept the credentials for s3:GetObject') },
  ],
  [
    'a key that is too long',
    fail(400, 'KeyTooLongError'),
    (s3) => s3.put('bucket', 'a', Buffer.of(1)),
    { code: 'TOO_LARGE' },
  ],
  [
    'anything else',
    fail(400, 'InvalidArgument'),
    (s3) => s3.put('bucket', 'a', Buffer.of(1)),
    {
      code: 'UNEXPECTED',
      message: 's3:PutObject on arn:aws:s3:::bucket/a: S3 answered 400: InvalidArgument: it <says> so',
    },
  ],
];

test.each(refusals)('%s is not tried again, and the error says what to change', async (_name, step, call, error) => {
  const s3 = await scripted(step);
  await expect(call(s3)).rejects.toMatchObject({ retriable: false, ...error });
  expect(s3.requests).toHaveLength(1);
});

test('uploads are listed over pages', async () => {
  const page = (upload: string, rest: string) =>
    `<Upload><Key>a%2Bb+c</Key><UploadId>${upload}</UploadId><Initiated>2026-11-21T00:00:00.000Z</Initiated></Upload>${rest}`;
  const s3 = await scripted(
    (_request, response) =>
      void response.end(
        `<R>${page('1', '<IsTruncated>true</IsTruncated><NextKeyMarker>a%2Bb+c</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>')}</R>`,
      ),
    (_request, response) => void response.end(`<R>${page('2', '<IsTruncated>false</IsTruncated>')}</R>`),
  );
  expect(await s3.listUploads('bucket', 'a')).toMatchObject([
    { key: 'a+b c', uploadId: '1', startedMs: Date.UTC(2026, 10, 21) },
    { key: 'a+b c', uploadId: '2' },
  ]);
  expect(s3.requests[1]).toContain('key-marker=a%2Bb%20c&upload-id-marker=1');
});

test('a range from a server that knows no ranges is cut here', async () => {
  const s3 = await scripted(ok);
  expect(await s3.get('bucket', 'key', { start: 1, length: 2 })).toMatchObject({ bytes: Buffer.from('yt'), size: 5 });
});

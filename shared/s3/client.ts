import { ConnectError } from '../connect/errors.ts';
import { answerError, codeOf, type Purpose } from './errors.ts';
import { createSender, type S3Answer, type S3Options, type S3Request } from './send.ts';
import { elements, escapeXml, textOf } from './xml.ts';

export interface S3Object {
  readonly key: string;
  readonly size: number;
  /** Without its quotes. */
  readonly etag: string;
  readonly modifiedMs: number;
}

export interface CallOptions {
  /** Its reason is thrown as soon as it aborts. */
  readonly signal?: AbortSignal | undefined;
}

export interface GetOptions extends CallOptions {
  readonly start?: number;
  readonly length?: number;
  /** The etag that the object must still have. */
  readonly ifMatch?: string | undefined;
}

export interface S3Upload {
  readonly key: string;
  readonly uploadId: string;
  readonly startedMs: number;
}

/**
 * What a connector and the log need of S3. Every call is tried again while S3 is busy or the network fails; it throws ConnectErrors:
 * UNAVAILABLE (retriable), ACCESS_DENIED with the missing action, NOT_FOUND for a bucket that does not exist, CONFIG_INVALID for the
 * wrong region. Without s3:ListBucket a missing object is ACCESS_DENIED too: S3 does not tell them apart.
 */
export interface S3 {
  /**
   * `length` bytes from `start`, fewer where the object ends, or all. Undefined: no such object. Throws LOST_POSITION when the object
   * is not the one of `ifMatch` any more.
   */
  get(
    bucket: string,
    key: string,
    options?: GetOptions,
  ): Promise<{ readonly bytes: Uint8Array; readonly size: number; readonly etag: string } | undefined>;
  head(bucket: string, key: string, options?: CallOptions): Promise<S3Object | undefined>;
  /** Durable when it resolves. False: `ifAbsent`, and another object is there. */
  put(bucket: string, key: string, bytes: Uint8Array, options?: CallOptions & { ifAbsent?: boolean }): Promise<boolean>;
  /** It may be gone already. */
  delete(bucket: string, key: string, options?: CallOptions): Promise<void>;
  /** In the order of the keys' UTF-8 bytes, page by page; `after` is left out itself. */
  list(bucket: string, prefix: string, options?: CallOptions & { after?: string }): AsyncIterable<readonly S3Object[]>;
  createUpload(bucket: string, key: string, options?: CallOptions): Promise<string>;
  /** The part's etag. Parts count from 1; all but the last have 5 MB at least. */
  uploadPart(
    bucket: string,
    key: string,
    uploadId: string,
    partNumber: number,
    bytes: Uint8Array,
    options?: CallOptions,
  ): Promise<string>;
  /** False: there is no such upload, because it was aborted, or completed already. */
  completeUpload(
    bucket: string,
    key: string,
    uploadId: string,
    parts: readonly { readonly partNumber: number; readonly etag: string }[],
    options?: CallOptions,
  ): Promise<boolean>;
  /** It may be gone already. */
  abortUpload(bucket: string, key: string, uploadId: string, options?: CallOptions): Promise<void>;
  /** Begun and neither completed nor aborted. */
  listUploads(bucket: string, prefix: string, options?: CallOptions): Promise<readonly S3Upload[]>;
}

/** Of the environment that a function has; connections are shared by all clients, so there is nothing to close. */
export const s3Client = (options: S3Options = {}): S3 => {
  const { region, send } = createSender(options);

  /** The answer, if it is a success or one of `expected`; else throws what S3 says. */
  const call = async (request: S3Request, expected: readonly number[] = []): Promise<S3Answer> => {
    const answer = await send(request);
    if (answer.status < 300 || (expected.includes(answer.status) && codeOf(answer) !== 'NoSuchBucket')) return answer;
    throw answerError(answer, request, region);
  };

  const head = async (bucket: string, key: string, { signal, ifMatch }: GetOptions = {}) => {
    const headers = matching(ifMatch);
    const answer = await call({ method: 'HEAD', action: 's3:GetObject', bucket, key, headers, signal }, [404, 412]);
    if (answer.status === 404) return undefined;
    if (answer.status === 412) throw changed(bucket, key);
    return {
      key,
      size: Number(answer.headers['content-length']),
      etag: etagOf(answer),
      modifiedMs: Date.parse(answer.headers['last-modified'] ?? ''),
    };
  };

  const get: S3['get'] = async (bucket, key, options = {}) => {
    const { start = 0, length, ifMatch, signal } = options;
    const whole = start === 0 && length === undefined;
    // A range of no bytes can't be asked for.
    if (length === 0) return emptyOf(await head(bucket, key, options));
    const headers = {
      ...(whole ? {} : { range: `bytes=${start}-${length === undefined ? '' : start + length - 1}` }),
      ...matching(ifMatch),
    };
    const answer = await call({ method: 'GET', action: 's3:GetObject', bucket, key, headers, signal }, [404, 412, 416]);
    if (answer.status === 404) return undefined;
    if (answer.status === 412) throw changed(bucket, key);
    // The object ends before `start`.
    if (answer.status === 416) return emptyOf(await head(bucket, key, options));
    const [, size = answer.body.length] = /\/(\d+)$/.exec(answer.headers['content-range'] ?? '') ?? [];
    // An endpoint that knows no ranges sends all.
    const bytes =
      answer.status === 206 ? answer.body : answer.body.subarray(start, start + (length ?? answer.body.length));
    return { bytes, size: Number(size), etag: etagOf(answer) };
  };

  const put: S3['put'] = async (bucket, key, bytes, { ifAbsent = false, signal } = {}) => {
    const headers: Record<string, string> = ifAbsent ? { 'if-none-match': '*' } : {};
    const request = { method: 'PUT', action: 's3:PutObject', bucket, key, headers, body: bytes, signal } as const;
    const answer = await call(request, ifAbsent ? [412] : []);
    if (answer.status !== 412) return true;
    if (!answer.retried) return false;
    // The answer to an earlier try was lost, and what is there may be what it wrote.
    const there = await get(bucket, key, { signal });
    return there !== undefined && Buffer.from(bytes).equals(there.bytes);
  };

  async function* list(
    bucket: string,
    prefix: string,
    { signal, after }: CallOptions & { after?: string } = {},
  ): AsyncGenerator<readonly S3Object[]> {
    let page: Record<string, string> = after === undefined ? {} : { 'start-after': after };
    for (;;) {
      const query = { 'list-type': '2', 'encoding-type': 'url', prefix, ...page };
      const { body } = await call({ method: 'GET', action: 's3:ListBucket', bucket, query, signal });
      const xml = body.toString();
      yield elements(xml, 'Contents').map((content) => ({
        key: keyIn(content),
        size: Number(textOf(content, 'Size')),
        etag: unquoted(textOf(content, 'ETag') ?? ''),
        modifiedMs: Date.parse(textOf(content, 'LastModified') ?? ''),
      }));
      const token = textOf(xml, 'NextContinuationToken');
      if (token === undefined || textOf(xml, 'IsTruncated') !== 'true') return;
      page = { 'continuation-token': token };
    }
  }

  return {
    get,
    head: (bucket, key, options) => head(bucket, key, options),
    put,
    async delete(bucket, key, { signal } = {}) {
      await call({ method: 'DELETE', action: 's3:DeleteObject', bucket, key, signal }, [404]);
    },
    list,
    async createUpload(bucket, key, { signal } = {}) {
      const query = { uploads: '' };
      const { body } = await call({ method: 'POST', action: 's3:PutObject', bucket, key, query, signal });
      return textOf(body.toString(), 'UploadId')!;
    },
    async uploadPart(bucket, key, uploadId, partNumber, bytes, { signal } = {}) {
      const query = { partNumber: String(partNumber), uploadId };
      return etagOf(await call({ method: 'PUT', action: 's3:PutObject', bucket, key, query, body: bytes, signal }));
    },
    async completeUpload(bucket, key, uploadId, parts, { signal } = {}) {
      const listed = parts.map(
        ({ partNumber, etag }) =>
          `<Part><PartNumber>${partNumber}</PartNumber><ETag>${escapeXml(`"${etag}"`)}</ETag></Part>`,
      );
      const body = Buffer.from(`<CompleteMultipartUpload>${listed.join('')}</CompleteMultipartUpload>`);
      const query = { uploadId };
      const request = { method: 'POST', action: 's3:PutObject', bucket, key, query, body, signal } as const;
      return (await call(request, [404])).status !== 404;
    },
    async abortUpload(bucket, key, uploadId, { signal } = {}) {
      const query = { uploadId };
      await call({ method: 'DELETE', action: 's3:AbortMultipartUpload', bucket, key, query, signal }, [404]);
    },
    async listUploads(bucket, prefix, { signal } = {}) {
      const uploads: S3Upload[] = [];
      let page: Record<string, string> = {};
      for (;;) {
        const query = { uploads: '', 'encoding-type': 'url', prefix, ...page };
        const purpose: Purpose = { action: 's3:ListBucketMultipartUploads', bucket };
        const xml = (await call({ method: 'GET', ...purpose, query, signal })).body.toString();
        for (const upload of elements(xml, 'Upload'))
          uploads.push({
            key: keyIn(upload),
            uploadId: textOf(upload, 'UploadId')!,
            startedMs: Date.parse(textOf(upload, 'Initiated') ?? ''),
          });
        if (textOf(xml, 'IsTruncated') !== 'true') return uploads;
        page = {
          'key-marker': fromUrl(textOf(xml, 'NextKeyMarker') ?? ''),
          'upload-id-marker': textOf(xml, 'NextUploadIdMarker') ?? '',
        };
      }
    },
  };
};

/** With `encoding-type=url` a space is a plus, because XML can't hold every character of a key. */
const fromUrl = (text: string): string => decodeURIComponent(text.replaceAll('+', ' '));
const keyIn = (xml: string): string => fromUrl(textOf(xml, 'Key') ?? '');

const matching = (etag: string | undefined): Record<string, string> =>
  etag === undefined ? {} : { 'if-match': `"${etag}"` };

const unquoted = (etag: string): string => etag.replace(/^"|"$/g, '');
const etagOf = ({ headers }: S3Answer): string => unquoted(headers.etag ?? '');

const emptyOf = (object: S3Object | undefined) =>
  object === undefined ? undefined : { bytes: new Uint8Array(0), size: object.size, etag: object.etag };

const changed = (bucket: string, key: string): ConnectError =>
  new ConnectError('LOST_POSITION', `the object s3://${bucket}/${key} changed while it was read: read it again`);

import type { IncomingMessage, ServerResponse } from 'node:http';
import { elements, textOf } from '../../shared/s3/xml.ts';
import { notImplemented, S3Error } from './s3-error.ts';
import { readObject } from './s3-read.ts';
import type { Creation, S3Store, Staged, StoredObject } from './s3-store.ts';
import type { S3Uploads } from './s3-uploads.ts';
import { listingXml, partsXml, toXml, uploadsXml } from './s3-xml.ts';

/** What a request asks for. */
export interface Operation {
  bucket: string;
  /** Empty where it is about the bucket. */
  key: string;
  /** Of IAM. */
  action: string;
  context?: Record<string, readonly string[]>;
  run(request: IncomingMessage, response: ServerResponse): Promise<void>;
}

interface Target {
  bucket: string;
  key: string;
  query: URLSearchParams;
}

type Run = (target: Target, request: IncomingMessage, response: ServerResponse) => Promise<void>;
type Created = (bucket: string, object: StoredObject, creation: Creation) => void;

/** Others ask for something else than the object: its tags, an old version. The SDK says which of its commands it is. */
const OBJECT_PARAMETERS = ['uploads', 'uploadId', 'partNumber', 'x-id'];
const MOST_XML_BYTES = 2 << 20;

export interface S3Api {
  /** @throws where S3 has no such operation, or the local host does not offer it */
  operationOf(request: IncomingMessage): Operation;
}

export function createS3Api(store: S3Store, uploads: S3Uploads, onCreated: Created): S3Api {
  const putObject: Run = async ({ bucket, key }, request, response) => {
    const ifAbsent = isIfAbsent(request);
    await store.requireBucket(bucket);
    const object = await store.place(bucket, key, await receive(store, request), { ifAbsent });
    onCreated(bucket, object, 'Put');
    response.writeHead(200, { etag: `"${object.etag}"`, 'content-length': 0 }).end();
  };

  const uploadPart: Run = async ({ bucket, key, query }, request, response) => {
    const partNumber = Number(query.get('partNumber'));
    if (!Number.isInteger(partNumber) || partNumber < 1 || partNumber > 10_000)
      throw new S3Error('InvalidArgument', 400, 'Part number must be an integer between 1 and 10000, inclusive');
    const staged = await receive(store, request);
    await uploads.putPart({ bucket, key, uploadId: query.get('uploadId')! }, partNumber, staged);
    response.writeHead(200, { etag: `"${staged.md5.toString('hex')}"`, 'content-length': 0 }).end();
  };

  const createUpload: Run = async ({ bucket, key }, request, response) => {
    requireOffered(request);
    const uploadId = await uploads.create(bucket, key);
    sendXml(response, toXml('InitiateMultipartUploadResult', { Bucket: bucket, Key: key, UploadId: uploadId }));
  };

  const completeUpload: Run = async ({ bucket, key, query }, request, response) => {
    const ifAbsent = isIfAbsent(request);
    const xml = await bodyText(request);
    const parts = elements(xml, 'Part').map((part) => ({
      partNumber: Number(textOf(part, 'PartNumber')),
      etag: (textOf(part, 'ETag') ?? '').replaceAll('"', ''),
    }));
    const object = await uploads.complete({ bucket, key, uploadId: query.get('uploadId')! }, parts, { ifAbsent });
    onCreated(bucket, object, 'CompleteMultipartUpload');
    const content = { Bucket: bucket, Key: key, ETag: `"${object.etag}"` };
    sendXml(response, toXml('CompleteMultipartUploadResult', content));
  };

  const listObjects: Run = async ({ bucket, query }, _request, response) => {
    await store.requireBucket(bucket);
    const prefix = query.get('prefix') ?? '';
    const delimiter = query.get('delimiter') ?? '';
    const token = query.get('continuation-token');
    const after = token === null ? (query.get('start-after') ?? '') : Buffer.from(token, 'base64url').toString();
    const maxKeys = Math.min(1_000, Number(query.get('max-keys') ?? 1_000));
    if (!Number.isInteger(maxKeys) || maxKeys < 0)
      throw new S3Error('InvalidArgument', 400, 'max-keys must be a whole number');
    const page = await pageOf(store, bucket, { prefix, delimiter, after, maxKeys });
    const encodingType = query.get('encoding-type') ?? undefined;
    sendXml(response, listingXml({ bucket, prefix, delimiter, maxKeys, encodingType, ...page }));
  };

  const operations: Record<string, readonly [action: string, run: Run]> = {
    'GET object': ['s3:GetObject', ({ bucket, key }, ...io) => readObject(store, bucket, key, ...io)],
    'HEAD object': ['s3:GetObject', ({ bucket, key }, ...io) => readObject(store, bucket, key, ...io)],
    'PUT object': ['s3:PutObject', putObject],
    'DELETE object': [
      's3:DeleteObject',
      async ({ bucket, key }, _request, response) => {
        await store.remove(bucket, key);
        response.writeHead(204).end();
      },
    ],
    'POST object uploads': ['s3:PutObject', createUpload],
    'PUT object uploadId': ['s3:PutObject', uploadPart],
    'POST object uploadId': ['s3:PutObject', completeUpload],
    'DELETE object uploadId': [
      's3:AbortMultipartUpload',
      async ({ bucket, key, query }, _request, response) => {
        await uploads.abort({ bucket, key, uploadId: query.get('uploadId')! });
        response.writeHead(204).end();
      },
    ],
    'GET object uploadId': [
      's3:ListMultipartUploadParts',
      async ({ bucket, key, query }, _request, response) => {
        const upload = { bucket, key, uploadId: query.get('uploadId')! };
        sendXml(response, partsXml(upload, await uploads.parts(upload)));
      },
    ],
    'GET bucket list-type': ['s3:ListBucket', listObjects],
    'GET bucket uploads': [
      's3:ListBucketMultipartUploads',
      async ({ bucket, query }, _request, response) => {
        const found = await uploads.list(bucket, query.get('prefix') ?? '');
        sendXml(response, uploadsXml(bucket, query.get('encoding-type') ?? undefined, found));
      },
    ],
    'HEAD bucket': [
      's3:ListBucket',
      async ({ bucket }, _request, response) => {
        await store.requireBucket(bucket);
        response.writeHead(200).end();
      },
    ],
  };

  return {
    operationOf(request) {
      const target = targetOf(request);
      const about = target.key === '' ? 'bucket' : 'object';
      const special = ['uploads', 'uploadId', 'list-type'].find((name) => target.query.has(name));
      const name = [request.method, about, ...(special === undefined ? [] : [special])].join(' ');
      const [action, run] = operations[name] ?? [];
      const odd = about === 'object' && [...target.query.keys()].some((each) => !OBJECT_PARAMETERS.includes(each));
      if (odd || action === undefined || run === undefined)
        throw notImplemented(`${request.method} ${request.url} of S3`);
      return {
        bucket: target.bucket,
        key: target.key,
        action,
        ...(action === 's3:ListBucket' && target.query.has('prefix')
          ? { context: { 's3:prefix': [target.query.get('prefix')!] } }
          : {}),
        run: (_request, response) => run(target, request, response),
      };
    },
  };
}

/** The path as it was sent: `//` and `..` in a key are no segments of a path. */
function targetOf(request: IncomingMessage): Target {
  const [, path, search] = /^([^?]*)\??(.*)$/s.exec(request.url ?? '/')!;
  const [, bucket, key] = /^\/([^/]*)\/?(.*)$/s.exec(path!) ?? [];
  try {
    return {
      bucket: decodeURIComponent(bucket ?? ''),
      key: decodeURIComponent(key ?? ''),
      query: new URLSearchParams(search),
    };
  } catch {
    throw new S3Error('InvalidURI', 400, "Couldn't parse the specified URI.");
  }
}

/** What a client would believe was done, and was not. */
function requireOffered({ headers }: IncomingMessage): void {
  const odd = Object.keys(headers).find((name) => /^x-amz-(copy-source|meta-|tagging|website-redirect)/.test(name));
  if (odd !== undefined) throw notImplemented(odd.startsWith('x-amz-meta-') ? 'metadata of objects' : odd);
  if (headers['if-match'] !== undefined) throw notImplemented('If-Match on a write');
  const hash = headers['x-amz-content-sha256'];
  if (typeof hash === 'string' && hash.startsWith('STREAMING-'))
    throw notImplemented('bodies in signed chunks: send them whole, with their length');
}

function isIfAbsent(request: IncomingMessage): boolean {
  requireOffered(request);
  const condition = request.headers['if-none-match'];
  if (condition === undefined || condition === '*') return condition === '*';
  throw notImplemented('If-None-Match with an etag on a write');
}

/** The body on the disk, once it is what the client meant to send. */
async function receive(store: S3Store, request: IncomingMessage): Promise<Staged> {
  requireOffered(request);
  const staged = await store.stage(request);
  const { 'x-amz-content-sha256': sha256, 'content-md5': md5 } = request.headers;
  const isOther = sha256 !== undefined && sha256 !== 'UNSIGNED-PAYLOAD' && sha256 !== staged.sha256;
  if (!isOther && (md5 === undefined || md5 === staged.md5.toString('base64'))) return staged;
  await store.discard(staged);
  throw isOther
    ? new S3Error(
        'XAmzContentSHA256Mismatch',
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
      )
    : new S3Error('BadDigest', 400, 'The Content-MD5 you specified did not match what we received.');
}

async function bodyText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= MOST_XML_BYTES) chunks.push(chunk);
  }
  if (bytes > MOST_XML_BYTES) throw new S3Error('MalformedXML', 400, 'The XML you provided is too long');
  return Buffer.concat(chunks).toString();
}

function sendXml(response: ServerResponse, xml: Buffer): void {
  response.writeHead(200, { 'content-type': 'application/xml', 'content-length': xml.length }).end(xml);
}

interface PageRequest {
  prefix: string;
  delimiter: string;
  after: string;
  maxKeys: number;
}

/** Keys and, with a delimiter, what is common to them up to it: both count. */
async function pageOf(store: S3Store, bucket: string, { prefix, delimiter, after, maxKeys }: PageRequest) {
  const objects: StoredObject[] = [];
  const commonPrefixes: string[] = [];
  let last = after;
  for await (const key of store.keys(bucket, prefix, after)) {
    const end = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
    const common = end < 0 ? undefined : key.slice(0, end + delimiter.length);
    // Of what the last page or this one has named already.
    if (common !== undefined && last.startsWith(common)) continue;
    const object = common === undefined ? await store.describe(bucket, key) : undefined;
    if (common === undefined && object === undefined) continue;
    if (objects.length + commonPrefixes.length === maxKeys) {
      return { objects, commonPrefixes, next: maxKeys === 0 ? undefined : last };
    }
    if (common !== undefined) commonPrefixes.push(common);
    else objects.push(object!);
    last = common ?? key;
  }
  return { objects, commonPrefixes, next: undefined };
}

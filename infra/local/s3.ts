import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { Authorizer } from './authorizer.ts';
import type { CallFault } from './chaos.ts';
import { listen } from './listen.ts';
import { S3Error } from './s3-error.ts';
import { createS3Api, type Operation } from './s3-operations.ts';
import { type Creation, createS3Store, type S3Store, STAGING, type StoredObject } from './s3-store.ts';
import { createS3Uploads } from './s3-uploads.ts';
import { errorXml } from './s3-xml.ts';

/** What S3 bills a request as: a list costs what a write costs, and a delete nothing. */
export type ObjectRequest = 'read' | 'write';

export interface S3Options {
  /** Buckets are the directories in it, which may come and go while it runs. One server at a time. */
  root: string;
  /** By access key; signatures are not checked. @default - whoever asks may do everything */
  authorize?: Authorizer['authorize'];
  /** What is to go wrong with this call of the one with the access key. @default - nothing */
  faultOf?: (accessKeyId: string) => CallFault | undefined;
  /** Called with what is billed. */
  onRequest?: (request: ObjectRequest) => void;
}

export interface S3Server {
  endpoint: string;
  store: S3Store;
  /** Called before a request that made an object is answered. */
  onCreated(listener: (bucket: string, object: StoredObject, creation: Creation) => void): void;
  stop(): Promise<void>;
}

/** The S3 API over a directory, for clients that put the bucket into the path. */
export async function startS3({
  root,
  authorize = () => undefined,
  faultOf = () => undefined,
  onRequest = () => {},
}: S3Options): Promise<S3Server> {
  await mkdir(root, { recursive: true });
  // What was being written when the last run ended.
  await rm(join(root, STAGING), { recursive: true, force: true });
  const store = createS3Store(root);
  const listeners: Parameters<S3Server['onCreated']>[0][] = [];
  const api = createS3Api(store, createS3Uploads(root, store), (...created) => {
    for (const listener of listeners) listener(...created);
  });
  const server = createServer((request, response) => void answer(request, response));
  // A connection that the server closes first is an ECONNRESET in a handler.
  server.keepAliveTimeout = 600_000;
  const port = await listen(server);

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('x-amz-request-id', randomUUID());
    try {
      const operation = api.operationOf(request);
      const allows = (action: string, resource: string, context?: Operation['context']) =>
        authorize(accessKeyOf(request), action, resource, context);
      const { bucket, key, action, context } = operation;
      const denial = allows(action, `arn:aws:s3:::${bucket}${key === '' ? '' : `/${key}`}`, context);
      if (denial)
        throw new S3Error(denial.reason === 'unknownKey' ? 'InvalidAccessKeyId' : 'AccessDenied', 403, denial.message);
      const fault = faultOf(accessKeyOf(request));
      if (fault === 'throttled') throw new S3Error('SlowDown', 503, 'chaos: S3 throttled the request');
      if (fault === 'failed') throw new S3Error('InternalError', 500, 'chaos: S3 failed');
      if (fault !== undefined) loseAnswer(response);
      if (request.method !== 'DELETE') onRequest(isRead(request) && !action.startsWith('s3:List') ? 'read' : 'write');
      await operation.run(request, response).catch((error: unknown) => {
        // As S3 does: who may not list can't tell a missing object from one that may not be read.
        const listing = isMissing(error) ? allows('s3:ListBucket', `arn:aws:s3:::${bucket}`) : undefined;
        throw listing ? new S3Error('AccessDenied', 403, listing.message) : error;
      });
    } catch (error) {
      answerError(request, response, error);
    }
  }

  return {
    endpoint: `http://127.0.0.1:${port}`,
    store,
    onCreated: (listener) => {
      listeners.push(listener);
    },
    async stop() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** What is done is done, and the client hears nothing of it. */
function loseAnswer(response: ServerResponse): void {
  Object.assign(response, { writeHead: () => response, write: () => true, end: () => response.destroy() });
}

const isRead = ({ method }: IncomingMessage): boolean => method === 'GET' || method === 'HEAD';

const isMissing = (error: unknown): boolean => error instanceof S3Error && error.code === 'NoSuchKey';

const accessKeyOf = ({ headers }: IncomingMessage): string =>
  /Credential=([^/,\s]+)\//.exec(headers.authorization ?? '')?.[1] ?? '';

function answerError(request: IncomingMessage, response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const known = error instanceof S3Error ? error : new S3Error('InternalError', 500, reasonOf(error));
  const body = errorXml(known, request.url ?? '', String(response.getHeader('x-amz-request-id')));
  response.writeHead(known.status, {
    ...known.headers,
    'content-type': 'application/xml',
    'content-length': body.length,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

const reasonOf = (error: unknown): string => {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ENOSPC' ? 'the disk is full' : message;
};

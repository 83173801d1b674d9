import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { preconditionFailed, S3Error } from './s3-error.ts';
import type { OpenObject, S3Store } from './s3-store.ts';

const PIECE_BYTES = 1 << 20;

/** GetObject and HeadObject. A file that is written to while it is sent ends in a broken connection, never in a mixture. */
export async function readObject(
  store: S3Store,
  bucket: string,
  key: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const object = await store.open(bucket, key);
  try {
    const { 'if-match': ifMatch, range } = request.headers;
    if (ifMatch !== undefined && ifMatch !== '*' && ifMatch.replaceAll('"', '') !== object.etag)
      throw preconditionFailed();
    const part = rangeOf(range, object.size);
    const { start, end } = part ?? { start: 0, end: object.size };
    response.writeHead(part === undefined ? 200 : 206, {
      etag: `"${object.etag}"`,
      'last-modified': new Date(object.modifiedMs).toUTCString(),
      'accept-ranges': 'bytes',
      'content-type': 'binary/octet-stream',
      'content-length': end - start,
      ...(part === undefined ? {} : { 'content-range': `bytes ${start}-${end - 1}/${object.size}` }),
    });
    if (request.method !== 'HEAD') await send(object, start, end, response);
    response.end();
  } finally {
    await object.file.close();
  }
}

async function send(object: OpenObject, start: number, end: number, response: ServerResponse): Promise<void> {
  for (let at = start; at < end && !response.destroyed; ) {
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, end - at));
    const { bytesRead } = await object.file.read(piece, 0, piece.length, at);
    // Asked after the read and before the client has it all.
    if (bytesRead === 0 || !(await object.isUnchanged())) throw new Error('the file changed while it was sent');
    at += bytesRead;
    if (!response.write(piece.subarray(0, bytesRead))) await drained(response);
  }
}

/** Resolves when the client took what was written, or is gone. */
const drained = async (response: ServerResponse): Promise<void> => {
  // Its close came before, and nothing comes after.
  if (response.destroyed) return;
  const settled = new AbortController();
  const events = ['drain', 'close'].map((event) => once(response, event, { signal: settled.signal }));
  await Promise.race(events);
  settled.abort();
};

/** The bytes that a Range header asks for, `end` exclusive; what is no single range of bytes is ignored, as HTTP has it. */
function rangeOf(header: string | undefined, size: number): { start: number; end: number } | undefined {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (from === undefined || to === undefined || (from === '' && to === '')) return undefined;
  const start = from === '' ? Math.max(0, size - Number(to)) : Number(from);
  const end = from === '' || to === '' ? size : Math.min(size, Number(to) + 1);
  if (start < end) return { start, end };
  if (from !== '' && to !== '' && Number(to) < Number(from)) return undefined;
  throw new S3Error('InvalidRange', 416, 'The requested range is not satisfiable', {
    'content-range': `bytes */${size}`,
  });
}

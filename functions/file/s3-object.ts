import { ConnectError } from '../../shared/connect/errors.ts';
import type { S3 } from '../../shared/s3/client.ts';
import type { StoredFile } from './store.ts';

/** Enough to see what an object is; many objects are no larger. */
const firstRangeBytes = 128 * 1024;
const maxRangeBytes = 4 * 1024 * 1024;

interface Range {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** The first bytes of an object, of whatever is under its key by now, and its size; undefined when it is gone. */
export type FirstRange = Awaited<ReturnType<S3['get']>>;

export const getFirstRange = (s3: S3, bucket: string, key: string, signal: AbortSignal): Promise<FirstRange> =>
  s3.get(bucket, key, { start: 0, length: firstRangeBytes, signal });

/**
 * An object, read by ranges of its one version: the next one is on its way while this one is parsed, and no two of different objects
 * are put together. At most two ranges are in memory.
 */
export const openObject = (s3: S3, bucket: string, key: string, first: NonNullable<FirstRange>): StoredFile => {
  const path = `s3://${bucket}/${key}`;
  const { size, etag } = first;
  const closing = new AbortController();
  let held: Range = { start: 0, bytes: first.bytes };
  let ahead: { readonly start: number; readonly bytes: Promise<Uint8Array> } | undefined;
  let length = firstRangeBytes;

  const get = async (start: number, count: number): Promise<Uint8Array> => {
    const found = await s3.get(bucket, key, { start, length: count, ifMatch: etag, signal: closing.signal });
    if (found === undefined) throw deleted(path);
    if (found.bytes.length < Math.min(count, size - start))
      throw new ConnectError('CORRUPT', `${path}: S3 gave ${found.bytes.length} bytes from ${start} on, not ${count}`);
    return found.bytes;
  };

  /** Holds the range that `position` is in: the next one, or a small one somewhere else. */
  const turnTo = async (position: number): Promise<void> => {
    const next = ahead;
    ahead = undefined;
    const bytes = await next?.bytes;
    if (next !== undefined && bytes !== undefined && position === next.start) {
      held = { start: position, bytes };
      return;
    }
    length = firstRangeBytes;
    held = { start: position, bytes: await get(position, length) };
  };

  const getAhead = (): void => {
    const start = held.start + held.bytes.length;
    if (ahead !== undefined || start >= size) return;
    length = Math.min(length * 4, maxRangeBytes);
    const bytes = get(start, length);
    // Its error is seen when it is its turn.
    bytes.catch(() => {});
    ahead = { start, bytes };
  };

  return {
    path,
    size,
    mayGrow: false,
    async read(target, offset, wanted, position, signal) {
      if (position >= size) return 0;
      signal?.throwIfAborted();
      if (position < held.start || position >= held.start + held.bytes.length)
        await stoppedBy(signal, closing, turnTo(position));
      const from = position - held.start;
      const given = held.bytes.subarray(from, from + wanted);
      target.set(given, offset);
      if (from + given.length > held.bytes.length / 2) getAhead();
      return given.length;
    },
    identityAt: () => ({ etag, size }),
    differs: (identity) =>
      'etag' in identity && identity.etag === etag && identity.size === size ? undefined : anotherObject(first),
    async close() {
      closing.abort();
      await ahead?.bytes.catch(() => {});
      ahead = undefined;
    },
  };
};

export const anotherObject = ({ etag, size }: { readonly etag: string; readonly size: number }): string =>
  `another object is under its key now (ETag ${etag}, ${size} bytes)`;

/** A request on its way ends when the signal does, and with it the use of the object: the run is over. */
const stoppedBy = async <T>(
  signal: AbortSignal | undefined,
  closing: AbortController,
  work: Promise<T>,
): Promise<T> => {
  const stop = () => closing.abort(signal!.reason);
  signal?.addEventListener('abort', stop);
  try {
    return await work;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
};

const deleted = (path: string): ConnectError =>
  new ConnectError('NOT_FOUND', `${path} was deleted while it was read: put it back`, { retriable: true });

import { createGunzip } from 'node:zlib';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { StoredFile } from './store.ts';

/** The uncompressed bytes of one open file. */
export interface Content {
  readonly stored: StoredFile;
  readonly compressed: boolean;
  /**
   * Reads on from `position` and gives how many bytes came; 0 at the end. Going on where the last read ended is cheap; in a gzip
   * file every other position means decompressing from the start.
   */
  read(target: Buffer, offset: number, length: number, position: number, signal?: AbortSignal): Promise<number>;
  close(): Promise<void>;
}

/** The content of a file, decompressed when its name or its first bytes say gzip. It closes the file. */
export const openContent = async (stored: StoredFile, signal: AbortSignal): Promise<Content> => {
  const magic = Buffer.alloc(2);
  await stored.read(magic, 0, 2, 0, signal);
  const compressed = magic.equals(gzipMagic) || (stored.size > 0 && /\.gz$/i.test(stored.path));
  if (compressed) return gzipContent(stored);
  return { stored, compressed, read: (...args) => stored.read(...args), close: () => stored.close() };
};

const gzipMagic = Buffer.from([0x1f, 0x8b]);

/** Compressed bytes per step: what they expand to, at most a thousandfold, is held until it is read. */
const gzipStepBytes = 32 * 1024;

const gzipContent = (stored: StoredFile): Content => {
  let stream = openGunzip(stored);
  /** Where the first byte of `rest` is. */
  let at = 0;
  let rest: Buffer = Buffer.alloc(0);
  return {
    stored,
    compressed: true,
    async read(target, offset, length, position, signal) {
      if (position < at) {
        stream.close();
        stream = openGunzip(stored);
        at = 0;
        rest = Buffer.alloc(0);
      }
      for (;;) {
        const skipped = Math.min(position - at, rest.length);
        rest = rest.subarray(skipped);
        at += skipped;
        if (rest.length > 0) break;
        signal?.throwIfAborted();
        const more = await stream.next(signal);
        if (more === undefined) return 0;
        rest = more;
      }
      const taken = rest.copy(target, offset, 0, length);
      rest = rest.subarray(taken);
      at += taken;
      return taken;
    },
    async close() {
      stream.close();
      await stored.close();
    },
  };
};

/**
 * The decompressed pieces of a file, in order; undefined at its end. Fed by hand, because a stream in a pipeline drops what it
 * has already decompressed when the file turns out to be truncated.
 */
const openGunzip = (stored: StoredFile) => {
  const gunzip = createGunzip();
  const pieces: Buffer[] = [];
  let position = 0;
  let ended = false;
  let failure: Error | undefined;
  let settle = () => {};
  gunzip.on('data', (piece: Buffer) => pieces.push(piece));
  gunzip.on('error', (error) => {
    failure = error;
    settle();
  });
  gunzip.on('end', () => {
    ended = true;
    settle();
  });
  const step = async (signal: AbortSignal | undefined) => {
    const input = Buffer.allocUnsafe(gzipStepBytes);
    const bytesRead = await stored.read(input, 0, gzipStepBytes, position, signal);
    position += bytesRead;
    await new Promise<void>((resolve) => {
      settle = resolve;
      if (bytesRead === 0) gunzip.end();
      else gunzip.write(input.subarray(0, bytesRead), () => resolve());
    });
  };
  return {
    async next(signal?: AbortSignal): Promise<Buffer | undefined> {
      while (pieces.length === 0) {
        if (failure !== undefined) throw corruptGzip(stored.path, position, failure);
        if (ended) return undefined;
        await step(signal);
      }
      return pieces.length === 1 ? pieces.pop()! : Buffer.concat(pieces.splice(0));
    },
    close: () => gunzip.destroy(),
  };
};

const corruptGzip = (path: string, position: number, cause: Error): ConnectError =>
  new ConnectError(
    'CORRUPT',
    `${path} is no whole gzip file: ${cause.message}, in its first ${position} compressed bytes; the records before that were delivered, copy the file again`,
    // A file that is still being copied is whole later.
    { cause, retriable: true },
  );

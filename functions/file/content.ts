import type { Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { ConnectError } from '../../shared/connect/errors.ts';

/** The uncompressed bytes of one open file. */
export interface Content {
  /** As it was when the file was opened: what comes later changes size or time. */
  readonly stats: Stats;
  readonly compressed: boolean;
  /**
   * Reads on from `position` and gives how many bytes came; 0 at the end. Going on where the last read ended is cheap; in a gzip
   * file every other position means decompressing from the start.
   */
  read(target: Buffer, offset: number, length: number, position: number, signal?: AbortSignal): Promise<number>;
  close(): Promise<void>;
}

/** Opens a file, decompressing it when its name or its first bytes say gzip. */
export const openContent = async (path: string): Promise<Content> => {
  const handle = await open(path, 'r').catch((cause) => {
    throw fileError(path, cause);
  });
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw fileError(path, Object.assign(new Error('no regular file'), { code: 'EISDIR' }));
    const magic = Buffer.alloc(2);
    await handle.read(magic, 0, 2, 0);
    const compressed = magic.equals(gzipMagic) || (stats.size > 0 && /\.gz$/i.test(path));
    return compressed ? gzipContent(path, handle, stats) : plainContent(path, handle, stats);
  } catch (cause) {
    await handle.close();
    throw cause instanceof ConnectError ? cause : fileError(path, cause);
  }
};

const gzipMagic = Buffer.from([0x1f, 0x8b]);

const plainContent = (path: string, handle: FileHandle, stats: Stats): Content => ({
  stats,
  compressed: false,
  async read(target, offset, length, position) {
    const { bytesRead } = await handle.read(target, offset, length, position).catch((cause) => {
      throw fileError(path, cause);
    });
    return bytesRead;
  },
  close: () => handle.close(),
});

/** Compressed bytes per step: what they expand to, at most a thousandfold, is held until it is read. */
const gzipStepBytes = 32 * 1024;

const gzipContent = (path: string, handle: FileHandle, stats: Stats): Content => {
  let stream = openGunzip(path, handle);
  /** Where the first byte of `rest` is. */
  let at = 0;
  let rest: Buffer = Buffer.alloc(0);
  return {
    stats,
    compressed: true,
    async read(target, offset, length, position, signal) {
      if (position < at) {
        stream.close();
        stream = openGunzip(path, handle);
        at = 0;
        rest = Buffer.alloc(0);
      }
      for (;;) {
        const skipped = Math.min(position - at, rest.length);
        rest = rest.subarray(skipped);
        at += skipped;
        if (rest.length > 0) break;
        signal?.throwIfAborted();
        const more = await stream.next();
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
      await handle.close();
    },
  };
};

/**
 * The decompressed pieces of a file, in order; undefined at its end. Fed by hand, because a stream in a pipeline drops what it
 * has already decompressed when the file turns out to be truncated.
 */
const openGunzip = (path: string, handle: FileHandle) => {
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
  const step = async () => {
    const input = Buffer.allocUnsafe(gzipStepBytes);
    const { bytesRead } = await handle.read(input, 0, gzipStepBytes, position).catch((cause) => {
      throw fileError(path, cause);
    });
    position += bytesRead;
    await new Promise<void>((resolve) => {
      settle = resolve;
      if (bytesRead === 0) gunzip.end();
      else gunzip.write(input.subarray(0, bytesRead), () => resolve());
    });
  };
  return {
    async next(): Promise<Buffer | undefined> {
      while (pieces.length === 0) {
        if (failure !== undefined) throw corruptGzip(path, position, failure);
        if (ended) return undefined;
        await step();
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

/** What the file system says, in the operator's words. */
export const fileError = (path: string, cause: unknown): ConnectError => {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new ConnectError('NOT_FOUND', `${path} does not exist; create it, or correct \`path\``, {
        cause,
        retriable: true,
      });
    case 'EISDIR':
      return new ConnectError('CONFIG_INVALID', `${path} is no file; for the files in a directory use ${path}/*`, {
        cause,
      });
    case 'EACCES':
    case 'EPERM':
      return new ConnectError('UNAVAILABLE', `${path} may not be read by this user; grant read permission`, { cause });
    default:
      return new ConnectError('UNAVAILABLE', `${path} can't be read: ${(cause as Error)?.message}`, {
        cause,
        retriable: true,
      });
  }
};

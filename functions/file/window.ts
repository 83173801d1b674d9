import { freeBuffer } from '../../shared/connect/buffers.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { Content } from './content.ts';

/**
 * The bytes of a file from `start` on, as far as they were read. `data[length]` is 0, where every scanner stops. A batch points
 * into `data`, so a window is read by one poll and then belongs to its batch.
 */
export interface Window {
  data: Buffer;
  length: number;
  /** The position in the file of data[0]. */
  readonly start: number;
  /** So many bytes will probably be used: reading more would be reading it twice. */
  readonly expected: number;
  /** No more bytes were there. */
  atEnd: boolean;
  /** Why no more bytes could be read, although there are more: told when what came before it is used up. */
  failure?: ConnectError;
}

const firstChunkBytes = 64 * 1024;
const maxChunkBytes = 4 * 1024 * 1024;

/** A record is whole in memory, in several copies at times, which fit in 256 MB; a larger one is more likely a file of another format. */
const maxRecordBytes = 32 * 1024 * 1024;

/** A window that begins with `head`, bytes that the last poll read and did not use. */
export const openWindow = (start: number, head: Uint8Array, expected: number): Window => {
  const data = Buffer.allocUnsafe(Math.max(expected, head.length) + firstChunkBytes + 1);
  data.set(head);
  data[head.length] = 0;
  return { data, length: head.length, start, expected, atEnd: false };
};

/** Reads one more chunk: what is expected, and then growing ones, so that small batches read little and large ones in few calls. */
export const fillWindow = async (
  window: Window,
  content: Content,
  path: string,
  signal: AbortSignal,
): Promise<void> => {
  const missing = window.expected - window.length;
  const chunk = Math.min(Math.max(missing > 0 ? missing : window.length / 4, firstChunkBytes), maxChunkBytes) & ~4095;
  if (window.length > maxRecordBytes)
    throw new ConnectError(
      'TOO_LARGE',
      `${path}: no record ends within ${maxRecordBytes} bytes of position ${window.start}; check \`format\` (or a quote that is never closed)`,
    );
  if (window.data.length <= window.length + chunk) {
    const grown = Buffer.allocUnsafe(Math.max(window.data.length * 2, window.length + chunk + 1));
    window.data.copy(grown, 0, 0, window.length);
    freeBuffer(window.data);
    window.data = grown;
  }
  try {
    const read = await content.read(window.data, window.length, chunk, window.start + window.length, signal);
    window.length += read;
    window.atEnd = read === 0;
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    window.failure = error;
    window.atEnd = true;
  }
  window.data[window.length] = 0;
};

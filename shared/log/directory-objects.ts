import { randomUUID } from 'node:crypto';
import { link, mkdir, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ConnectError } from '../connect/errors.ts';
import { type ObjectStore, objectExists } from './objects.ts';

/**
 * Objects as files of a directory. The bytes and the name are fsynced before `put` resolves, because the transaction that points to
 * them is (hazard A12): after a power cut there is no pointer without its bytes. A name is whole or not there.
 */
export const directoryObjects = (root: string): ObjectStore => ({
  async put(name, bytes) {
    const path = join(root, name);
    const staged = `${path}.${randomUUID()}.tmp`;
    try {
      await makeDirectory(dirname(path));
      try {
        await writeSynced(staged, bytes);
        // Unlike a rename, a link refuses a name that exists (invariant 3).
        await link(staged, path);
      } finally {
        await rm(staged, { force: true });
      }
      await syncDirectory(dirname(path));
    } catch (cause) {
      const { code, syscall } = cause as NodeJS.ErrnoException;
      throw code === 'EEXIST' && syscall === 'link' ? objectExists(name, cause) : storeError(path, cause);
    }
  },
  async get(name, start, length) {
    const path = join(root, name);
    try {
      const file = await open(path, 'r');
      try {
        const buffer = Buffer.allocUnsafe(length);
        const { bytesRead } = await file.read(buffer, 0, length, start);
        return buffer.subarray(0, bytesRead);
      } finally {
        await file.close();
      }
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw storeError(path, cause);
    }
  },
});

const writeSynced = async (path: string, bytes: Uint8Array): Promise<void> => {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
};

/** Makes a directory and makes its name durable, up to the first one that was there. */
const makeDirectory = async (directory: string): Promise<void> => {
  const first = await mkdir(directory, { recursive: true });
  if (first === undefined) return;
  for (let at = directory; at.length >= dirname(first).length; at = dirname(at)) {
    await syncDirectory(at);
    if (at === dirname(at)) return;
  }
};

const syncDirectory = async (directory: string): Promise<void> => {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

const storeError = (path: string, cause: unknown): ConnectError => {
  const { code, message } = cause as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' ? 'the disk is full' : message;
  return new ConnectError('UNAVAILABLE', `object ${path}: ${full}`, { retriable: true, cause });
};

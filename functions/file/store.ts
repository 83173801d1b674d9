import { createReadStream } from 'node:fs';
import { access, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ConnectError } from '../../shared/connect/errors.ts';

/** Where a sink puts its files: the few operations that two phases need. Paths are relative to the store's root. */
export interface FileStore {
  /** Writes a new file; it is whole and durable when this resolves. When it throws, remove what may be there of it. */
  write(path: string, bytes: Uint8Array): Promise<void>;
  /**
   * Gives a file its final name, at once; durable when this resolves. False: there is no file `from`. A place where no file
   * ever was (a volume that is not mounted) throws instead, or a batch would be taken for promoted.
   */
  move(from: string, to: string): Promise<boolean>;
  /** What a file holds, by reading it; undefined where there is none. */
  inspect(path: string): Promise<FileContent | undefined>;
  /** The files of a directory; none where there is no directory. */
  list(directory: string): Promise<readonly ListedFile[]>;
  /** No error where there is no such file. */
  remove(path: string): Promise<void>;
}

interface FileContent {
  readonly bytes: number;
  readonly crc32: number;
}

interface ListedFile {
  readonly path: string;
  readonly modifiedMs: number;
}

export type OpenStore = (root: string) => FileStore;

export const directoryStore: OpenStore = (root) => {
  const at = (path: string) => join(root, path);
  return {
    write: (path, bytes) =>
      attempt('write', at(path), async () => {
        await makeDirectory(dirname(at(path)));
        await writeNew(at(path), bytes);
        await syncDirectory(dirname(at(path)));
      }),
    move: (from, to) =>
      attempt('move a file to', at(to), async () => {
        if (!(await exists(at(from)))) {
          // Moved before, perhaps by a run that died before its move was durable.
          if (await exists(at(to))) await syncDirectory(dirname(at(to)));
          else await access(dirname(at(from)));
          return false;
        }
        await makeDirectory(dirname(at(to)));
        // Another run may move it at the same time: it is gone then, which is an answer and no error.
        const moved = await ifThere(rename(at(from), at(to)).then(() => true));
        await syncDirectory(dirname(at(to)));
        return moved ?? false;
      }),
    inspect: (path) => attempt('read', at(path), () => ifThere(contentOf(at(path)))),
    list: (directory) =>
      attempt('list', at(directory), async () => {
        const names = (await ifThere(readdir(at(directory)))) ?? [];
        const files: ListedFile[] = [];
        for (const name of names) {
          const found = await ifThere(stat(at(join(directory, name))));
          if (found !== undefined) files.push({ path: join(directory, name), modifiedMs: found.mtimeMs });
        }
        return files;
      }),
    remove: (path) => attempt('remove', at(path), () => rm(at(path), { force: true })),
  };
};

const writeNew = async (path: string, bytes: Uint8Array): Promise<void> => {
  const handle = await open(path, 'wx');
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
};

const contentOf = async (path: string): Promise<FileContent> => {
  let bytes = 0;
  let checksum = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    checksum = crc32(chunk, checksum);
  }
  return { bytes, crc32: checksum };
};

/** A directory is durable when the one it is in was synced. */
const makeDirectory = async (path: string): Promise<void> => {
  const first = await mkdir(path, { recursive: true });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made));
};

const syncDirectory = async (path: string): Promise<void> => {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

const exists = async (path: string): Promise<boolean> => (await ifThere(access(path).then(() => true))) ?? false;

const ifThere = async <T>(work: Promise<T>): Promise<T | undefined> => {
  try {
    return await work;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
};

const errnoOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;

/** What a person has to do about it; an operator's mistake is not retried. */
const remedies: Record<string, { readonly what: string; readonly retriable: boolean }> = {
  ENOSPC: { what: 'no space is left on the device; free some', retriable: true },
  EDQUOT: { what: 'the disk quota is used up; raise it or free some', retriable: true },
  ENOENT: { what: 'the directory is not there; is its volume mounted?', retriable: true },
  EACCES: { what: 'permission denied; let the function write there', retriable: false },
  EPERM: { what: 'permission denied; let the function write there', retriable: false },
  EROFS: { what: 'the file system is read-only', retriable: false },
  ENOTDIR: { what: 'a part of the path is a file; choose another `path`', retriable: false },
  EXDEV: { what: 'the directory is a mount of its own; `path` must be on one file system', retriable: false },
};

const attempt = async <T>(doing: string, path: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (cause) {
    const errno = errnoOf(cause) ?? 'no error number';
    const { what, retriable } = remedies[errno] ?? { what: String(cause), retriable: true };
    throw new ConnectError('UNAVAILABLE', `cannot ${doing} ${path}: ${what} (${errno})`, { retriable, cause });
  }
};

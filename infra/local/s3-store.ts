import { createHash, randomUUID } from 'node:crypto';
import type { BigIntStats, Dirent } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { noSuchKey, preconditionFailed, S3Error } from './s3-error.ts';

export interface StoredObject {
  readonly key: string;
  readonly size: number;
  readonly etag: string;
  readonly modifiedMs: number;
}

/** How an object came to be, as the events of S3 name it. */
export type Creation = 'Put' | 'CompleteMultipartUpload';

export interface OpenObject extends StoredObject {
  readonly file: FileHandle;
  /** Whether the file still is what it was when it was opened: somebody may write to it by hand. */
  isUnchanged(): Promise<boolean>;
}

/** Bytes that are on the disk, and under no key yet. */
export interface Staged {
  readonly path: string;
  readonly size: number;
  readonly md5: Buffer;
  readonly sha256: string;
  readonly ino: bigint;
}

/**
 * Objects as files: `<root>/<bucket>/<key>`. What was put is fsynced with its name before it is acknowledged, and a key is whole or not
 * there. A file that somebody copies into a bucket's directory is an object; a bucket is a directory.
 */
export interface S3Store {
  requireBucket(bucket: string): Promise<void>;
  open(bucket: string, key: string): Promise<OpenObject>;
  /** Writes bytes to the disk; give them a key by `place`, or drop them by `discard`. */
  stage(chunks: AsyncIterable<Uint8Array>): Promise<Staged>;
  discard(staged: Staged): Promise<void>;
  place(bucket: string, key: string, staged: Staged, options: { ifAbsent: boolean }): Promise<StoredObject>;
  remove(bucket: string, key: string): Promise<void>;
  /** Keys from `after` on, in the order of their UTF-8 bytes. */
  keys(bucket: string, prefix: string, after: string): AsyncIterable<string>;
  /** What there is about a key; undefined where it has gone since it was listed. */
  describe(bucket: string, key: string): Promise<StoredObject | undefined>;
  /** The file that an object of this key is, or would be. */
  pathOf(bucket: string, key: string): string;
}

/** A bucket's name never begins so. */
export const STAGING = '.staging';
const MOST_KEY_BYTES = 1_024;
const CACHED_ETAGS = 100_000;

export function createS3Store(root: string): S3Store {
  const etags = new Map<string, { stamp: string; etag: string }>();

  function remember(path: string, found: BigIntStats, etag: string): string {
    etags.delete(path);
    etags.set(path, { stamp: stampOf(found), etag });
    for (const oldest of etags.keys()) {
      if (etags.size <= CACHED_ETAGS) break;
      etags.delete(oldest);
    }
    return etag;
  }

  /** By content alone, so that an object keeps its etag over restarts and copies. */
  async function etagOf(path: string, file: FileHandle, found: BigIntStats): Promise<string> {
    const known = etags.get(path);
    if (known?.stamp === stampOf(found)) return known.etag;
    const md5 = createHash('md5');
    for await (const chunk of file.createReadStream({ start: 0, autoClose: false })) md5.update(chunk);
    const etag = md5.digest('hex');
    // What was written to meanwhile is hashed again next time.
    return stampOf(await file.stat({ bigint: true })) === stampOf(found) ? remember(path, found, etag) : etag;
  }

  async function openObject(bucket: string, key: string): Promise<OpenObject> {
    await requireBucket(bucket);
    if (unstorable(key) !== undefined) throw noSuchKey();
    const path = pathOf(bucket, key);
    const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
      throw isAbsent(error) ? noSuchKey() : error;
    });
    try {
      const found = await file.stat({ bigint: true });
      if (!found.isFile()) throw noSuchKey();
      const isUnchanged = async () => stampOf(await file.stat({ bigint: true })) === stampOf(found);
      return { ...objectOf(key, found, await etagOf(path, file, found)), file, isUnchanged };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async function requireBucket(bucket: string): Promise<void> {
    const isThere = /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(bucket) && (await isDirectory(join(root, bucket)));
    if (!isThere) throw new S3Error('NoSuchBucket', 404, 'The specified bucket does not exist');
  }

  function pathOf(bucket: string, key: string): string {
    return join(root, bucket, key);
  }

  async function place(bucket: string, key: string, staged: Staged, ifAbsent: boolean): Promise<StoredObject> {
    const path = pathOf(bucket, key);
    try {
      await requireBucket(bucket);
      requireStorable(key);
      await makeDirectory(dirname(path));
      const put = () => (ifAbsent ? link(staged.path, path) : rename(staged.path, path));
      await put().catch(async (error: unknown) => {
        if (!(await isDirectory(path)) || !(await removeEmpty(path))) throw error;
        await put();
      });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (await isDirectory(path)) throw refused(key, 'its file is the directory of other objects');
      if (code === 'EEXIST' && ifAbsent && (await isFile(path))) throw preconditionFailed();
      if (code === 'EEXIST' || code === 'ENOTDIR') throw refused(key, 'an object is where its directory would be');
      throw error;
    } finally {
      await discard(staged);
    }
    await syncDirectory(dirname(path));
    const found = await stat(path, { bigint: true });
    const etag = staged.md5.toString('hex');
    // Another put of the key may have come right after this one.
    if (found.ino === staged.ino) remember(path, found, etag);
    return { ...objectOf(key, found, etag), size: staged.size };
  }

  async function stage(chunks: AsyncIterable<Uint8Array>): Promise<Staged> {
    const directory = join(root, STAGING);
    await mkdir(directory, { recursive: true });
    const path = join(directory, randomUUID());
    const [md5, sha256] = [createHash('md5'), createHash('sha256')];
    let size = 0;
    let ino: bigint;
    try {
      const file = await open(path, 'wx');
      try {
        ({ ino } = await file.stat({ bigint: true }));
        let failure: unknown;
        for await (const chunk of chunks) {
          md5.update(chunk);
          sha256.update(chunk);
          size += chunk.length;
          // Read on to the end: a client that still sends would see a reset instead of the answer.
          if (failure === undefined)
            await file.writeFile(chunk).catch((error: unknown) => {
              failure = error;
            });
        }
        if (failure !== undefined) throw failure;
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
    return { path, size, md5: md5.digest(), sha256: sha256.digest('hex'), ino };
  }

  async function discard({ path }: Staged): Promise<void> {
    await rm(path, { force: true });
  }

  return {
    requireBucket,
    open: openObject,
    stage,
    discard,
    place: (bucket, key, staged, { ifAbsent }) => place(bucket, key, staged, ifAbsent),
    async remove(bucket, key) {
      await requireBucket(bucket);
      if (unstorable(key) !== undefined || !(await isFile(pathOf(bucket, key)))) return;
      await rm(pathOf(bucket, key), { force: true });
      await syncDirectory(dirname(pathOf(bucket, key)));
    },
    keys: (bucket, prefix, after) => walk(join(root, bucket), '', prefix, after),
    async describe(bucket, key) {
      try {
        const { file, isUnchanged: _, ...object } = await openObject(bucket, key);
        await file.close();
        return object;
      } catch (error) {
        if (error instanceof S3Error) return undefined;
        throw error;
      }
    },
    pathOf,
  };
}

/** Why a file can't be named by a key. */
const unstorable = (key: string): string | undefined => {
  const parts = key.split('/');
  if (parts.includes('')) return 'a part between its slashes is empty';
  if (parts.some((part) => part === '.' || part === '..')) return `a part of it is "." or ".."`;
  if (key.includes('\0')) return 'it holds a zero byte';
  return parts.some((part) => Buffer.byteLength(part) > 255) ? 'a part of it is longer than 255 bytes' : undefined;
};

/** @throws where a file can't be named by the key */
export const requireStorable = (key: string): void => {
  if (Buffer.byteLength(key) > MOST_KEY_BYTES) throw new S3Error('KeyTooLongError', 400, 'Your key is too long');
  const reason = unstorable(key);
  if (reason !== undefined) throw refused(key, reason);
};

const refused = (key: string, reason: string): S3Error =>
  new S3Error(
    'InvalidArgument',
    400,
    `the local host keeps objects as files, and ${JSON.stringify(key)} can't be one: ${reason}; on AWS it could`,
  );

/** What changes whenever the content does, even within one tick of the clock. */
const stampOf = ({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string => `${ino} ${size} ${mtimeNs} ${ctimeNs}`;

const objectOf = (key: string, { size, mtimeMs }: BigIntStats, etag: string): StoredObject => ({
  key,
  size: Number(size),
  etag,
  modifiedMs: Number(mtimeMs),
});

/** Directories count by the names of what is in them, so that the whole walk is in the order of keys. */
async function* walk(directory: string, path: string, prefix: string, after: string): AsyncGenerator<string> {
  const entries = (await entriesOf(directory)).map((entry) => ({
    entry,
    key: `${path}${entry.name}${entry.isDirectory() ? '/' : ''}`,
  }));
  entries.sort((a, b) => compareKeys(a.key, b.key));
  for (const { entry, key } of entries) {
    if (entry.isDirectory()) {
      const mayHold = key.startsWith(prefix) || prefix.startsWith(key);
      const isBehind = compareKeys(key, after) < 0 && !after.startsWith(key);
      if (mayHold && !isBehind) yield* walk(join(directory, entry.name), key, prefix, after);
    } else if (key.startsWith(prefix) && compareKeys(key, after) > 0 && (entry.isFile() || entry.isSymbolicLink())) {
      yield key;
    }
  }
}

const entriesOf = async (directory: string): Promise<Dirent[]> => {
  try {
    return await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (isAbsent(error as NodeJS.ErrnoException)) return [];
    throw error;
  }
};

/** A directory that held objects, and holds none any more. */
const removeEmpty = async (directory: string): Promise<boolean> => {
  for (const entry of await entriesOf(directory))
    if (!entry.isDirectory() || !(await removeEmpty(join(directory, entry.name)))) return false;
  return rmdir(directory).then(
    () => true,
    () => false,
  );
};

export const compareKeys = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

const isAbsent = ({ code }: NodeJS.ErrnoException): boolean =>
  code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG';

const kindOf = (path: string) => stat(path).catch(() => undefined);
const isDirectory = async (path: string): Promise<boolean> => (await kindOf(path))?.isDirectory() ?? false;
const isFile = async (path: string): Promise<boolean> => (await kindOf(path))?.isFile() ?? false;

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

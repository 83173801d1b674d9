import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { FileWriter } from './store.ts';
import { orphanAgeMs, type StagedFile } from './two-phase.ts';

/** Below the root; the dot hides it from readers. */
export const stagingDirectory = '.staging';

/** A day less than the age of orphans, for clocks that differ. */
const trustedAgeMs = orphanAgeMs - 86_400_000;

/** Stages below `.staging/<own>/`, so that a task's orphans are told from what another one has prepared, and promotes by renaming. */
export const directoryWriter = (root: string, own: string): FileWriter => {
  const at = (path: string) => join(root, path);
  const directory = join(stagingDirectory, own);
  return {
    trustedAgeMs,
    width: 1,
    markOf: (id) => id.slice(0, 8),
    async stage({ final, id }, bytes) {
      const path = join(directory, id);
      await attempt('write', at(path), () => writeDurably(at(path), bytes)).catch(async (error) => {
        // A failure here must not hide the one that led here; what stays is invisible and swept later.
        await rm(at(path), { force: true }).catch(() => {});
        throw error;
      });
      return { stage: path, final, bytes: bytes.length, crc32: crc32(bytes) };
    },
    inspect: (file) =>
      attempt('read', at(file.final), async () => {
        const found = await ifThere(contentOf(at(file.final)));
        if (found === undefined) return 'nothing';
        return found.bytes === file.bytes && found.crc32 === asStaged(file).crc32 ? 'the file' : 'another';
      }),
    promote: (file) =>
      attempt('move a file to', at(file.final), () => renameDurably(at(asStaged(file).stage), at(file.final))),
    discard: (file) => remove(at(asStaged(file).stage)),
    async sweep(olderThanMs) {
      const names = (await attempt('list', at(directory), () => ifThere(readdir(at(directory))))) ?? [];
      for (const path of names.map((name) => at(join(directory, name)))) {
        const found = await ifThere(stat(path));
        if (found !== undefined && Date.now() - found.mtimeMs > olderThanMs) await remove(path);
      }
    },
    async check() {
      const probe = at(join(stagingDirectory, `probe~${randomUUID()}`));
      try {
        await attempt('write', probe, () => writeDurably(probe, new Uint8Array()));
        await remove(probe);
        return [];
      } catch (error) {
        return [(error as Error).message];
      }
    },
  };
};

/** Other rows come from a store of another kind, whose root this is not. */
const asStaged = (file: StagedFile) => file as Extract<StagedFile, { stage: string }>;

const writeDurably = async (path: string, bytes: Uint8Array): Promise<void> => {
  await makeDirectory(dirname(path));
  const handle = await open(path, 'wx');
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await syncDirectory(dirname(path));
};

const renameDurably = async (from: string, to: string): Promise<boolean> => {
  if (!(await exists(from))) {
    // Moved before, perhaps by a run that died before its move was durable.
    if (await exists(to)) await syncDirectory(dirname(to));
    else await access(dirname(from));
    return false;
  }
  await makeDirectory(dirname(to));
  // Another run may move it at the same time: it is gone then, which is an answer and no error.
  const moved = await ifThere(rename(from, to).then(() => true));
  await syncDirectory(dirname(to));
  return moved ?? false;
};

const remove = (path: string): Promise<void> => attempt('remove', path, () => rm(path, { force: true }));

const contentOf = async (path: string): Promise<{ readonly bytes: number; readonly crc32: number }> => {
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

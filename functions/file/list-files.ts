import { createHash } from 'node:crypto';
import { glob, readdir, stat } from 'node:fs/promises';
import { basename, join, matchesGlob, resolve, sep } from 'node:path';
import { fileError } from './local-file.ts';
import { isGlob } from './path-config.ts';
import type { FileSourceConfig } from './source-config.ts';

/**
 * The names that a local path stands for, in name order: those that a glob matches, the files below a directory without hidden ones
 * (which no wildcard matches either), or the path itself, whether it exists or not.
 */
export const listFiles = async ({ path, slice }: Pick<FileSourceConfig, 'path' | 'slice'>): Promise<string[]> => {
  if (!isGlob(path) && !(await isDirectory(path))) return [path];
  const names: string[] = [];
  for await (const name of isGlob(path) ? glob(path, { withFileTypes: false }) : await below(path))
    if (inSlice(name, slice)) names.push(name);
  // A name that is gone by now is no file either.
  const areFiles = await Promise.all(
    names.map((name) =>
      stat(name).then(
        (stats) => stats.isFile(),
        () => false,
      ),
    ),
  );
  return names.filter((_, i) => areFiles[i]).sort((a, b) => (a < b ? -1 : 1));
};

/** Whether the listing would have a file, which is in the directory of one that it has. */
export const isListed = ({ path, slice }: Pick<FileSourceConfig, 'path' | 'slice'>, name: string): boolean => {
  if (isGlob(path)) return matchesGlob(resolve(name), resolve(path)) && inSlice(name, slice);
  const isBelow = resolve(name).startsWith(`${resolve(path)}${sep}`);
  return isBelow && !basename(name).startsWith('.') && inSlice(name, slice);
};

const isDirectory = (path: string): Promise<boolean> =>
  stat(path).then(
    (stats) => stats.isDirectory(),
    // What is not there, or may not be looked at, is told when it is opened.
    () => path.endsWith('/'),
  );

const below = async (directory: string): Promise<string[]> => {
  const entries = await readdir(directory, { withFileTypes: true }).catch((cause) => {
    throw fileError(directory, cause);
  });
  const names: string[] = [];
  for (const entry of entries.filter(({ name }) => !name.startsWith('.'))) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) names.push(...(await below(path)));
    else names.push(path);
  }
  return names;
};

/**
 * Which task reads a file: by the hash of its path without what rotation adds to it (`.1`, `-20240229`, each perhaps `.gz`), so
 * that one task sees a file under its old and its new name.
 */
export const inSlice = (name: string, slice: FileSourceConfig['slice']): boolean => {
  if (slice === undefined || slice.of === 1) return true;
  const lasting = name.replace(/(\.\d+|-\d{8})(\.gz)?$/, '');
  return createHash('sha256').update(lasting).digest().readUInt32BE(0) % slice.of === slice.index;
};

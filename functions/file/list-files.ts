import { createHash } from 'node:crypto';
import { glob, stat } from 'node:fs/promises';
import { type FileSourceConfig, isGlob } from './source-config.ts';

/** The names that the config's path matches, in name order; a plain path is its own name, whether it exists or not. */
export const listFiles = async (config: FileSourceConfig): Promise<string[]> => {
  if (!isGlob(config.path)) return [config.path];
  const names: string[] = [];
  for await (const entry of glob(config.path, { withFileTypes: false }))
    if (inSlice(entry, config.slice)) names.push(entry);
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

/**
 * Which task reads a file: by the hash of its path without what rotation adds to it (`.1`, `-20240229`, each perhaps `.gz`), so
 * that one task sees a file under its old and its new name.
 */
export const inSlice = (name: string, slice: FileSourceConfig['slice']): boolean => {
  if (slice === undefined || slice.of === 1) return true;
  const lasting = name.replace(/(\.\d+|-\d{8})(\.gz)?$/, '');
  return createHash('sha256').update(lasting).digest().readUInt32BE(0) % slice.of === slice.index;
};

import type { Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Offsets, Position } from '../../shared/connect/connector.ts';
import { fileError } from './content.ts';
import { hasHead } from './identity.ts';
import { lostPosition, openHead } from './open-file.ts';
import { type FileOffset, isGlob } from './source-config.ts';

/** Where a partition's next bytes are. */
export interface Location {
  /** The partition. */
  readonly name: string;
  readonly path: string;
  /** Absent: from the start. */
  readonly after?: FileOffset;
  /** The file was moved away and its name belongs to another one by now: nothing is written behind its end any more. */
  readonly ended: boolean;
  /** The offset is that of the name the file had before: it must be committed before that name starts on its new file. */
  readonly adopted: boolean;
}

export interface Whereabouts {
  /** The config's path. */
  readonly path: string;
  readonly names: readonly string[];
  readonly offsets: Offsets<FileOffset>;
  /** By name, the inode of a file that was moved away and read to its end, which it had by then. */
  readonly finished: ReadonlyMap<string, number>;
  readonly signal: AbortSignal;
}

/**
 * Finds the file that a name's offset belongs to; undefined when nothing can have come since. A path names a file, and rotation
 * gives the name to another file:
 * - the old file is found by its inode in the same directory, and its rest is read first, as the name's own partition;
 * - unless its new name is matched too: then that name goes on with the offset (adopts it), and only when that is committed does the
 *   old name start over, so that no line is read twice.
 */
export const locate = async (
  name: string,
  where: Whereabouts,
  waiting: readonly string[] = [],
): Promise<Location | undefined> => {
  const stats = await statOf(name);
  if (stats === undefined) {
    // Matched by a glob a moment ago, and removed since.
    if (isGlob(where.path)) return undefined;
    throw fileError(name, Object.assign(new Error('no such file'), { code: 'ENOENT' }));
  }
  const own = where.offsets.get({ file: name });
  if (own === undefined) return stats.size === 0 ? undefined : startOf(name, stats, where);
  const here = { name, path: name, after: own, ended: false, adopted: false };
  if (own.identity.inode === stats.ino) return isUnchanged(own, stats) ? undefined : here;
  const moved = await findMoved(name, own, where.signal);
  // Not LOST_POSITION yet: a copy that was put back has another inode and the same bytes.
  if (moved === undefined) return here;
  const newName = where.names.find((other) => resolve(other) === resolve(moved));
  if (newName !== undefined) {
    if (where.offsets.get({ file: newName })?.identity.inode === own.identity.inode) return startOf(name, stats, where);
    if (waiting.includes(newName)) throw lostPosition(name, own, `it changed names with ${newName}`);
    return locate(newName, where, [...waiting, name]);
  }
  // While the new file is empty, whoever writes may still have the old one open.
  const ended = stats.size > 0;
  if (ended && where.finished.get(name) === own.identity.inode) return startOf(name, stats, where);
  const movedStats = await statOf(moved);
  if (!ended && movedStats !== undefined && isUnchanged(own, movedStats)) return undefined;
  return { ...here, path: moved, ended };
};

const isUnchanged = ({ end }: FileOffset, { size, mtimeMs }: Stats): boolean =>
  end !== undefined && end.size === size && end.mtimeMs === mtimeMs;

/** A file without an offset of its own: it starts at 0, unless it is the one that another name had before. */
const startOf = async (name: string, { ino }: Stats, { offsets, signal }: Whereabouts): Promise<Location> => {
  const start = { name, path: name, ended: false, adopted: false };
  for (const { partition, offset } of offsets.all()) {
    const before = String(partition.file);
    if (before === name || offset.identity.inode !== ino || (await statOf(before))?.ino === ino) continue;
    if (await isFileOf(name, offset, signal)) return { ...start, after: offset, adopted: true };
  }
  return start;
};

/** The path in the same directory of the file that the offset is of. */
const findMoved = async (name: string, offset: FileOffset, signal: AbortSignal): Promise<string | undefined> => {
  const directory = dirname(name);
  for (const entry of (await readdir(directory)).sort()) {
    const path = join(directory, entry);
    const stats = await statOf(path);
    if (stats?.ino === offset.identity.inode && stats.isFile() && (await isFileOf(path, offset, signal))) return path;
  }
  return undefined;
};

const isFileOf = async (path: string, offset: FileOffset, signal: AbortSignal): Promise<boolean> => {
  const { content, head } = await openHead(path, signal);
  await content.close();
  return hasHead(head, offset.identity);
};

const statOf = (path: string): Promise<Stats | undefined> =>
  stat(path).catch((cause) => {
    if (cause.code === 'ENOENT') return undefined;
    throw fileError(path, cause);
  });

/** Offsets with those of this poll over them. */
export const overlay = (
  offsets: Offsets<FileOffset>,
  newer: ReadonlyMap<string, Position<FileOffset>>,
): Offsets<FileOffset> => ({
  get: (partition) => newer.get(String(partition.file))?.offset ?? offsets.get(partition),
  *all() {
    yield* newer.values();
    for (const position of offsets.all()) if (!newer.has(String(position.partition.file))) yield position;
  },
});

import type { Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Offsets, Position } from '../../shared/connect/connector.ts';
import { hasHead } from './identity.ts';
import { fileError, openLocal } from './local-file.ts';
import { lostPosition, openHead } from './open-file.ts';
import type { FileOffset } from './source-config.ts';
import type { Location } from './store.ts';

export interface Whereabouts {
  /** The config's path. */
  readonly path: string;
  readonly names: readonly string[];
  /** Whether the path names a file that is not in `names`, because it got there since: then it is added. */
  addName(name: string): boolean;
  readonly offsets: Offsets<FileOffset>;
  /** By name, the inode of a file that was moved away and read to its end, which it had by then. */
  readonly finished: Map<string, number>;
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
    // Listed a moment ago, and removed since.
    if (name !== where.path) return undefined;
    throw fileError(name, Object.assign(new Error('no such file'), { code: 'ENOENT' }));
  }
  const own = where.offsets.get({ file: name });
  if (own === undefined) return stats.size === 0 ? undefined : startOf(name, stats, where);
  const here = locationOf(name, name, { after: own });
  if (inodeOf(own) === stats.ino) return isUnchanged(own, stats) ? undefined : here;
  const moved = await findMoved(name, own, where.signal);
  if (moved === undefined) {
    // Not LOST_POSITION yet: a copy that was put back has another inode and the same bytes.
    if (own.end === undefined) return here;
    if (stats.size === 0) return undefined;
    // The last one of a rotation, removed after it was read: the one before it has its name now.
    const start = await startOf(name, stats, where);
    return start.adopted ? start : here;
  }
  if (await isTakenOver(name, own, moved, where)) return startOf(name, stats, where);
  const movedStats = await statOf(moved);
  // Nothing to go on with, under whatever name.
  if (movedStats?.size === 0) return stats.size === 0 ? undefined : startOf(name, stats, where);
  const listed = where.names.find((one) => resolve(one) === resolve(moved));
  const newName = listed ?? (where.addName(moved) ? moved : undefined);
  if (newName !== undefined) {
    const other = where.offsets.get({ file: newName });
    if (other !== undefined && inodeOf(other) === inodeOf(own)) return startOf(name, stats, where);
    if (waiting.includes(newName)) throw lostPosition(name, own, `it changed names with ${newName}`);
    return locate(newName, where, [...waiting, name]);
  }
  // While the new file is empty, whoever writes may still have the old one open.
  const ended = stats.size > 0;
  if (ended && where.finished.get(name) === inodeOf(own)) return startOf(name, stats, where);
  if (!ended && movedStats !== undefined && isUnchanged(own, movedStats)) return undefined;
  return locationOf(name, moved, { after: own, ended, onDrained: () => where.finished.set(name, inodeOf(own)!) });
};

const locationOf = (name: string, path: string, more: Partial<Location> = {}): Location => ({
  name,
  path,
  ended: false,
  adopted: false,
  open: () => openLocal(path),
  ...more,
});

const inodeOf = ({ identity }: FileOffset): number | undefined => ('inode' in identity ? identity.inode : undefined);

const isUnchanged = ({ end }: FileOffset, { size, mtimeMs }: Stats): boolean =>
  end !== undefined && end.size === size && end.mtimeMs === mtimeMs;

/** The offsets of one file, under whatever name it was read, the furthest first. */
const offsetsOfInode = ({ offsets }: Whereabouts, inode: number): readonly Position<FileOffset>[] =>
  [...offsets.all()]
    .filter(({ offset }) => inodeOf(offset) === inode)
    .sort((a, b) => b.offset.position - a.offset.position || (nameOf(a) < nameOf(b) ? 1 : -1));

const nameOf = ({ partition }: Position<FileOffset>): string => String(partition.file);

/** Whether another name went on with a name's offset, which is still there because nothing has come under the name itself since. */
const isTakenOver = async (name: string, own: FileOffset, path: string, where: Whereabouts): Promise<boolean> => {
  for (const position of offsetsOfInode(where, inodeOf(own)!)) {
    if (nameOf(position) === name) return false;
    // An inode is used again.
    if (await isFileOf(path, position.offset, where.signal)) return true;
  }
  return false;
};

/** A file without an offset of its own: it starts at 0, unless it is the one that another name had before. */
const startOf = async (name: string, { ino }: Stats, where: Whereabouts): Promise<Location> => {
  for (const before of offsetsOfInode(where, ino)) {
    if (nameOf(before) === name || (await statOf(nameOf(before)))?.ino === ino) continue;
    if (await isFileOf(name, before.offset, where.signal))
      return locationOf(name, name, { after: before.offset, adopted: true });
  }
  return locationOf(name, name);
};

/** The path in the same directory of the file that the offset is of. */
const findMoved = async (name: string, offset: FileOffset, signal: AbortSignal): Promise<string | undefined> => {
  const directory = dirname(name);
  for (const entry of (await readdir(directory)).sort()) {
    const path = join(directory, entry);
    const stats = await statOf(path);
    if (
      stats !== undefined &&
      stats.ino === inodeOf(offset) &&
      stats.isFile() &&
      (await isFileOf(path, offset, signal))
    )
      return path;
  }
  return undefined;
};

const isFileOf = async (path: string, offset: FileOffset, signal: AbortSignal): Promise<boolean> => {
  const { content, head } = await openHead(await openLocal(path), signal);
  await content.close();
  return hasHead(offset.identity, head);
};

const statOf = (path: string): Promise<Stats | undefined> =>
  stat(path).catch((cause) => {
    if (cause.code === 'ENOENT') return undefined;
    throw fileError(path, cause);
  });

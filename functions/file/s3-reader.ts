import { posix } from 'node:path';
import { type Offsets, partitionKey } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { S3, S3Object } from '../../shared/s3/client.ts';
import { inSlice } from './list-files.ts';
import { lostPosition } from './open-file.ts';
import { isGlob, isMany, parseS3, s3Place } from './path-config.ts';
import { anotherObject, getFirstRange, openObject } from './s3-object.ts';
import type { FileOffset, FileSourceConfig } from './source-config.ts';
import type { FileReader, FoundFile, Location } from './store.ts';

/** Objects under a prefix, or that a glob matches, or one. Each is a partition `{ file: 's3://bucket/key' }` with an offset of its own. */
export const s3Reader = (s3: S3, { path, slice }: Pick<FileSourceConfig, 'path' | 'slice'>): FileReader => {
  const { bucket, prefix } = s3Place(path)!;
  const { key: pattern } = parseS3(path)!;
  const nameOf = (key: string) => `s3://${bucket}/${key}`;
  const isBelow = (key: string): boolean => key.startsWith(prefix) && !/(^|\/)\./.test(key.slice(prefix.length));
  const isMatch = (key: string): boolean => {
    if (!isMany(path)) return key === pattern;
    return isGlob(path) ? posix.matchesGlob(key, pattern) : isBelow(key);
  };
  /** As of files: nothing hidden, which no wildcard matches either, and no marker of a folder. */
  const isWanted = (key: string): boolean => isMatch(key) && !key.endsWith('/') && inSlice(nameOf(key), slice);

  async function* pages(signal: AbortSignal): AsyncGenerator<readonly S3Object[]> {
    if (isMany(path)) {
      for await (const page of s3.list(bucket, prefix, { signal })) yield page.filter(({ key }) => isWanted(key));
      return;
    }
    const object = await s3.head(bucket, pattern, { signal });
    if (object === undefined)
      throw new ConnectError(
        'NOT_FOUND',
        `${path} does not exist; put it there, or correct \`path\` (for every object below it: ${path}/)`,
        { retriable: true },
      );
    yield [object];
  }

  const locate = (object: S3Object, offsets: Offsets<FileOffset>): Location | undefined => {
    const name = nameOf(object.key);
    const own = offsets.get({ file: name });
    if (isDone(object, own)) return undefined;
    const isNew = own === undefined || own.end !== undefined;
    if (!isNew && !isOf(own, object)) throw lostPosition(name, own, anotherObject(object));
    return {
      name,
      path: name,
      ...(isNew ? {} : { after: own }),
      ended: false,
      adopted: false,
      async open(signal) {
        const first = await getFirstRange(s3, bucket, object.key, signal);
        if (first !== undefined) return openObject(s3, bucket, object.key, first);
        if (isNew) return undefined;
        throw gone(name, own);
      },
    };
  };

  /** What was begun and not read to its end, by name. */
  const unfinishedIn = (offsets: Offsets<FileOffset>): Map<string, FileOffset> => {
    const unfinished = new Map<string, FileOffset>();
    for (const { partition, offset } of offsets.all()) {
      const { bucket: other, key } = parseS3(String(partition.file)) ?? {};
      // Another path's, from before the config was changed, or another task's.
      if (offset.end === undefined && other === bucket && isWanted(key!))
        unfinished.set(String(partition.file), offset);
    }
    return unfinished;
  };

  return {
    async *list(offsets, signal) {
      const unfinished = unfinishedIn(offsets);
      for await (const page of pages(signal)) {
        const found: FoundFile[] = [];
        for (const object of page) {
          const name = nameOf(object.key);
          unfinished.delete(name);
          if (!isDone(object, offsets.get({ file: name })))
            found.push({ name, locate: async (now) => locate(object, now) });
        }
        if (found.length > 0) yield found;
      }
      for (const [name, offset] of unfinished) throw gone(name, offset);
    },
    async check(signal) {
      if (!isMany(path)) return [];
      const tried = await Promise.allSettled([
        s3.list(bucket, prefix, { signal })[Symbol.asyncIterator]().next(),
        s3.head(bucket, `${prefix}.sluice-check`, { signal }),
      ]);
      return tried.flatMap((one) => (one.status === 'rejected' ? [(one.reason as Error).message] : []));
    },
    async close() {},
  };
};

const isOf = ({ identity }: FileOffset, { etag, size }: S3Object): boolean =>
  'etag' in identity && identity.etag === etag && identity.size === size;

/** Nothing to open it for. What has taken the place of an object that was read whole is a new one. */
const isDone = (object: S3Object, own: FileOffset | undefined): boolean =>
  own === undefined ? object.size === 0 : own.end !== undefined && (object.size === 0 || isOf(own, object));

/** Invariant 7: the rest of it is never passed over in silence. */
const gone = (name: string, { position, line }: FileOffset): ConnectError =>
  new ConnectError(
    'NOT_FOUND',
    `${name} was read up to byte ${position} (line ${line}) and is there no more: put it back, ` +
      `or go on without the rest by \`sluice offsets set <connector> '${partitionKey({ file: name })}' null\``,
    { retriable: true },
  );

import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { noSuchUpload, S3Error } from './s3-error.ts';
import { compareKeys, requireStorable, type S3Store, type Staged, type StoredObject } from './s3-store.ts';

export interface Upload {
  readonly uploadId: string;
  readonly bucket: string;
  readonly key: string;
  readonly startedMs: number;
}

export interface Part {
  readonly partNumber: number;
  readonly etag: string;
  readonly size: number;
}

/** Multipart uploads as directories beside the buckets: they outlive a run until they are completed or aborted. */
export interface S3Uploads {
  create(bucket: string, key: string): Promise<string>;
  putPart(upload: Pick<Upload, 'uploadId' | 'bucket' | 'key'>, partNumber: number, staged: Staged): Promise<void>;
  /** All parts in one object, named by its bytes like every other one here. */
  complete(
    upload: Pick<Upload, 'uploadId' | 'bucket' | 'key'>,
    parts: readonly Omit<Part, 'size'>[],
    options: { ifAbsent: boolean },
  ): Promise<StoredObject>;
  abort(upload: Pick<Upload, 'uploadId' | 'bucket' | 'key'>): Promise<void>;
  /** By key, then by upload. */
  list(bucket: string, prefix: string): Promise<Upload[]>;
  parts(upload: Pick<Upload, 'uploadId' | 'bucket' | 'key'>): Promise<Part[]>;
}

const DIRECTORY = '.uploads';
const RECORD = 'upload.json';
const LEAST_PART_BYTES = 5 << 20;

export function createS3Uploads(root: string, store: S3Store): S3Uploads {
  const directoryOf = (uploadId: string): string => join(root, DIRECTORY, uploadId);

  async function read(uploadId: string): Promise<Upload | undefined> {
    try {
      return JSON.parse(await readFile(join(directoryOf(uploadId), RECORD), 'utf8')) as Upload;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  async function require(upload: Pick<Upload, 'uploadId' | 'bucket' | 'key'>): Promise<string> {
    await store.requireBucket(upload.bucket);
    const found = /^[\w-]+$/.test(upload.uploadId) ? await read(upload.uploadId) : undefined;
    if (found?.bucket !== upload.bucket || found.key !== upload.key) throw noSuchUpload();
    return directoryOf(upload.uploadId);
  }

  async function partsIn(directory: string): Promise<(Part & { readonly path: string })[]> {
    const names = (await readdir(directory)).filter((name) => name.startsWith('part-'));
    return Promise.all(
      names.sort().map(async (name) => {
        const path = join(directory, name);
        const [, partNumber, etag] = /^part-(\d+)-(.+)$/.exec(name)!;
        return { partNumber: Number(partNumber), etag: etag!, size: (await stat(path)).size, path };
      }),
    );
  }

  return {
    async create(bucket, key) {
      await store.requireBucket(bucket);
      requireStorable(key);
      const uploadId = randomUUID();
      // Whole or not there, as what is named by the id is looked up by it.
      const staged = directoryOf(`${uploadId}.new`);
      await mkdir(staged, { recursive: true });
      await writeFile(
        join(staged, RECORD),
        JSON.stringify({ uploadId, bucket, key, startedMs: Date.now() } satisfies Upload),
      );
      await rename(staged, directoryOf(uploadId));
      return uploadId;
    },
    async putPart(upload, partNumber, staged) {
      try {
        const directory = await require(upload);
        const earlier = (await partsIn(directory)).filter((part) => part.partNumber === partNumber);
        const name = `part-${String(partNumber).padStart(5, '0')}-${staged.md5.toString('hex')}`;
        await rename(staged.path, join(directory, name));
        for (const { path } of earlier) if (path !== join(directory, name)) await rm(path, { force: true });
      } finally {
        await store.discard(staged);
      }
    },
    async complete(upload, listed, options) {
      const directory = await require(upload);
      const there = await partsIn(directory);
      if (listed.some(({ partNumber }, index) => index > 0 && partNumber <= listed[index - 1]!.partNumber))
        throw new S3Error('InvalidPartOrder', 400, 'the parts must be listed in the order of their numbers');
      const chosen = listed.map(({ partNumber, etag }, index) => {
        const part = there.find((one) => one.partNumber === partNumber && one.etag === etag);
        if (part === undefined)
          throw new S3Error('InvalidPart', 400, `part ${partNumber} with the etag ${etag} was not uploaded`);
        if (index < listed.length - 1 && part.size < LEAST_PART_BYTES)
          throw new S3Error(
            'EntityTooSmall',
            400,
            `part ${partNumber} has ${part.size} bytes: only the last may have less than 5 MB`,
          );
        return part;
      });
      if (chosen.length === 0) throw new S3Error('MalformedXML', 400, 'the upload is completed without a part');
      const staged = await store.stage(contentOf(chosen.map(({ path }) => path)));
      const object = await store.place(upload.bucket, upload.key, staged, options);
      await rm(directory, { recursive: true, force: true });
      return object;
    },
    async abort(upload) {
      await rm(await require(upload), { recursive: true, force: true });
    },
    async list(bucket, prefix) {
      await store.requireBucket(bucket);
      const ids = await readdir(join(root, DIRECTORY)).catch(() => []);
      const uploads = await Promise.all(ids.filter((id) => !id.includes('.')).map(read));
      return uploads
        .filter((upload) => upload !== undefined)
        .filter((upload) => upload.bucket === bucket && upload.key.startsWith(prefix))
        .sort((a, b) => compareKeys(a.key, b.key) || (a.uploadId < b.uploadId ? -1 : 1));
    },
    parts: async (upload) => partsIn(await require(upload)),
  };
}

async function* contentOf(paths: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const path of paths) yield* createReadStream(path) as AsyncIterable<Uint8Array>;
}

import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { directoryStore, s3Store } from '../../../../functions/file/open-store.ts';
import type { FileStore, FileWriter } from '../../../../functions/file/store.ts';
import { ConnectError } from '../../../../shared/connect/errors.ts';
import { type Bucket, keysIn } from '../s3-bucket.ts';
import { type FileRow, readRows, rowsOf, stagedFiles, temporaryDirectory, visibleFiles } from './read-files.ts';

/** Where a run of a place's operations ends, and how much of that one was done. */
export interface Crash {
  readonly at: number;
  readonly how: 'before' | 'half' | 'after';
}

/** An empty place for a sink, and what a reader, an operator and a crash may do there. */
export interface Place {
  /** For the config. */
  readonly path: string;
  readonly store: FileStore;
  /** How a process can die in one of its operations. */
  readonly hows: readonly Crash['how'][];
  /** The place to a process that dies at one of its operations: nothing it asks for later happens either. */
  dying(process: DyingProcess): FileStore;
  rows(): Promise<FileRow[]>;
  /** What a reader sees, relative to the path, in the order of names. */
  visible(): Promise<string[]>;
  take(file: string): Promise<void>;
  read(file: string): Promise<string>;
  overwrite(file: string, text: string): Promise<void>;
  staged(): Promise<string[]>;
  /** As a sweep, or a rule of the bucket, would. */
  unstage(): Promise<void>;
  remove(): Promise<void>;
}

export type DyingProcess = ReturnType<typeof dyingProcess>;

export const dyingProcess = (crash: Crash) => {
  let count = 0;
  const dead = () => new ConnectError('UNEXPECTED', 'the process is dead');
  return {
    died: () => count > crash.at,
    async step<T>(work: () => Promise<T>, half?: () => Promise<unknown>): Promise<T> {
      const now = count++;
      if (now > crash.at) throw dead();
      if (now < crash.at) return work();
      if (crash.how === 'half') await half?.();
      if (crash.how === 'after') await work();
      throw dead();
    },
  };
};

/** Each asynchronous method is a place to die. */
const dyingAt = <T extends object>(real: T, { step }: DyingProcess, halves: Partial<T> = {}): T =>
  new Proxy(real, {
    get(target, name) {
      const member = Reflect.get(target, name);
      const half = Reflect.get(halves, name);
      // What answers at once never leaves the process.
      if (typeof member !== 'function' || name === 'markOf') return member;
      return (...args: unknown[]) =>
        step(
          () => member.apply(target, args),
          half && (() => (half as (...all: unknown[]) => Promise<unknown>)(...args)),
        );
    },
  });

export const withWriter = (store: FileStore, change: (real: FileWriter) => Partial<FileWriter>): FileStore => ({
  ...store,
  writer(root, own) {
    const real = store.writer(root, own);
    return { ...real, ...change(real) };
  },
});

export const directoryPlace = async (): Promise<Place> => {
  const { path, remove } = await temporaryDirectory();
  return {
    path,
    store: directoryStore,
    hows: ['before', 'half', 'after'],
    dying: (process) =>
      withWriter(directoryStore, (real) =>
        dyingAt(real, process, {
          stage: (file, bytes, signal) => real.stage(file, bytes.subarray(0, bytes.length >> 1), signal),
        }),
      ),
    rows: () => readRows(path),
    visible: () => visibleFiles(path),
    take: (file) => rm(join(path, file)),
    read: (file) => readFile(join(path, file), 'utf8'),
    async overwrite(file, text) {
      await mkdir(dirname(join(path, file)), { recursive: true });
      await writeFile(join(path, file), text);
    },
    staged: () => stagedFiles(path),
    async unstage() {
      for (const file of await stagedFiles(path)) await rm(file);
    },
    remove,
  };
};

/** Every request is an operation of its own. */
export const s3Place = ({ s3, name }: Bucket, prefix = 'lake/'): Place => {
  const visible = async () => (await keysIn({ s3, name }, prefix)).map((key) => key.slice(prefix.length));
  const uploads = () => s3.listUploads(name, prefix);
  return {
    path: `s3://${name}/${prefix}`,
    store: s3Store(s3),
    hows: ['before', 'after'],
    dying: (process) => s3Store(dyingAt(s3, process)),
    async rows() {
      const rows: FileRow[] = [];
      for (const file of await visible())
        rows.push(...(await rowsOf(file, (await s3.get(name, `${prefix}${file}`))!.bytes)));
      return rows;
    },
    visible,
    take: (file) => s3.delete(name, `${prefix}${file}`),
    read: async (file) => Buffer.from((await s3.get(name, `${prefix}${file}`))!.bytes).toString(),
    overwrite: async (file, text) => void (await s3.put(name, `${prefix}${file}`, Buffer.from(text))),
    staged: async () => (await uploads()).map(({ key, uploadId }) => `${key} ${uploadId}`),
    async unstage() {
      for (const { key, uploadId } of await uploads()) await s3.abortUpload(name, key, uploadId);
    },
    async remove() {
      for (const file of await visible()) await s3.delete(name, `${prefix}${file}`);
      for (const { key, uploadId } of await uploads()) await s3.abortUpload(name, key, uploadId);
    },
  };
};

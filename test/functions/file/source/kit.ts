import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as z from 'zod';
import { fileSource } from '../../../../functions/file/file-source.ts';
import type { FileOffset, FileSourceConfig } from '../../../../functions/file/source-config.ts';
import type { Budget, Partition, Poll, Position } from '../../../../shared/connect/connector.ts';
import type { Value } from '../../../../shared/connect/schema.ts';
import { copyOf } from '../../../kit/source-runner.ts';

export type Config = z.input<typeof FileSourceConfig>;

export const inDirectory = async <T>(use: (directory: string) => Promise<T>): Promise<T> => {
  const directory = await mkdtemp(join(tmpdir(), 'sluice-file-source-'));
  try {
    return await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
};

const contextOf = (config: Config) => ({
  connector: 'c',
  incarnation: 'i',
  deployment: 'd',
  taskId: 0,
  tasks: 1,
  config: fileSource.config.parse(config),
  signal: new AbortController().signal,
});

export const openSource = (config: Config, source = fileSource) => source.open(contextOf(config));

export const checkSource = (config: Config, source = fileSource) => source.check!(contextOf(config));

export type Stands = Map<string, Position<FileOffset>>;

export const offsetsOf = (stands: Stands) => ({
  get: ({ file }: Partition) => stands.get(String(file))?.offset,
  all: () => stands.values(),
});

export const advance = (stands: Stands, poll: Poll<FileOffset>) => {
  for (const one of poll.offsets) stands.set(String(one.partition.file), JSON.parse(JSON.stringify(one)));
};

export interface Read {
  readonly values: Value[];
  readonly keys: Value[];
  /** As file:line and problem. */
  readonly errors: string[];
  readonly raws: string[];
  /** For each rejected one, the good records before it. */
  readonly indices: number[];
  readonly stands: Stands;
}

/** Reads to the end in one task. */
export const readAll = async (
  config: Config,
  limits: Partial<Budget> = {},
  stands: Stands = new Map(),
  source = fileSource,
): Promise<Read> => {
  const read: Read = { values: [], keys: [], errors: [], raws: [], indices: [], stands };
  const task = await openSource(config, source);
  try {
    for (let caughtUp = false; !caughtUp; ) {
      const signal = new AbortController().signal;
      const poll = await task.poll(offsetsOf(stands), { maxRecords: 1_000, maxBytes: 1 << 20, signal, ...limits });
      for (const { error, raw, index } of poll.rejected ?? []) {
        read.errors.push(error.message);
        read.raws.push(Buffer.from(raw!).toString('latin1'));
        read.indices.push(read.values.length + index);
      }
      for (const { value, key } of poll.batch) {
        read.values.push(copyOf(value));
        read.keys.push(copyOf(key));
      }
      advance(stands, poll);
      ({ caughtUp } = poll);
    }
  } finally {
    await task.close();
  }
  return read;
};

/** Reads one file of this content. */
export const readContent = (
  name: string,
  content: string | Uint8Array,
  config: Omit<Config, 'path'> = {},
  limits: Partial<Budget> = {},
): Promise<Read> =>
  inDirectory(async (directory) => {
    const path = join(directory, name);
    await writeFile(path, content);
    const read = await readAll({ path, ...config }, limits);
    return { ...read, errors: read.errors.map((error) => error.replace(`${directory}/`, '')) };
  });

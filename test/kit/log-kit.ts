import { randomBytes, randomUUID } from 'node:crypto';
import { batchOf, type RecordInput } from '../../shared/connect/build.ts';
import type { Budget, OffsetCommit, Poll } from '../../shared/connect/connector.ts';
import type { Value } from '../../shared/connect/schema.ts';
import { type AppendOptions, logAppender } from '../../shared/log/append.ts';
import type { ObjectStore } from '../../shared/log/objects.ts';
import { type LogOffset, logSource } from '../../shared/log/read.ts';
import { createLedger } from '../../shared/runtime/ledger.ts';
import { headKey, logPk, segmentSk } from '../../shared/state/keys.ts';
import { commitOffsets, loadProgress } from '../../shared/state/offsets.ts';
import type { Item, Table } from '../../shared/state/table.ts';

/** What a topic log lives in. */
export interface LogStore {
  readonly table: Table;
  readonly objects: ObjectStore;
}

export interface ReadRecord {
  readonly topic: string;
  readonly key: Value;
  readonly n: number;
}

/** Text that no compression makes shorter, so that a test decides whether a body is inline. */
export const noise = (bytes: number): string => randomBytes(bytes).toString('base64');

/** A record with a key and a number; `bytes` makes it large. */
export const numbered = (n: number, { topic = 't', key = 'k' as Value, bytes = 0 } = {}): RecordInput => ({
  topic,
  key,
  value: { n, pad: noise(bytes) },
});

export const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

type WriterOptions = Pick<AppendOptions, 'now' | 'topicDefaults'> & { readonly connector?: string };

/** A source's side of the log: one partition, its offset read from the table at each append as a fresh run would. */
export const openWriter = ({ table, objects }: LogStore, { connector = 'writer', ...options }: WriterOptions = {}) => {
  const owner = { connector, incarnation: 'i1' };
  const appender = logAppender({ table, objects, owner, ...options });
  const partition = { source: connector };
  const commitAt = (seq: number, offset: unknown = { seq }, writeId: string = randomUUID()): OffsetCommit => ({
    key: JSON.stringify(partition),
    partition,
    offset,
    seq,
    writeId,
  });
  const stored = async () => (await loadProgress(table, owner)).offsets[0];
  return {
    ...appender,
    owner,
    commitAt,
    stored,
    async send(records: readonly RecordInput[], offset?: unknown): Promise<void> {
      const seq = (await stored())?.seq ?? 0;
      await appender.append(batchOf(records), [commitAt(seq, offset)]);
    },
  };
};

interface ReaderOptions {
  readonly topics?: readonly string[];
  readonly task?: number;
  readonly tasks?: number;
  readonly connector?: string;
  readonly now?: () => number;
  /** All polls are of one run. */
  readonly oneRun?: boolean;
}

export const unlimited: Budget = { maxRecords: 1e6, maxBytes: 1e9, signal: new AbortController().signal };

/** A sink's side of the log. Every poll is by a new run, which knows only what is committed; with `oneRun` it has read before. */
export const openReader = (store: LogStore, options: ReaderOptions = {}) => {
  const { topics = ['t'], task = 0, tasks = 1, connector = 'reader', oneRun = false, ...rest } = options;
  const owner = { connector, incarnation: 'i1' };
  const newSource = () => logSource({ ...store, topics, task, tasks, ...rest });
  const ofAllPolls = oneRun ? newSource() : undefined;
  const poll = async (limits: Partial<Budget> = {}) => {
    const ledger = createLedger((await loadProgress(store.table, owner)).offsets);
    const source = ofAllPolls ?? newSource();
    const polled = await source.poll(ledger.polled as never, { ...unlimited, ...limits });
    const commit = () => commitOffsets(store.table, owner, ledger.commitsFor(polled.offsets, randomUUID()));
    return { records: recordsOf(polled), poll: polled, commit };
  };
  return {
    owner,
    poll,
    /** Polls and commits until there is nothing more. */
    async drain(limits: Partial<Budget> = {}): Promise<ReadRecord[]> {
      const all: ReadRecord[] = [];
      for (;;) {
        const { records, poll: polled, commit } = await poll(limits);
        all.push(...records);
        await commit();
        if (polled.caughtUp) return all;
      }
    },
    more: async () => {
      const ledger = createLedger((await loadProgress(store.table, owner)).offsets);
      return newSource().more!(ledger.polled as never);
    },
  };
};

export const recordsOf = ({ batch }: Poll<LogOffset>): ReadRecord[] =>
  Array.from(batch, ({ topic, key, value }) => ({ topic, key, n: (value as { n: number }).n }));

export const numbersOf = (records: readonly ReadRecord[]): number[] => records.map(({ n }) => n);

export const headOf = async ({ table }: LogStore, queue = 0, generation = 0, topic = 't'): Promise<Item> =>
  (await table.get(headKey(topic, generation, queue)))!;

export const segmentsOf = ({ table }: LogStore, queue = 0, generation = 0, topic = 't'): Promise<readonly Item[]> =>
  table.query(logPk(topic, generation, queue), { to: segmentSk(Number.MAX_SAFE_INTEGER) });

/** Counts and names what is put; `damage` changes what is read back. */
export const watchedObjects = (objects: ObjectStore) => {
  const names: string[] = [];
  let change: (bytes: Uint8Array) => Uint8Array | undefined = (bytes) => bytes;
  return {
    names,
    damage(how: typeof change) {
      change = how;
    },
    async put(name: string, bytes: Uint8Array) {
      names.push(name);
      await objects.put(name, bytes);
    },
    async get(name: string, start: number, length: number) {
      const bytes = await objects.get(name, start, length);
      return bytes && change(bytes);
    },
  };
};

/** A table on which any write fails the test. */
export const readOnly = (table: Table): Table => ({
  ...table,
  write: (writes) => Promise.reject(new Error(`a write of ${JSON.stringify(writes)}`)),
});

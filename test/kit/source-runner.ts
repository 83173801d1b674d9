import { inspect } from 'node:util';
import { expect } from 'vitest';
import type * as z from 'zod';
import {
  type Offsets,
  type Partition,
  type Poll,
  type Position,
  partitionKey,
  type SourceConnector,
  type SourceTask,
} from '../../shared/connect/connector.ts';
import { ExactNumber, type Value } from '../../shared/connect/schema.ts';

/** A record as it must come out of the source. */
export interface ExpectedRecord {
  readonly topic: string;
  readonly key: Value;
  readonly value: Value;
}

/** A source and an upstream of its own, made anew for each test of the suite. */
export interface SourceFixture<Schema extends z.ZodType = z.ZodType, Offset = unknown> {
  readonly source: SourceConnector<Schema, Offset>;
  readonly config: z.input<Schema>;
  /** What the upstream holds, at least ten records; those of one partition in its order. */
  readonly expected: readonly ExpectedRecord[];
  /** Adds records upstream and gives them. */
  more?(): Promise<readonly ExpectedRecord[]>;
  /** Swaps the upstream for another one that looks alike: no offset of the first holds for it. */
  replace?(): Promise<void>;
  cleanup?(): Promise<void>;
}

/** A record as it came, and where to resume after it. */
export interface Delivered extends ExpectedRecord, Position<unknown> {}

export interface Limits {
  readonly maxRecords?: number;
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
}

/** A whole reading of the upstream. */
export interface Reading {
  readonly records: readonly Delivered[];
  readonly offsets: OffsetMap;
  /** What is committed when so many of the records are. */
  upTo(count: number): OffsetMap;
}

export type OffsetMap = Map<string, Position<unknown>>;

export const offsetsOf = (map: OffsetMap): Offsets<unknown> => ({
  get: (partition: Partition) => map.get(partitionKey(partition))?.offset,
  all: () => map.values(),
});

/** A decoded value is a new object already, all but its bytes. */
export const copyOf = (value: Value): Value => {
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (Array.isArray(value)) return value.map(copyOf);
  if (value === null || typeof value !== 'object' || value instanceof ExactNumber) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, copyOf(inner as Value)]));
};

/**
 * The records of a poll, copied out of its buffers. Without the ends of transactions: which of them are told depends on how polls are
 * cut (`describe-transactions.ts` holds where they stand).
 */
export const recordsOf = (poll: Poll<unknown>): Delivered[] =>
  withEnds(poll).filter(({ value }) => (value as { readonly event?: Value } | null)?.event !== 'commit');

export const withEnds = (poll: Poll<unknown>): Delivered[] =>
  Array.from(poll.batch, ({ topic, key, value }, index) => {
    // Named one by one: a position may be an object that holds more, such as the record it was made of.
    const { partition, offset } = poll.position(index);
    return { topic, key: copyOf(key), value: copyOf(value), partition, offset };
  });

/** Equal for equal records; tells 5 from 5n and null from missing. */
export const textOf = ({ topic, key, value }: ExpectedRecord): string =>
  inspect({ topic, key, value }, { depth: null, sorted: true, maxArrayLength: null, maxStringLength: null });

/** More polls than any fixture needs: a source that is never caught up fails instead of running for ever. */
const maxPolls = 5_000;

export const createRunner = ({ source, config }: SourceFixture, { taskId, tasks } = { taskId: 0, tasks: 1 }) => {
  const parsed = source.config.parse(config);
  const self = { connector: 'contract', incarnation: 'i1', deployment: 'test', taskId, tasks };
  const open = (): Promise<SourceTask<unknown>> =>
    source.open({ ...self, config: parsed, signal: new AbortController().signal });

  /** An offset as the state table gives it back. */
  const stored = ({ partition, offset }: Position<unknown>): Position<unknown> => ({
    partition,
    offset: source.offset.parse(JSON.parse(JSON.stringify(offset))),
  });

  const advance = (offsets: OffsetMap, positions: Iterable<Position<unknown>>): OffsetMap => {
    for (const position of positions) offsets.set(partitionKey(position.partition), stored(position));
    return offsets;
  };

  const pollOnce = (task: SourceTask<unknown>, offsets: OffsetMap, limits: Limits = {}): Promise<Poll<unknown>> =>
    task.poll(offsetsOf(offsets), {
      maxRecords: limits.maxRecords ?? 1_000,
      maxBytes: limits.maxBytes ?? 4 * 1024 * 1024,
      signal: limits.signal ?? new AbortController().signal,
    });

  /** Polls until caught up, from these offsets on; `look` sees every poll. */
  const readAll = async (
    task: SourceTask<unknown>,
    from: OffsetMap = new Map(),
    limits: Limits = {},
    look: (poll: Poll<unknown>) => void = () => {},
  ): Promise<Reading> => {
    const records: Delivered[] = [];
    const offsets: OffsetMap = new Map(from);
    const ends: { readonly count: number; readonly offsets: Poll<unknown>['offsets'] }[] = [];
    const upTo = (count: number): OffsetMap => {
      const committed: OffsetMap = new Map(from);
      let before = 0;
      for (const end of ends.filter((one) => one.count <= count)) {
        advance(committed, end.offsets);
        before = end.count;
      }
      return advance(committed, records.slice(before, count));
    };
    for (let polls = 0; polls < maxPolls; polls++) {
      const poll = await pollOnce(task, offsets, limits);
      look(poll);
      expect(poll.rejected ?? [], 'rejected').toEqual([]);
      records.push(...recordsOf(poll));
      advance(offsets, poll.offsets);
      ends.push({ count: records.length, offsets: poll.offsets });
      if (poll.caughtUp) return { records, offsets, upTo };
    }
    throw new Error(`not caught up after ${maxPolls} polls`);
  };

  const withTask = async <T>(use: (task: SourceTask<unknown>) => Promise<T>): Promise<T> => {
    const task = await open();
    try {
      return await use(task);
    } finally {
      await task.close();
    }
  };

  return { open, pollOnce, readAll, withTask, advance };
};

/** The records are exactly these, and those of one partition come in the same order. */
export const expectRecords = (delivered: readonly Delivered[], expected: readonly ExpectedRecord[]): void => {
  const texts = delivered.map(textOf);
  const wanted = expected.map(textOf);
  expect(texts.toSorted()).toEqual(wanted.toSorted());
  for (const part of partitionsOf(delivered)) {
    let at = 0;
    for (const text of part.map(textOf)) {
      const found = wanted.indexOf(text, at);
      if (found < 0) throw new Error(`out of order in partition ${partitionKey(part[0]!.partition)}: ${text}`);
      at = found + 1;
    }
  }
};

/** The records partition by partition: what is compared where the order between partitions is free. */
export const partitionsOf = (records: readonly Delivered[]): Delivered[][] => [
  ...Map.groupBy(records, ({ partition }) => partitionKey(partition)).values(),
];

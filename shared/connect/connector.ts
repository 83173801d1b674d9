import type * as z from 'zod';
import type { RecordBatch } from './batch.ts';
import { batchOf, type RecordInput } from './build.ts';
import type { Tells, WantedOrder } from './control.ts';
import { type ConnectError, toConnectError } from './errors.ts';
import { isPlainObject } from './fit.ts';
import { canonicalJson } from './json.ts';
import type { Value } from './schema.ts';
import type { Verification } from './verify.ts';

/**
 * What one poll may take, and when it must stop. `maxRecords` holds exactly. `maxBytes` is soft: a single larger record still passes,
 * and what can only be read as a whole (a segment of the log) may pass it by as much again.
 */
export interface Budget {
  readonly maxRecords: number;
  /** Bytes of column data, uncompressed. */
  readonly maxBytes: number;
  /** Aborts a margin before the function's deadline. Pass it on to every wait. */
  readonly signal: AbortSignal;
}

/** An upstream slice that is read in order: a flat object, as in Kafka Connect (`{ file: 'a.json' }`). */
export type Partition = { readonly [name: string]: string | number | boolean | null };

/** The string form of a partition: JSON with sorted keys. Equal partitions have equal keys. */
export const partitionKey = (partition: Partition): string => canonicalJson(partition);

/** A place to resume after, in one partition. */
export interface Position<Offset> {
  readonly partition: Partition;
  readonly offset: Offset;
}

/** The offsets a poll resumes after. */
export interface Offsets<Offset> {
  get(partition: Partition): Offset | undefined;
  all(): Iterable<Position<Offset>>;
}

/** A record that could not be made or was refused: a row error and what is known of the record. */
export interface Rejected {
  /** Its index in the batch; for a poll, the number of good records of the batch that came before it. */
  readonly index: number;
  readonly error: ConnectError;
  /** The raw record, where there is no good one (a line that does not parse). */
  readonly raw?: Uint8Array;
}

export interface RejectedSourceRecord<Offset> extends Rejected, Position<Offset> {
  readonly topic: string;
}

/** So many bytes of upstream log passed without a record are worth a commit of the offset alone. */
export const movedBytes = 64 * 1024 * 1024;

export interface Poll<Offset> {
  readonly batch: RecordBatch;
  /**
   * The partition of record `index`, and the offset to resume after it. Each record's identity is (incarnation, partition,
   * offset, ordinal among records of that offset): it must not depend on how batches are cut. Records that share an offset must
   * stand next to each other, and are never separated.
   */
  position(index: number): Position<Offset>;
  /**
   * Where each partition stands after the whole poll; partitions that did not move may be left out. What moved without a record is
   * committed no later than the next record.
   */
  readonly offsets: readonly Position<Offset>[];
  /** Nothing more is there now. */
  readonly caughtUp: boolean;
  /** With `caughtUp`: nothing comes to this task before another one of the connector has committed. The run ends, also a continuous one. */
  readonly waits?: boolean;
  /** What it commits is work for the connector's other tasks: they are woken then. */
  readonly wakes?: boolean;
  /** Bytes of upstream log passed without a record; after enough of them the offset alone is committed. */
  readonly moved?: number;
  /** Records that are row errors, in order. They go to the dead letters before the batch is committed. */
  readonly rejected?: readonly RejectedSourceRecord<Offset>[];
  /** Frees the memory of the batch. Called once all of it is put and committed; where something failed it is left to the collector. */
  release?(): void;
}

/**
 * One task of a source, open for one run. Batching, committing and retrying are the runner's job, not yours.
 * After an error the task is closed and never polled again.
 */
export interface SourceTask<Offset> {
  /**
   * Reads at most one budget of records after the given offsets, in order within each partition, then returns. It may be called
   * while the previous batch is still being written: `offsets` are then that batch's. Empty and caught up means nothing to do;
   * it must be cheap then. When the budget's signal aborts, return what is complete at once, or throw: the run then ends without it. A position that the upstream no longer has, or that belongs to another upstream, is a `LOST_POSITION`.
   */
  poll(offsets: Offsets<Offset>, budget: Budget): Promise<Poll<Offset>>;
  /** The offsets are durable downstream (invariant 2): the upstream may forget what is behind them. Repeated if it was lost. */
  commit?(offsets: readonly Position<Offset>[]): Promise<void>;
  /**
   * Whether there is more behind these offsets, records or not: a strong read that brings no record. Asked before the lease is taken, so
   * that an idle run writes nothing, and after it is released (invariant 9). Left out: perhaps; then every run takes the lease.
   * `waits`: not before another task of the connector has committed.
   */
  more?(offsets: Offsets<Offset>): Promise<boolean | 'waits'>;
  /**
   * What a continuous run does after a poll that found nothing: it resolves when there may be more, at the latest after `waitMs`. Left out:
   * the source is polled again, less and less often.
   */
  wait?(waitMs: number, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** An offset as it is committed: from `seq` to `seq + 1`, only where `seq` is unchanged (invariant 1). */
export interface OffsetCommit {
  /** The canonical string form of the partition. */
  readonly key: string;
  readonly partition: Partition;
  /** JSON. */
  readonly offset: unknown;
  /** The number of commits before this one; 0: there is none yet. */
  readonly seq: number;
  /** Unique per commit. Where `seq` has moved and the stored `writeId` is this one, the commit had succeeded. */
  readonly writeId: string;
}

/** An offset as a destination that owns it stores it. */
export interface StoredOffset {
  readonly key: string;
  readonly partition: Partition;
  readonly offset: unknown;
  readonly seq: number;
  readonly writeId: string;
}

export interface PutContext {
  /** What to commit with the batch, for sinks that do. */
  readonly offsets: readonly OffsetCommit[];
  /** The lease's fencing token: grows with every takeover. */
  readonly epoch: number;
  readonly signal: AbortSignal;
  /**
   * Records of this batch that are row errors and will not be written. Await it BEFORE the offsets are committed: it resolves when
   * the dead letters are durable, so that no crash can lose one. It throws where `errors.tolerance` is none: then write nothing,
   * roll back and let the error through. To be called at most once per put.
   */
  reject(rejected: readonly Rejected[]): Promise<void>;
  /**
   * Commits the offsets in the state table, with a prepared row in the same transaction: the middle of a two-phase sink
   * (stage, commit, promote). Throws FENCED, and then nothing of this attempt was committed: also where an earlier attempt of the
   * batch was, whose row the next run promotes. The row is one item of the table (400 KB), and goes when the put has settled.
   */
  commit(prepared: Prepared): Promise<void>;
}

/** A staged batch whose offset is committed and which has yet to be promoted. */
export interface Prepared {
  /** Unique per attempt. */
  readonly id: string;
  /** JSON: whatever `promote` needs (stage name, final name, size, checksum). */
  readonly data: unknown;
}

export interface PutResult {
  /** The offsets were committed by this put (in the destination, the log, or by `context.commit`). Otherwise the runner does it. */
  readonly committed: boolean;
}

/**
 * One task of a sink, open for one run. `put` resolves only when every record that it did not give to `context.reject` is durable;
 * it throws a system error otherwise, or a row error if it can't tell which record is bad and wrote nothing: the runner then
 * bisects the batch. An empty batch commits offsets alone.
 */
export interface SinkTask {
  put(batch: RecordBatch, context: PutContext): Promise<PutResult>;
  /**
   * What the put after the one that is under way will probably bring: whatever can be done for it already without an effect on the
   * destination (encode, upload, stage). It may never come, or in parts; an error is thrown by its put. `close` ends what is left of it.
   */
  ahead?(batch: RecordBatch): void;
  /** How many records, from the batch's start, one put can take (at least 1). Absent: any batch within the budget. */
  take?(batch: RecordBatch): number;
  /** Control records come to it as well (`control.ts`). Without it they are left out, and their offsets committed all the same. */
  readonly takesControl?: boolean;
  /** Present: the destination owns the offsets, these are the truth, and `put` commits them with the rows. */
  offsets?(): Promise<readonly StoredOffset[]>;
  /** For a destination that owns them: sets offsets by an operator's order, once per `id`, raising `seq`. A null offset starts over. */
  reset?(id: string, offsets: readonly { readonly partition: Partition; readonly offset: unknown }[]): Promise<void>;
  /** Finishes a batch that was prepared and perhaps not promoted. Called on open, in order, before anything is put; idempotent. */
  promote?(prepared: Prepared): Promise<void>;
  close(): Promise<void>;
}

/** What a pair of source and sink can give, weakest first. */
export const deliveries = ['at-least-once', 'effectively-once', 'exactly-once'] as const;
export type Delivery = (typeof deliveries)[number];

/**
 * Whether a source gives the same records again after the same offset: `exact` (files, binlog, WAL, Kafka, the log), `shifting`
 * (a query by timestamp) or `none` (a queue whose messages have no position).
 */
export type Replay = 'exact' | 'shifting' | 'none';

export interface Identity {
  /** The connector's name. */
  readonly connector: string;
  /** Made when the connector is created; part of every offset key, so that a re-created name never meets its past. */
  readonly incarnation: string;
  /** One deployment's name; tells two platforms apart that write to one destination. */
  readonly deployment: string;
}

export interface OpenContext<Config> extends Identity {
  readonly config: Config;
  readonly taskId: number;
  /** So many the connector has. */
  readonly tasks: number;
  readonly signal: AbortSignal;
}

/** A problem that `check` found, in the operator's words: what is wrong and the statement or setting that mends it. */
export type Problem = string;

/** How far a connector is behind. What nobody can tell is left out. */
export interface Lag {
  readonly records?: number;
  /** Of the upstream's log, to its end. */
  readonly bytes?: number;
  /** The age of the oldest of what is not committed; 0 where all is. */
  readonly behindMs?: number;
  readonly retained?: Retained;
}

/** What an upstream keeps until it is read, though not for ever. */
export interface Retained {
  readonly bytes?: number;
  /** Of the most that it keeps, by size or by time: at 1 it may be gone. An alarm tells from a half on. Left out: it has no limit but its disk. */
  readonly share?: number;
  /** In the operator's words: what is kept until when, and what to change. */
  readonly text: string;
}

interface ConnectorCommon<Schema extends z.ZodType> {
  /** The plugin's name: `file`, `postgres`. */
  readonly type: string;
  readonly config: Schema;
  /** Every problem at once; [] is healthy. Runs in the connector's own function: it has the network and the secrets. */
  check?(context: OpenContext<z.output<Schema>>): Promise<readonly Problem[]>;
  /** What is not wrong, but may become so: asked where there is no problem, told, and fails no deploy. */
  warnings?(context: OpenContext<z.output<Schema>>): Promise<readonly Problem[]>;
  /** Upstream leftovers (slots, publications, queues) are made and removed here. */
  created?(context: OpenContext<z.output<Schema>>): Promise<void>;
  deleted?(context: OpenContext<z.output<Schema>>): Promise<void>;
  /** Its tables as they are now, for `sluice verify`. Without it they can't be compared. */
  verify?(context: OpenContext<z.output<Schema>>): Promise<Verification>;
}

export interface SourceConnector<Schema extends z.ZodType = z.ZodType, Offset = unknown>
  extends ConnectorCommon<Schema> {
  readonly offset: z.ZodType<Offset>;
  readonly replay: Replay;
  /** The topics it writes to, known from its config. */
  topics(config: z.output<Schema>): readonly string[];
  /** What it tells of by control records with this config. A sink that waits for something else of it is refused. */
  tells?(config: z.output<Schema>): Tells;
  /** One config per task, at most `maxTasks`. Absent: one task. Must be deterministic. */
  tasks?(config: z.output<Schema>, maxTasks: number): readonly z.output<Schema>[];
  open(context: OpenContext<z.output<Schema>>): Promise<SourceTask<Offset>>;
  /** False: the upstream keeps what is not read, and would fill up or lose it. Such a source is never held (`maxBacklog`). */
  readonly hold?: false;
  /** Asked every ten minutes, also while a run is under way or the connector is paused: it must disturb neither it nor the upstream. */
  lag?(context: OpenContext<z.output<Schema>>, offsets: Offsets<Offset>): Promise<Lag>;
}

export interface SinkConnector<Schema extends z.ZodType = z.ZodType> extends ConnectorCommon<Schema> {
  readonly delivery: Delivery | ((config: z.output<Schema>) => Delivery);
  /** The order that it needs with this config, where that is more than the order of each key. */
  order?(config: z.output<Schema>): WantedOrder | undefined;
  open(context: OpenContext<z.output<Schema>>): Promise<SinkTask>;
}

/** A source connector is a value; its config's and offset's types are inferred from the zod schemas. */
export const defineSource = <Schema extends z.ZodType, Offset>(
  connector: SourceConnector<Schema, Offset>,
): SourceConnector<Schema, Offset> => connector;

export const defineSink = <Schema extends z.ZodType>(connector: SinkConnector<Schema>): SinkConnector<Schema> =>
  connector;

/** A record and where to resume after it. */
export interface SourceRecord<Offset> extends RecordInput, Position<Offset> {}

/**
 * A poll's answer from plain records: the short way for a connector that need not be fast. A misfit becomes a rejected record. With
 * `budget`, what is over it is left for the next poll: a page of an API can be larger than asked for.
 */
export const pollOf = <Offset>(
  all: readonly SourceRecord<Offset>[],
  rest: Pick<Poll<Offset>, 'caughtUp'> &
    Partial<Pick<Poll<Offset>, 'offsets' | 'moved' | 'waits' | 'wakes'>> & { readonly budget?: Budget },
): Poll<Offset> => {
  const records = rest.budget === undefined ? all : within(all, rest.budget);
  const rejected: RejectedSourceRecord<Offset>[] = [];
  const bad = new Set<number>();
  const batch = batchOf(records, (index, error) => {
    const { topic, partition, offset, value } = records[index]!;
    const raw = Buffer.from(canonicalJson(value as Value));
    rejected.push({ index: index - bad.size, error: toConnectError(error), raw, topic, partition, offset });
    bad.add(index);
  });
  const good = bad.size === 0 ? records : records.filter((_, index) => !bad.has(index));
  const last = new Map<string, Position<Offset>>();
  // Most records stand beside others of their partition: its key is made once for all of those.
  for (const run of [records, records.length < all.length ? [] : (rest.offsets ?? [])])
    for (const [i, { partition, offset }] of run.entries())
      if (partition !== run[i + 1]?.partition) last.set(partitionKey(partition), { partition, offset });
  return {
    batch,
    position(index) {
      const { partition, offset } = good[index]!;
      return { partition, offset };
    },
    offsets: [...last.values()],
    caughtUp: rest.caughtUp && records.length === all.length,
    ...(rest.moved === undefined ? {} : { moved: rest.moved }),
    ...(rest.waits === undefined ? {} : { waits: rest.waits }),
    ...(rest.wakes === undefined ? {} : { wakes: rest.wakes }),
    ...(rejected.length === 0 ? {} : { rejected }),
  };
};

/** About the bytes of a value: what budgets are counted in before there are columns. */
export const sizeOf = (value: Value): number => {
  if (typeof value === 'string' || value instanceof Uint8Array) return value.length;
  if (Array.isArray(value)) return value.reduce((sum: number, one: Value) => sum + sizeOf(one), 0);
  if (!isPlainObject(value)) return 8;
  let bytes = 0;
  for (const field in value) bytes += sizeOf(value[field]!);
  return bytes;
};

/** The first records that fit the budget, and at least one. */
const within = <Offset>(
  records: readonly SourceRecord<Offset>[],
  { maxRecords, maxBytes }: Budget,
): readonly SourceRecord<Offset>[] => {
  let bytes = 0;
  const over = records.findIndex(({ value }, index) => {
    if (index >= maxRecords || bytes >= maxBytes) return true;
    bytes += sizeOf(value);
    return false;
  });
  return over === -1 ? records : records.slice(0, over);
};

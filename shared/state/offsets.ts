import {
  type OffsetCommit,
  type Partition,
  type Prepared,
  partitionKey,
  type StoredOffset,
} from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { connectorPk, offsetKey, offsetPrefix, preparedKey, resetKey } from './keys.ts';
import { type MeasuredLag, measuredLag } from './lag.ts';
import { checkShape, shapes } from './shape.ts';
import type { Item, Table, Write, WriteResult } from './table.ts';

/** Whose offsets: a name and the incarnation of it, which is part of every key. */
export interface OffsetOwner {
  readonly connector: string;
  readonly incarnation: string;
}

export interface PreparedRow extends Prepared {
  readonly task: number;
}

/** An operator's order to move offsets that a destination owns; the next run carries it out there (DESIGN §3). */
export interface PendingReset {
  readonly id: string;
  /** Everything starts over, whatever partitions the destination knows; `offsets` are set after that. */
  readonly all?: true;
  readonly offsets: readonly { readonly partition: Partition; readonly offset: unknown }[];
}

/** All that a run must know of its connector's progress: one query. */
export interface Progress {
  readonly offsets: readonly StoredOffset[];
  /** They are a copy: the destination owns them. */
  readonly cached?: true;
  readonly prepared: readonly PreparedRow[];
  readonly reset?: PendingReset;
  readonly lag?: MeasuredLag;
}

export const loadProgress = async (table: Table, owner: OffsetOwner): Promise<Progress> => {
  const prefix = offsetPrefix(owner.incarnation);
  const items = await table.query(connectorPk(owner.connector), { from: prefix, to: `${prefix}\uffff` });
  const kind = (name: string) => items.filter((item) => item.sk.startsWith(`${prefix}${name}`));
  const reset = kind('RESET')[0];
  const offsets = kind('OFFSET#');
  const lag = kind('LAG')[0];
  return {
    offsets: offsets.map(storedOffset),
    ...(offsets.some(({ cache }) => cache === true) ? { cached: true as const } : {}),
    prepared: kind('PREPARED#').map((item) => {
      checkShape('prepared', item.v, item.sk);
      return { id: String(item.id), task: Number(item.task), data: JSON.parse(String(item.data)) };
    }),
    ...(reset === undefined ? {} : { reset: pendingReset(reset) }),
    ...(lag === undefined ? {} : { lag: measuredLag(lag) }),
  };
};

const storedOffset = (item: Item): StoredOffset => {
  checkShape('offset', item.v, item.sk);
  const partition = JSON.parse(String(item.partition)) as Partition;
  return {
    key: partitionKey(partition),
    partition,
    offset: JSON.parse(String(item.offset)),
    seq: Number(item.seq),
    writeId: String(item.writeId),
  };
};

const pendingReset = (item: Item): PendingReset => {
  checkShape('reset', item.v, item.sk);
  return {
    id: String(item.id),
    ...(item.all === true ? { all: true as const } : {}),
    offsets: JSON.parse(String(item.offsets)),
  };
};

/** Invariant 1: each offset moves from `seq` to `seq + 1`, and only where `seq` is unchanged. */
export const offsetWrites = (owner: OffsetOwner, commits: readonly OffsetCommit[]): readonly Write[] =>
  commits.map((commit) => ({
    put: {
      ...offsetKey(owner.connector, owner.incarnation, commit.key),
      v: shapes.offset,
      partition: commit.key,
      offset: JSON.stringify(commit.offset),
      seq: commit.seq + 1,
      writeId: commit.writeId,
    },
    when: commit.seq === 0 ? 'absent' : { seq: commit.seq },
  }));

/**
 * Whether failed offset writes were in fact this commit's own, made by an attempt whose answer was lost. `failed` are indices into
 * `commits`. Throws FENCED where somebody else moved an offset.
 */
export const settleOffsets = (
  commits: readonly OffsetCommit[],
  result: WriteResult,
  firstIndex = 0,
): 'committed' | 'unsettled' => {
  if (result.ok) return 'committed';
  const ours = result.failed.filter(({ index }) => index >= firstIndex && index < firstIndex + commits.length);
  if (ours.length === 0) return 'unsettled';
  // A transaction is all or nothing: one offset that carries our writeId proves that the whole commit happened.
  if (ours.some(({ index, found }) => found?.writeId === commits[index - firstIndex]!.writeId)) return 'committed';
  const { index, found } = ours[0]!;
  throw fenced(commits[index - firstIndex]!, found?.seq);
};

export const fenced = (commit: OffsetCommit, seq: unknown): ConnectError =>
  new ConnectError(
    'FENCED',
    `the offset of ${commit.key} is at commit ${String(seq ?? 'none')}, this batch was read at ${commit.seq}: another run or an operator moved it; nothing of the batch was committed`,
  );

/**
 * Commits offsets in the state table, with a prepared row in the same transaction for a two-phase sink. Throws FENCED; also where an
 * earlier attempt of the same batch was committed, with another prepared row: that one is promoted, what this attempt staged is not.
 */
export const commitOffsets = async (
  table: Table,
  owner: OffsetOwner,
  commits: readonly OffsetCommit[],
  prepared?: PreparedRow,
): Promise<void> => {
  const writes = [...offsetWrites(owner, commits), ...(prepared === undefined ? [] : [preparedWrite(owner, prepared)])];
  if (writes.length === 0) return;
  const result = await table.write(writes);
  settleOffsets(commits, result);
  if (result.ok || prepared === undefined) return;
  const ours = await table.get(preparedKey(owner.connector, owner.incarnation, prepared.task, prepared.id));
  if (ours === undefined)
    throw new ConnectError(
      'FENCED',
      `an earlier attempt of this batch was committed: ${prepared.id} is not promoted, the next run promotes what was`,
    );
};

const preparedWrite = (owner: OffsetOwner, row: PreparedRow): Write => ({
  put: {
    ...preparedKey(owner.connector, owner.incarnation, row.task, row.id),
    v: shapes.prepared,
    id: row.id,
    task: row.task,
    data: JSON.stringify(row.data),
  },
});

/** The promote is done: forget the prepared row. */
export const clearPrepared = async (
  table: Table,
  owner: OffsetOwner,
  row: Pick<PreparedRow, 'id' | 'task'>,
): Promise<void> => {
  await table.write([{ delete: preparedKey(owner.connector, owner.incarnation, row.task, row.id) }]);
};

/**
 * An order that moves nothing: the next run asks the destination where it stands, although the copy here says that there is nothing to
 * do. It may have lost what it had, in a failover or a restore (hazard B6). Where an order waits already, that one does it.
 */
export const askDestination = async (table: Table, owner: OffsetOwner, id: string): Promise<void> => {
  const put = { ...resetKey(owner.connector, owner.incarnation), v: shapes.reset, id, offsets: '[]' };
  await table.write([{ put, when: 'absent' }]);
};

export const clearReset = async (table: Table, owner: OffsetOwner, id: string): Promise<void> => {
  await table.write([{ delete: resetKey(owner.connector, owner.incarnation), when: { id } }]);
};

/** Keeps the state table's copy of offsets that a destination owns. */
export type OffsetsCache = (offsets: readonly StoredOffset[]) => Promise<void>;

/**
 * The copy is for idle checks only: never read as the truth. Only what differs from what it was is written, and only where it is still as
 * it was when it was read (`cached`): another task may have told of its own progress since. What is then left stale costs one run that
 * finds nothing to do.
 */
export const offsetsCache = (table: Table, owner: OffsetOwner, cached: readonly StoredOffset[]): OffsetsCache => {
  const seqs = new Map(cached.map(({ key, seq }) => [key, seq]));
  const write = async ({ key, offset, seq, writeId }: StoredOffset): Promise<void> => {
    const seen = seqs.get(key);
    const item = {
      ...offsetKey(owner.connector, owner.incarnation, key),
      v: shapes.offset,
      partition: key,
      offset: JSON.stringify(offset),
      seq,
      writeId,
      cache: true,
    };
    await table.write([{ put: item, when: seen === undefined ? 'absent' : { seq: seen } }]);
    seqs.set(key, seq);
  };
  return async (offsets) => {
    const changed = offsets.filter(({ key, seq }) => seqs.get(key) !== seq);
    // Not in one transaction, which costs twice as much.
    for (let from = 0; from < changed.length; from += 25) await Promise.all(changed.slice(from, from + 25).map(write));
  };
};

import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import type * as z from 'zod';
import { type Column, type RecordBatch, sliceBatch } from '../../shared/connect/batch.ts';
import { batchOf, type RecordInput } from '../../shared/connect/build.ts';
import {
  type Identity,
  type OffsetCommit,
  type Prepared,
  type PutContext,
  type PutResult,
  partitionKey,
  type Rejected,
  type SinkConnector,
  type SinkTask,
  type StoredOffset,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { StructSchema, Value } from '../../shared/connect/schema.ts';

/** A record as a reader of the destination sees it now. */
export interface SeenRecord {
  /** Left out where the destination does not keep it. */
  readonly topic?: string;
  readonly key?: Value;
  readonly value: Value;
}

/** A sink and an empty destination of its own, made anew for each test of the suite. */
export interface SinkFixture<Schema extends z.ZodType = z.ZodType> {
  readonly sink: SinkConnector<Schema>;
  readonly config: z.input<Schema>;
  /** `append`: every record is a row of its own. `upsert`: records have keys, and the last one of a key is what is seen. */
  readonly mode: 'append' | 'upsert';
  /** Whether a null value deletes its key. */
  readonly tombstones?: boolean;
  /** A record that this sink refuses as a row error. */
  readonly rejects?: RecordInput;
  /** What readers see now, in any order. Values are compared field by field as text, so a CSV reader will do. */
  read(): Promise<readonly SeenRecord[]>;
  cleanup?(): Promise<void>;
}

/** The one source partition that the rules put from. */
export const partition = { source: 'contract' };
const keySchema: StructSchema = { type: 'struct', fields: [{ name: 'id', schema: { type: 'string' } }] };
const valueSchema: StructSchema = {
  type: 'struct',
  fields: [
    { name: 'id', schema: { type: 'string' } },
    { name: 'note', schema: { type: 'string' } },
    { name: 'n', schema: { type: 'int32' } },
  ],
};

export type Row = { readonly id: string; readonly note: string; readonly n: number };

export const row = (id: number | string, note = `note ${id}`, n = 1): Row => ({ id: `id-${id}`, note, n });
export const rowsOf = (count: number, from = 0): Row[] => Array.from({ length: count }, (_, i) => row(from + i));

/** The identity of the run that most rules speak of. */
export const self: Identity = { deployment: 'contract', connector: 'orders', incarnation: 'i-1' };

/** What a runner does with a sink: keeps its offsets where it does not own them, promotes on open, hands out contexts. */
export const createRunner = (fixture: SinkFixture) => {
  const { sink, mode } = fixture;
  const config = sink.config.parse(fixture.config);
  const stored = new Map<string, StoredOffset>();
  let prepared: Prepared[] = [];

  const record = (value: Row, topic = 'orders'): RecordInput => ({
    topic,
    value,
    valueSchema,
    ...(mode === 'upsert' ? { key: { id: value.id }, keySchema } : {}),
  });

  /** The state table's commit: everything or nothing, and a prepared row together with its offsets (invariant 1). */
  const commitState = (commits: readonly OffsetCommit[], row?: Prepared) => {
    const moved = commits.filter((commit) => (stored.get(commit.key)?.seq ?? 0) !== commit.seq);
    const mine = moved.length > 0 && moved.every((commit) => stored.get(commit.key)?.writeId === commit.writeId);
    // An earlier attempt of this batch was committed, with its own staged data: that is what the next open promotes.
    if (mine && (row === undefined || prepared.some(({ id }) => id === row.id))) return;
    if (moved.length > 0) throw new ConnectError('FENCED', `${moved[0]!.key} is not at commit ${moved[0]!.seq}`);
    for (const { key, partition, offset, seq, writeId } of commits)
      stored.set(key, { key, partition, offset: structuredClone(offset), seq: seq + 1, writeId });
    if (row !== undefined) prepared.push(structuredClone(row));
  };

  const openAs = async (identity: Identity): Promise<SinkTask> => {
    const task = await sink.open({ config, taskId: 0, tasks: 1, signal: new AbortController().signal, ...identity });
    for (const one of prepared) await task.promote!(one);
    prepared = [];
    return task;
  };

  const current = async (task: SinkTask): Promise<StoredOffset | undefined> => {
    const all = task.offsets === undefined ? [...stored.values()] : await task.offsets();
    return all.find(({ key }) => key === partitionKey(partition));
  };

  /** The commit of the next batch of this suite's one partition. */
  const nextCommit = async (task: SinkTask, offset: unknown): Promise<OffsetCommit> => {
    const seq = (await current(task))?.seq ?? 0;
    return { key: partitionKey(partition), partition, offset, seq, writeId: randomUUID() };
  };

  /** One put of a whole batch. The batch's buffers are overwritten as soon as it settles: they are not the sink's any more. */
  const putBatch = async (
    task: SinkTask,
    batch: RecordBatch,
    offsets: readonly OffsetCommit[],
    overrides: Partial<PutContext> = {},
  ): Promise<PutResult & { readonly rejected: readonly Rejected[] }> => {
    const rejected: Rejected[] = [];
    const context: PutContext = {
      offsets,
      epoch: 1,
      signal: new AbortController().signal,
      reject: async (more) => void rejected.push(...more),
      commit: async (row) => commitState(offsets, row),
      ...overrides,
    };
    try {
      const result = await task.put(batch, context);
      if (!result.committed) commitState(offsets);
      return { ...result, rejected };
    } finally {
      overwrite(batch);
    }
  };

  /** Puts records with one commit; where the sink takes less at a time, the commit goes with the last part. */
  const put = async (
    task: SinkTask,
    records: readonly RecordInput[],
    offsets?: readonly OffsetCommit[],
    overrides?: Partial<PutContext>,
  ) => {
    let batch = batchOf(records);
    for (;;) {
      const take = task.take === undefined || batch.count === 0 ? batch.count : task.take(batch);
      const last = take >= batch.count;
      const commits = last && offsets !== undefined ? offsets : [await nextCommit(task, { at: randomUUID() })];
      const part = sliceBatch(batch, 0, take);
      if (last) return putBatch(task, part, commits, overrides);
      // The rest shares its buffers with this part, so it is built anew.
      const rest = batchOf([...sliceBatch(batch, take, batch.count)]);
      await putBatch(task, part, commits);
      batch = rest;
    }
  };

  /** Asserts what readers see. */
  const expectSeen = async (expected: readonly RecordInput[]) => {
    const seen = await fixture.read();
    expect(seen.map(seenText).sort()).toEqual(
      expected.map(({ topic, value }) => seenText(seen[0]?.topic === undefined ? { value } : { topic, value })).sort(),
    );
  };

  return {
    record,
    open: () => openAs(self),
    openAs,
    current,
    nextCommit,
    put,
    expectSeen,
    commitState,
    delivery: typeof sink.delivery === 'function' ? sink.delivery(config) : sink.delivery,
  };
};

const seenText = ({ topic, value }: SeenRecord): string => {
  const fields = Object.entries(value as { readonly [field: string]: Value }).map(
    ([name, v]) => `${name}=${String(v)}`,
  );
  return `${topic === undefined ? '' : `${topic}: `}${fields.sort().join(' ')}`;
};

/** Fills every buffer of a batch, as the source does that uses it again. */
const overwrite = (batch: RecordBatch) => {
  for (const group of batch.groups)
    for (const side of group.key === undefined ? [group.value] : [group.key, group.value]) {
      side.nulls?.fill(1);
      overwriteColumns(side.columns);
    }
};

const overwriteColumns = (columns: readonly Column[]) => {
  for (const column of columns) {
    column.state?.fill(1);
    if (column.kind === 'struct') overwriteColumns(column.columns);
    else if (column.kind === 'bytes') for (const array of [column.data, column.starts, column.ends]) array.fill(0x23);
    else if (column.kind === 'int64') column.values.fill(23n);
    else column.values.fill(23);
  }
};

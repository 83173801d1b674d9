import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import { batchOf, type RecordInput } from '../../shared/connect/build.ts';
import {
  type OffsetCommit,
  type PutContext,
  partitionKey,
  type Rejected,
  type SinkTask,
} from '../../shared/connect/connector.ts';
import type { PrimitiveType, Schema, Struct } from '../../shared/connect/schema.ts';

type Fields = { readonly [name: string]: PrimitiveType | Schema };

const partition = { source: 'test' };

/** The next commit of the one partition of these tests. */
export const nextCommit = async (task: SinkTask): Promise<OffsetCommit> => {
  const [stored] = await task.offsets!();
  const seq = stored?.seq ?? 0;
  return { key: partitionKey(partition), partition, offset: { n: seq }, seq, writeId: randomUUID() };
};

/** Puts records as one batch and gives what was rejected. */
export const putRecords = async (
  task: SinkTask,
  records: readonly RecordInput[],
  overrides: Partial<PutContext> = {},
) => {
  const rejected: Rejected[] = [];
  const result = await task.put(batchOf(records), {
    offsets: overrides.offsets ?? [await nextCommit(task)],
    epoch: 1,
    signal: new AbortController().signal,
    reject: async (more) => void rejected.push(...more),
    commit: async () => {
      throw new Error('this sink owns its offsets');
    },
    ...overrides,
  });
  return { ...result, rejected };
};

export const structOf = (fields: Fields): Schema => ({
  type: 'struct',
  fields: Object.entries(fields).map(([name, type]) => ({
    name,
    schema: typeof type === 'string' ? { type, optional: true } : type,
  })),
});

/** A record with an int32 key `id` and the given fields. */
export const keyed = (id: number, value: Struct | null, fields: Fields = {}, topic = 't'): RecordInput => ({
  topic,
  key: { id },
  keySchema: structOf({ id: 'int32' }),
  value: value === null ? null : { id, ...value },
  valueSchema: structOf({ id: 'int32', ...fields }),
});

export const refused = (code: string, message: RegExp, more: object = {}) => ({
  code,
  message: expect.stringMatching(message),
  ...more,
});

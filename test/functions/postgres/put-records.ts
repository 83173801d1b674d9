import { randomUUID } from 'node:crypto';
import { batchOf, type RecordInput } from '../../../shared/connect/build.ts';
import {
  type OffsetCommit,
  type PutContext,
  partitionKey,
  type Rejected,
  type SinkTask,
} from '../../../shared/connect/connector.ts';

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

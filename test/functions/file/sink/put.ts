import { randomUUID } from 'node:crypto';
import type * as z from 'zod';
import { fileSink } from '../../../../functions/file/file-sink.ts';
import type { FileSinkConfig } from '../../../../functions/file/sink-config.ts';
import type { RecordBatch } from '../../../../shared/connect/batch.ts';
import { batchOf, type RecordInput } from '../../../../shared/connect/build.ts';
import type { Prepared, PutContext, PutResult, Rejected } from '../../../../shared/connect/connector.ts';

export type ConfigInput = z.input<typeof FileSinkConfig>;

export const openSink = (config: ConfigInput, sink = fileSink, connector = 'orders') =>
  sink.open({
    config: sink.config.parse(config),
    deployment: 'test',
    connector,
    incarnation: 'i-1',
    taskId: 0,
    tasks: 1,
    signal: new AbortController().signal,
  });

/** One batch through a task of its own, with a state table that takes every commit. */
export const putOnce = async (
  config: ConfigInput,
  records: readonly RecordInput[] | RecordBatch,
  overrides: Partial<PutContext> = {},
): Promise<PutResult & { rejected: Rejected[]; prepared: Prepared[] }> => {
  const rejected: Rejected[] = [];
  const prepared: Prepared[] = [];
  const task = await openSink(config);
  const result = await task.put('groups' in records ? records : batchOf(records), {
    offsets: [{ key: '{"p":0}', partition: { p: 0 }, offset: 1, seq: 41, writeId: randomUUID() }],
    epoch: 1,
    signal: new AbortController().signal,
    reject: async (more) => void rejected.push(...more),
    commit: async (row) => void prepared.push(row),
    ...overrides,
  });
  await task.close();
  return { ...result, rejected, prepared };
};

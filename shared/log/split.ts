import { gatherGroup, type RecordBatch, type RecordGroup, type Side } from '../connect/batch.ts';
import { canonicalJson } from '../connect/json.ts';
import { sideReader } from '../connect/record.ts';
import { queueOf } from './murmur2.ts';

/** The records of a batch that go to one queue, in order. */
export interface QueueGroups {
  readonly topic: string;
  readonly queue: number;
  readonly groups: RecordGroup[];
  count: number;
}

/**
 * Distributes a batch over its topics' queues. A key always goes to the same queue of a generation (invariant 5); a record without
 * key goes to `keyless(queues)`, one queue per batch, because such records have no order among batches.
 */
export const splitQueues = (
  batch: RecordBatch,
  queuesOf: (topic: string) => number,
  keyless: (queues: number) => number,
): readonly QueueGroups[] => {
  const targets = new Map<string, QueueGroups>();
  const add = (topic: string, queue: number, group: RecordGroup) => {
    const name = `${topic}#${queue}`;
    const target = targets.get(name) ?? { topic, queue, groups: [], count: 0 };
    target.groups.push(group);
    target.count += group.count;
    targets.set(name, target);
  };
  for (const group of batch.groups) {
    const queues = queuesOf(group.topic);
    if (queues === 1) add(group.topic, 0, group);
    else if (group.key === undefined) add(group.topic, keyless(queues), group);
    else
      for (const [queue, rows] of rowsByQueue(group, group.key, queues, keyless(queues)))
        add(group.topic, queue, gatherGroup(group, rows));
  }
  return [...targets.values()];
};

const rowsByQueue = (group: RecordGroup, key: Side, queues: number, keyless: number): Map<number, Uint32Array> => {
  const assigned = new Uint8Array(group.count);
  const counts = new Uint32Array(queues);
  const bytesOf = keyBytes(key);
  for (let row = 0; row < group.count; row++) {
    const queue = key.nulls !== undefined && key.nulls[row] === 1 ? keyless : queueOf(bytesOf(row), queues);
    assigned[row] = queue;
    counts[queue]!++;
  }
  const rows = new Map<number, Uint32Array>();
  for (let queue = 0; queue < queues; queue++) if (counts[queue]! > 0) rows.set(queue, new Uint32Array(counts[queue]!));
  counts.fill(0);
  for (let row = 0; row < group.count; row++) {
    const queue = assigned[row]!;
    rows.get(queue)![counts[queue]!++] = row;
  }
  return rows;
};

/**
 * The bytes that are hashed: a string or bytes key as it is, as Kafka's serializers give it; every other key as JSON text with sorted
 * fields. Fixed for ever: another form would move keys between queues.
 */
const keyBytes = (key: Side): ((row: number) => Uint8Array) => {
  const column = key.columns[0];
  if (column?.kind === 'bytes' && (key.schema.type === 'string' || key.schema.type === 'bytes'))
    return (row) => column.data.subarray(column.starts[row], column.ends[row]);
  const read = sideReader(key);
  return (row) => Buffer.from(canonicalJson(read(row)));
};

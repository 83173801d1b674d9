import { orderProblem, type WantedOrder } from '../connect/control.ts';
import { ConnectError } from '../connect/errors.ts';
import { namePattern } from '../connect/name.ts';
import { defaultCapMs } from '../connect/retention.ts';
import type { TopicSpec } from '../connect/spec.ts';
import { headKey, metaKey } from '../state/keys.ts';
import { checkShape, shapes } from '../state/shape.ts';
import { type Item, limits, type Table, type Write } from '../state/table.ts';

/**
 * A commit holds at most 90 items (DynamoDB takes 100): two per queue that it touches, a head and a segment, and one per source
 * partition. The runner cuts batches to fit.
 */
export const maxQueuesPerCommit = 32;
export const maxPartitionsPerCommit = 26;

export type Generation = { readonly generation: number; readonly queues: number };

/** A topic's row. Its queues are fixed per generation; readers enter a generation when the one before it is drained (hazard A10). */
export interface Topic extends Generation {
  readonly name: string;
  readonly retentionMs: number;
  /** What a subscriber has not read is kept for this much longer. */
  readonly capMs: number;
  /** What the slowest subscriber may leave unread before the topic's sources are held. */
  readonly maxBacklogBytes?: number;
  /** All generations that may still hold records, oldest first; the last is the current one. */
  readonly generations: readonly Generation[];
}

/** What a pipeline may say of a topic. */
export type TopicOptions = Omit<TopicSpec, 'name'>;

const topicDefaults: TopicOptions = { queues: 1, retentionMs: 7 * 24 * 3_600_000 };

export const readTopic = async (table: Table, name: string): Promise<Topic | undefined> => {
  const item = await table.get(metaKey(name));
  if (item === undefined) return undefined;
  checkShape('topic', item.v, `topic ${name}`);
  const generations = item.generations as readonly Generation[];
  return {
    name,
    retentionMs: Number(item.retentionMs),
    capMs: Number(item.capMs ?? defaultCapMs),
    ...(item.maxBacklogBytes === undefined ? {} : { maxBacklogBytes: Number(item.maxBacklogBytes) }),
    generations,
    ...generations.at(-1)!,
  };
};

export const requireTopic = async (table: Table, name: string): Promise<Topic> => {
  const topic = await readTopic(table, name);
  if (topic === undefined)
    throw new ConnectError(
      'NOT_FOUND',
      `there is no topic ${name}: a source makes it with its first record, or a pipeline declares it`,
    );
  return topic;
};

/** @throws CONFIG_INVALID where these topics do not have the order; one that is not there yet has one queue. */
export const requireOrder = async (table: Table, names: readonly string[], order: WantedOrder): Promise<void> => {
  const topics = await Promise.all(
    names.map(async (name) => ({ name, queues: (await readTopic(table, name))?.queues ?? 1 })),
  );
  const problem = orderProblem(order, topics);
  if (problem !== undefined) throw new ConnectError('CONFIG_INVALID', problem);
};

/** A queue of a topic, and where it ends. */
export interface QueueEnd {
  readonly partition: { readonly topic: string; readonly generation: number; readonly queue: number };
  readonly next: number;
  /** Uncompressed, of all that was ever appended to it. */
  readonly bytes: number;
}

/** Every queue of these generations, in their order. */
export const queuesOf = (topic: string, generations: readonly Generation[]): readonly QueueEnd['partition'][] =>
  generations.flatMap(({ generation, queues }) =>
    Array.from({ length: queues }, (_, queue) => ({ topic, generation, queue })),
  );

/** The rows of their heads, in as few requests as they take; undefined for one that is missing. */
export const readHeadRows = async (
  table: Table,
  partitions: readonly QueueEnd['partition'][],
): Promise<readonly (Item | undefined)[]> => {
  const keys = partitions.map(({ topic, generation, queue }) => headKey(topic, generation, queue));
  const requests: Promise<readonly (Item | undefined)[]>[] = [];
  for (let at = 0; at < keys.length; at += limits.reads)
    requests.push(table.getMany(keys.slice(at, at + limits.reads)));
  return (await Promise.all(requests)).flat();
};

/** Every queue of every generation. */
export const readHeads = async (table: Table, { name, generations }: Topic): Promise<readonly QueueEnd[]> => {
  const partitions = queuesOf(name, generations);
  const heads = await readHeadRows(table, partitions);
  return partitions.map((partition, i) => ({
    partition,
    next: Number(heads[i]?.next ?? 0),
    bytes: Number(heads[i]?.bytes ?? 0),
  }));
};

const checkQueues = (name: string, queues: number): void => {
  if (Number.isInteger(queues) && queues >= 1 && queues <= maxQueuesPerCommit) return;
  throw new ConnectError('CONFIG_INVALID', `topic ${name}: queues must be 1 to ${maxQueuesPerCommit}, got ${queues}`);
};

/** The topic, made where it is missing: by a pipeline that declares it, or by the first record for it. */
export const ensureTopic = async (table: Table, name: string, options: Partial<TopicOptions> = {}): Promise<Topic> => {
  if (!namePattern.test(name))
    throw new ConnectError(
      'CONFIG_INVALID',
      `topic name ${JSON.stringify(name)}: use letters, digits, ".", "_" and "-", at most 200`,
    );
  const found = await readTopic(table, name);
  if (found !== undefined) return found;
  const { queues, ...rest } = { ...topicDefaults, ...options };
  checkQueues(name, queues);
  const meta = {
    update: metaKey(name),
    set: { kind: 'topic', name, v: shapes.topic, ...stored(rest), generations: [{ generation: 0, queues }] },
    when: 'absent' as const,
  };
  await table.write([meta, ...newHeads(name, 0, queues)]);
  // Whoever made it: where two did at the same moment, the first counts.
  return requireTopic(table, name);
};

/** What a topic's row says of it besides its queues. */
const stored = ({ retentionMs, capMs = defaultCapMs, maxBacklogBytes }: Omit<TopicOptions, 'queues'>) => ({
  retentionMs,
  capMs,
  maxBacklogBytes,
});

const newHeads = (topic: string, generation: number, queues: number): readonly Write[] =>
  Array.from({ length: queues }, (_, queue) => ({
    put: { ...headKey(topic, generation, queue), v: shapes.head, next: 0, start: 0, sealed: false },
    when: 'absent' as const,
  }));

/**
 * Changes the number of queues: seals every head of the current generation and starts the next, in one transaction, so that no
 * append can land behind the seal and a key's records stay in order across the change.
 */
export const changeQueues = async (table: Table, name: string, queues: number): Promise<Topic> => {
  checkQueues(name, queues);
  let topic = await requireTopic(table, name);
  for (;;) {
    if (topic.queues === queues) return topic;
    const sealed = topic.generation;
    const generation = topic.generation + 1;
    const generations = [...topic.generations, { generation, queues }];
    const seals = Array.from({ length: topic.queues }, (_, queue) => ({
      update: headKey(name, sealed, queue),
      set: { sealed: true },
      when: { sealed: false },
    }));
    const meta = { update: metaKey(name), set: { generations }, when: { v: shapes.topic } };
    const result = await table.write([...seals, ...newHeads(name, generation, queues), meta]);
    if (result.ok) return { ...topic, generations, generation, queues };
    topic = await requireTopic(table, name);
    // Only another change seals a head, and it starts a generation in the same transaction.
    if (topic.generation === sealed)
      throw new ConnectError(
        'CORRUPT',
        `topic ${name}: a head of generation ${sealed} is missing or sealed, but there is no next generation: restore the table`,
      );
  }
};

/** A topic as a pipeline declares it: made, or changed to it. */
export const declareTopic = async (
  table: Table,
  name: string,
  { queues, ...options }: TopicOptions,
): Promise<Topic> => {
  const topic = await ensureTopic(table, name, { queues, ...options });
  // Only what is appended from now on: a segment keeps the times that it was written with.
  const { retentionMs, capMs, maxBacklogBytes } = stored(options);
  if (topic.retentionMs !== retentionMs || topic.capMs !== capMs || topic.maxBacklogBytes !== maxBacklogBytes)
    await table.write([
      { update: metaKey(name), set: { retentionMs, capMs, maxBacklogBytes }, when: { v: shapes.topic } },
    ]);
  return changeQueues(table, name, queues);
};

import { logPk, segmentSk, subscriptionKey } from '../state/keys.ts';
import type { Attribute, Item, Table } from '../state/table.ts';
import type { LogPartition } from './read.ts';
import { type QueueEnd, readHeads, readTopic } from './topics.ts';

/** Where a subscriber begins, by `<generation>#<queue>`; a queue that is not named is younger than the subscription: at 0. */
type Starts = { readonly [queue: string]: Attribute };

/** What ends sooner than this can't be promised to a new reader: the coordinator, who keeps it for him, comes every minute. */
const marginMs = 2 * 60_000;

const queueName = ({ generation, queue }: LogPartition): string => `${generation}#${queue}`;

/** Segments of a queue, from the first one at or after `base`. */
export const segmentsFrom = (
  table: Table,
  { topic, generation, queue }: LogPartition,
  base: number,
  limit: number,
): Promise<readonly Item[]> =>
  table.query(logPk(topic, generation, queue), {
    from: segmentSk(base),
    to: segmentSk(Number.MAX_SAFE_INTEGER),
    limit,
  });

const endOf = (segment: Item): number => Number(segment.sk) + Number(segment.count);

/**
 * The first segment from `from` on that ends after now, else `next`. What ends sooner may still be there, in holes, but lies before it:
 * so it is found by halves.
 */
const firstLive = async (
  table: Table,
  lane: LogPartition,
  [from, next]: readonly [number, number],
  isLive: (segment: Item) => boolean,
): Promise<number> => {
  const [first] = from === next ? [] : await segmentsFrom(table, lane, from, 1);
  if (first === undefined) return next;
  if (isLive(first)) return Number(first.sk);
  let low = endOf(first);
  let high = next;
  let found = next;
  while (low < high) {
    const middle = low + Math.floor((high - low) / 2);
    const [segment] = await segmentsFrom(table, lane, middle, 1);
    if (segment === undefined || Number(segment.sk) >= high) high = middle;
    else if (isLive(segment)) {
      found = Number(segment.sk);
      high = middle;
    } else low = endOf(segment);
  }
  return found;
};

/** Where somebody new begins: within the retention, whatever is kept beyond it for readers who were there in time. */
const earliest = (table: Table, lane: LogPartition, next: number, nowMs: number): Promise<number> =>
  firstLive(table, lane, [0, next], (segment) => Number(segment.retainedUntil ?? segment.expires) * 1000 > nowMs);

/** Where a reader begins in a queue of which it has committed nothing. `connector`: the subscriber; another begins at what is live. */
export const startsOf = (table: Table, connector: string | undefined, now: () => number) => {
  const subscriptions = new Map<string, Promise<Item | undefined>>();
  const subscription = (topic: string): Promise<Item | undefined> => {
    if (connector === undefined) return Promise.resolve(undefined);
    const known = subscriptions.get(topic) ?? table.get(subscriptionKey(topic, connector));
    subscriptions.set(topic, known);
    return known;
  };
  return async (lane: LogPartition, next: number): Promise<number> => {
    if (next === 0) return 0;
    const starts = (await subscription(lane.topic))?.starts as Starts | undefined;
    return starts === undefined ? earliest(table, lane, next, now()) : Number(starts[queueName(lane)] ?? 0);
  };
};

/**
 * Makes a connector a reader of a topic. What can be read now is kept for it, however much later it commits its first offset; a
 * subscription that is there stays as it is.
 */
export const subscribe = async (table: Table, topic: string, connector: string, nowMs: number): Promise<void> => {
  const key = subscriptionKey(topic, connector);
  if ((await table.get(key)) !== undefined) return;
  const starts = await startsBy(table, topic, ({ partition, next }) =>
    earliest(table, partition, next, nowMs + marginMs),
  );
  await table.write([{ put: { ...key, connector, starts }, when: 'absent' }]);
};

export const unsubscribe = async (table: Table, topic: string, connector: string): Promise<void> => {
  await table.write([{ delete: subscriptionKey(topic, connector) }]);
};

/**
 * An operator's order to begin at the beginning, for the queues that are meant: within the retention, or before it with what is kept for
 * this reader from where it stands. `standing`: undefined where it has committed nothing.
 */
export const startOver = async (
  table: Table,
  topic: string,
  connector: string,
  nowMs: number,
  isMeant: (lane: LogPartition) => boolean,
  standing: (lane: LogPartition) => number | undefined,
): Promise<void> => {
  const key = subscriptionKey(topic, connector);
  for (;;) {
    const before = await table.get(key);
    if (before === undefined) return;
    const starts = await startsBy(table, topic, async ({ partition, next }) => {
      const start = Number((before.starts as Starts | undefined)?.[queueName(partition)] ?? 0);
      if (!isMeant(partition)) return start;
      const retained = await earliest(table, partition, next, nowMs + marginMs);
      const from = Math.min(standing(partition) ?? start, retained);
      return firstLive(
        table,
        partition,
        [from, retained],
        (segment) => Number(segment.expires) * 1000 > nowMs + marginMs,
      );
    });
    const result = await table.write([{ update: key, set: { starts }, when: { starts: before.starts } }]);
    if (result.ok) return;
  }
};

const startsBy = async (table: Table, name: string, startIn: (queue: QueueEnd) => Promise<number>): Promise<Starts> => {
  const topic = await readTopic(table, name);
  const queues = topic === undefined ? [] : await readHeads(table, topic);
  const starts = await Promise.all(queues.map(async (queue) => [queueName(queue.partition), await startIn(queue)]));
  return Object.fromEntries(starts.filter(([, base]) => base !== 0));
};

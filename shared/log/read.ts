import { setTimeout } from 'node:timers/promises';
import { concatBatches, emptyBatch, freeGroup, type RecordBatch, sliceBatch } from '../connect/batch.ts';
import type { Budget, Offsets, Poll, Position, SourceTask } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { checkShape } from '../state/shape.ts';
import type { Item, Table } from '../state/table.ts';
import type { ObjectStore } from './objects.ts';
import { decodeBody } from './segment.ts';
import { segmentsFrom, startsOf } from './start.ts';
import { type Generation, queuesOf, readHeadRows, readTopic, type Topic } from './topics.ts';

/** A place in a queue: the base of a segment and how many of its records are done (hazard A3). */
export type LogOffset = { readonly base: number; readonly index: number };

export type LogPartition = { readonly topic: string; readonly generation: number; readonly queue: number };

export interface LogSourceOptions {
  readonly table: Table;
  readonly objects: Pick<ObjectStore, 'get'>;
  readonly topics: readonly string[];
  /** The connector that reads: where its subscription says it begins. Without one, at what can be read now. */
  readonly subscriber?: string;
  /** This task reads the queues i with i mod tasks = task. */
  readonly task: number;
  readonly tasks: number;
  readonly now?: () => number;
  readonly delay?: (ms: number, value: undefined, options: { readonly signal: AbortSignal }) => Promise<void>;
}

/** One queue that the task reads, and where it stands. */
interface Lane {
  readonly partition: LogPartition;
  readonly offset: LogOffset;
  readonly head: Item;
}

/** Between two looks of a continuous run at heads where nothing is new: each is a read of the table, and what is idle should cost little. */
const pauseMs = { first: 5, growth: 1.2, longest: 200 };

/** Segments that one query may bring: their bodies are read before the batch is handed on. */
const segmentsPerQuery = 64;

/** The topic log as a source. Exact: the same offset gives the same records. */
export const logSource = ({
  table,
  objects,
  topics,
  subscriber,
  task,
  tasks,
  now = Date.now,
  delay = setTimeout,
}: LogSourceOptions): SourceTask<LogOffset> => {
  let nextPauseMs = pauseMs.first;
  const startOf = startsOf(table, subscriber, now);

  /** Topics as they were read last. Their queues are others only once the ones before are sealed. */
  const known = new Map<string, Topic>();
  /** Heads that are sealed, by name: nothing about them changes any more, so each is read once. */
  const sealed = new Map<string, Item>();

  /** By topic, those of all tasks. */
  const lanesOf = (offsets: Offsets<LogOffset>): Promise<readonly (readonly Lane[])[]> =>
    Promise.all(topics.map((name) => lanesOfTopic(name, offsets)));

  const lanesOfTopic = async (name: string, offsets: Offsets<LogOffset>): Promise<readonly Lane[]> => {
    const before = known.get(name);
    const lanes = before && (await currentLanes(before, offsets));
    if (lanes !== undefined && !isFollowed(before!, lanes)) return lanes;
    const topic = await readTopic(table, name);
    if (topic === undefined) return [];
    known.set(name, topic);
    return currentLanes(topic, offsets);
  };

  const isOurs = ({ partition }: Lane): boolean => partition.queue % tasks === task;

  /** All of the oldest generation that this connector has not drained in every queue; the next one is not read before (hazard A10). */
  const currentLanes = async (topic: Topic, offsets: Offsets<LogOffset>): Promise<readonly Lane[]> => {
    for (const [i, generation] of topic.generations.entries()) {
      const lanes = await lanesOfGeneration(topic, generation, offsets);
      const isLast = i === topic.generations.length - 1;
      if (isLast || !isPassed(lanes, isDrained)) return lanes;
    }
    return [];
  };

  const lanesOfGeneration = async (
    topic: Topic,
    generation: Generation,
    offsets: Offsets<LogOffset>,
  ): Promise<readonly Lane[]> => {
    const partitions = queuesOf(topic.name, [generation]);
    const heads = await headsOf(topic, partitions);
    return Promise.all(
      partitions.map(async (partition) => {
        const head = heads.get(laneName(partition));
        if (head === undefined) throw new ConnectError('CORRUPT', `the head of ${laneName(partition)} is missing`);
        checkShape('head', head.v, laneName(partition));
        return { partition, head, offset: offsets.get(partition) ?? (await start(partition, head)) };
      }),
    );
  };

  /**
   * The heads of these queues. Where one is not known yet, all that are not known of the topic come with it: who begins to read passes every
   * generation that is drained, and each would be a request after the other.
   */
  const headsOf = async (topic: Topic, partitions: readonly LogPartition[]): Promise<ReadonlyMap<string, Item>> => {
    const isSealed = (partition: LogPartition) => sealed.has(laneName(partition));
    if (partitions.every(isSealed)) return sealed;
    const unknown = queuesOf(topic.name, topic.generations).filter((partition) => !isSealed(partition));
    const heads = new Map(sealed);
    for (const [i, head] of (await readHeadRows(table, unknown)).entries()) {
      if (head === undefined) continue;
      heads.set(laneName(unknown[i]!), head);
      if (head.sealed === true) sealed.set(laneName(unknown[i]!), head);
    }
    return heads;
  };

  const start = async (partition: LogPartition, head: Item): Promise<LogOffset> => ({
    base: await startOf(partition, Number(head.next)),
    index: 0,
  });

  /** The next records of one queue, up to the budget. */
  const readLane = async (lane: Lane, budget: Budget): Promise<LaneRead> => {
    const where = laneName(lane.partition);
    const next = Number(lane.head.next);
    let { base, index } = lane.offset;
    const taken: Taken[] = [];
    let records = 0;
    let bytes = 0;
    while (base < next && records < budget.maxRecords && bytes < budget.maxBytes && !budget.signal.aborted) {
      const items = await segmentsFrom(table, lane.partition, base, segmentsPerQuery);
      for (const item of items.length === 0 ? [undefined] : items) {
        // Invariant 7: the log has no holes; a segment that is not where the last one ended was lost.
        if (item === undefined || Number(item.sk) !== base) throw lostPosition(where, { base, index }, item, next);
        const segment = await readSegment(item, lane.partition.topic, where);
        if (index > segment.count)
          throw restored(where, { base, index }, `segment ${base} has ${segment.count} records`);
        const recordBytes = Number(item.rawLength) / segment.count;
        const fits = recordsWithin(budget.maxBytes, bytes, recordBytes, segment.count - index);
        const end = index + Math.min(fits, budget.maxRecords - records);
        taken.push({
          base,
          from: index,
          to: end,
          end: endOf(item),
          count: segment.count,
          batch: sliceBatch(segment, index, end),
        });
        records += end - index;
        bytes += recordBytes * (end - index);
        ({ base, index } = after(taken.at(-1)!, end));
        if (
          index > 0 ||
          base >= next ||
          records >= budget.maxRecords ||
          bytes >= budget.maxBytes ||
          budget.signal.aborted
        )
          break;
      }
    }
    return { lane, taken, offset: { base, index }, drained: base >= next };
  };

  const readSegment = async (item: Item, topic: string, where: string): Promise<RecordBatch> => {
    const name = `segment ${Number(item.sk)} of ${where}`;
    checkShape('segment', item.v, name);
    const bytes = await bodyBytes(item, name);
    const batch = await decodeBody(
      { bytes, rawLength: Number(item.rawLength), crc32: Number(item.crc32) },
      topic,
      name,
    );
    if (batch.count !== Number(item.count))
      throw new ConnectError('CORRUPT', `${name} holds ${batch.count} records, its item says ${Number(item.count)}`);
    return batch;
  };

  const bodyBytes = async (item: Item, name: string): Promise<Uint8Array> => {
    if (item.body instanceof Uint8Array) return item.body;
    const object = String(item.object);
    const bytes = await objects.get(object, Number(item.start), Number(item.bytes));
    if (bytes?.length === Number(item.bytes)) return bytes;
    const what = bytes === undefined ? 'is missing' : `ends after ${bytes.length} of ${Number(item.bytes)} bytes`;
    if (Number(item.expires) * 1000 > now())
      throw new ConnectError(
        'CORRUPT',
        `${name}: object ${object} ${what} although it has not expired: restore it, or skip it with \`sluice offsets set\``,
      );
    throw new ConnectError(
      'LOST_POSITION',
      `${name}: object ${object} ${what}; the segment had expired before it was read`,
    );
  };

  return {
    async poll(offsets, budget) {
      const lanes = await lanesOf(offsets);
      const ours = lanes.flat().filter(isOurs);
      const behind = ours.filter((lane) => !isDrained(lane));
      if (behind.length > 0) nextPauseMs = pauseMs.first;
      checkRestored(ours);
      // A fair share each, so that one long queue does not starve the others; never more queues than records.
      const now = behind.slice(0, budget.maxRecords);
      const share = {
        ...budget,
        maxRecords: Math.floor(budget.maxRecords / now.length),
        maxBytes: budget.maxBytes / now.length,
      };
      const reads = await Promise.all(now.map((lane) => readLane(lane, share)));
      const drained = new Set(reads.filter((read) => read.drained).map((read) => read.lane));
      const isEnd = (lane: Lane) => isDrained(lane) || drained.has(lane);
      // A generation that ends with this poll: the next one may hold more.
      const passes = lanes.some((ofTopic) => isPassed(ofTopic, isEnd));
      return pollOfReads(reads, drained.size === behind.length && !passes);
    },
    async more(offsets) {
      return (await lanesOf(offsets)).flat().some((lane) => isOurs(lane) && !isDrained(lane));
    },
    async wait(waitMs, signal) {
      await delay(Math.min(waitMs, nextPauseMs), undefined, { signal });
      nextPauseMs = Math.min(nextPauseMs * pauseMs.growth, pauseMs.longest);
    },
    close: async () => {},
  };
};

interface Taken {
  readonly base: number;
  readonly from: number;
  readonly to: number;
  readonly end: number;
  readonly count: number;
  readonly batch: RecordBatch;
}

interface LaneRead {
  readonly lane: Lane;
  readonly taken: readonly Taken[];
  readonly offset: LogOffset;
  readonly drained: boolean;
}

const laneName = (p: LogPartition): string => `${p.topic}#${p.generation}#${p.queue}`;

/** Whether nothing can come any more in these lanes of one generation, for whichever task. */
const isPassed = (lanes: readonly Lane[], isEnd: (lane: Lane) => boolean): boolean =>
  lanes.length > 0 && lanes.every((lane) => lane.head.sealed === true && isEnd(lane));

/** Whether there is a generation that this topic, as it was read, does not have: seals come with it. */
const isFollowed = (topic: Topic, lanes: readonly Lane[]): boolean =>
  lanes.some(({ head, partition }) => head.sealed === true && partition.generation === topic.generation);

const endOf = (segment: Item): number => Number(segment.sk) + Number(segment.count);

const isDrained = ({ offset, head }: Lane): boolean => offset.index === 0 && offset.base === Number(head.next);

const after = (taken: Pick<Taken, 'base' | 'end' | 'count'>, index: number): LogOffset =>
  index === taken.count ? { base: taken.end, index: 0 } : { base: taken.base, index };

/** Invariant 7: a reader ahead of the head has seen records that this log does not have: it was restored from a backup. */
const checkRestored = (lanes: readonly Lane[]): void => {
  for (const { offset, head, partition } of lanes)
    if (offset.base > Number(head.next) || (offset.base === Number(head.next) && offset.index > 0))
      throw restored(laneName(partition), offset, `its head is at ${Number(head.next)}`);
};

/** Cutting a segment means decompressing it twice: what is less than a budget too large is taken whole. */
const recordsWithin = (maxBytes: number, taken: number, recordBytes: number, count: number): number =>
  taken + recordBytes * count <= 2 * maxBytes ? count : Math.max(1, Math.ceil((maxBytes - taken) / recordBytes));

const restored = (where: string, { base, index }: LogOffset, what: string): ConnectError =>
  new ConnectError(
    'LOST_POSITION',
    `${where}: the offset ${base}+${index} is ahead of the log, ${what}: was the table restored? Choose with \`sluice offsets reset\``,
  );

const lostPosition = (where: string, offset: LogOffset, found: Item | undefined, next: number): ConnectError =>
  new ConnectError(
    'LOST_POSITION',
    `${where}: segment ${offset.base} is gone, ${found === undefined ? `nothing is left before the head ${next}` : `the next one is ${Number(found.sk)}`}: it expired before it was read. Go on from what is left with \`sluice offsets reset\`, or read the source again`,
  );

const pollOfReads = (reads: readonly LaneRead[], caughtUp: boolean): Poll<LogOffset> => {
  const parts = reads.flatMap((read) => read.taken.map((taken) => ({ partition: read.lane.partition, ...taken })));
  const batch = parts.length === 0 ? emptyBatch : concatBatches(parts.map((part) => part.batch));
  const starts: number[] = [];
  let count = 0;
  for (const part of parts) {
    starts.push(count);
    count += part.to - part.from;
  }
  return {
    batch,
    position(index): Position<LogOffset> {
      const at = partAt(starts, index);
      const part = parts[at]!;
      return { partition: part.partition, offset: after(part, part.from + (index - starts[at]!) + 1) };
    },
    offsets: reads
      .filter((read) => read.taken.length > 0)
      .map((read) => ({ partition: read.lane.partition, offset: read.offset })),
    caughtUp,
    release() {
      for (const group of batch.groups) freeGroup(group);
    },
  };
};

/** The last start that is not after the index. */
const partAt = (starts: readonly number[], index: number): number => {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= index) low = middle;
    else high = middle - 1;
  }
  return low;
};

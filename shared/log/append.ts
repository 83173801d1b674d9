import { randomUUID } from 'node:crypto';
import { backoffMs, delay } from '../connect/backoff.ts';
import type { RecordBatch } from '../connect/batch.ts';
import type { OffsetCommit, SinkTask } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { objectDays } from '../connect/retention.ts';
import { headKey, segmentKey } from '../state/keys.ts';
import { type OffsetOwner, offsetWrites, settleOffsets } from '../state/offsets.ts';
import { checkShape, shapes } from '../state/shape.ts';
import type { Item, Table, Write, WriteResult } from '../state/table.ts';
import { queueOf } from './murmur2.ts';
import type { ObjectStore } from './objects.ts';
import { type Body, encodeBody } from './segment.ts';
import { type QueueGroups, splitQueues } from './split.ts';
import { ensureTopic, maxQueuesPerCommit, type Topic, type TopicOptions } from './topics.ts';

/**
 * A commit's bodies go into their segment items when they are this small together (compressed): an object's PUT and GET cost as much
 * as 8.6 write units (DESIGN §4).
 */
const inlineBytes = 5 * 1024;

/** Tries of a transaction that lost the race for a head; each re-reads the head and re-issues the transaction alone (hazard A8). */
const headTries = 16;

export interface AppendOptions {
  readonly table: Table;
  readonly objects: ObjectStore;
  /** Whose offsets are committed with the records, and the prefix that its objects live under. */
  readonly owner: OffsetOwner;
  readonly topicDefaults?: Partial<TopicOptions>;
  readonly now?: () => number;
  readonly newId?: () => string;
}

/**
 * Appends batches to the topic log: segments, heads and the source's offsets in ONE transaction (DESIGN §4). Exactly once: a batch
 * whose offset moved is FENCED whole; one whose answer was lost is recognised by its writeId.
 */
export const logAppender = ({
  table,
  objects,
  owner,
  topicDefaults,
  now = Date.now,
  newId = randomUUID,
}: AppendOptions) => {
  const topics = new Map<string, Topic>();
  /** Where each head was last seen: a guess, checked by the transaction. */
  const heads = new Map<string, Head>();

  const loadTopics = async (batch: RecordBatch): Promise<void> => {
    for (const name of new Set(batch.groups.map((group) => group.topic)))
      if (!topics.has(name)) topics.set(name, await ensureTopic(table, name, topicDefaults));
  };

  /** Splits, encodes and uploads; the result can be re-issued until a head is sealed. */
  const stage = async (batch: RecordBatch): Promise<readonly Staged[]> => {
    await loadTopics(batch);
    const id = newId();
    // Records without a key stay together, each batch in a queue as it comes.
    const sticky = Buffer.from(id);
    const targets = splitQueues(
      batch,
      (name) => topics.get(name)!.queues,
      (queues) => queueOf(sticky, queues),
    );
    const bodies = await Promise.all(targets.map((target) => encodeBody(target.groups)));
    const total = bodies.reduce((sum, body) => sum + body.bytes.length, 0);
    const staged = targets.map((target, i) => ({ ...target, topic: topics.get(target.topic)!, body: bodies[i]! }));
    if (total <= inlineBytes) return staged.map((one) => ({ ...one, place: { body: one.body.bytes } }));
    // Invariant 3: write-once under an attempt-unique name; hazard A6: the class of its life is the longest retention in it.
    const days = Math.max(...staged.map((one) => objectDays(one.topic)));
    const object = `r${days}/${owner.connector}/${new Date(now()).toISOString().slice(0, 10)}/${id}`;
    await objects.put(object, bodies.length === 1 ? bodies[0]!.bytes : Buffer.concat(bodies.map((body) => body.bytes)));
    let start = 0;
    return staged.map((one) => {
      const place = { object, start };
      start += one.body.bytes.length;
      return { ...one, place };
    });
  };

  const headName = ({ topic, queue }: Staged) => `${topic.name}#${topic.generation}#${queue}`;

  /** Reads the heads that no append of this task has seen yet. */
  const readHeads = async (staged: readonly Staged[]): Promise<void> => {
    const unknown = staged.filter((one) => !heads.has(headName(one)));
    const items = await table.getMany(unknown.map(({ topic, queue }) => headKey(topic.name, topic.generation, queue)));
    for (const [i, one] of unknown.entries()) {
      const item = items[i];
      if (item === undefined)
        throw new ConnectError('CORRUPT', `the head of ${headName(one)} is missing: was the topic deleted by hand?`);
      checkShape('head', item.v, `the head of ${headName(one)}`);
      heads.set(headName(one), headOf(item));
    }
  };

  /** The transaction's part of one queue, and where its head will be. */
  const planAppend = (one: Staged): { readonly writes: readonly Write[]; readonly after: Head } => {
    const { topic, queue, count, body, place } = one;
    const { next: base, bytes: bytesBefore, lastExpires } = heads.get(headName(one))!;
    const atMs = now();
    // The coordinator moves `expires` as far as `cap` for who has not read it yet; its object lives longer.
    const cap = Math.ceil((atMs + topic.retentionMs + topic.capMs) / 1000);
    // A log is shortened from its beginning: where the retention was longer before, nothing ends before what was appended earlier.
    const expires = Math.min(cap, Math.max(lastExpires, Math.ceil((atMs + topic.retentionMs) / 1000)));
    const [minMs, maxMs] = timeRange(one, atMs);
    const segment = {
      ...segmentKey(topic.name, topic.generation, queue, base),
      v: shapes.segment,
      count,
      bytes: body.bytes.length,
      rawLength: body.rawLength,
      crc32: body.crc32,
      minMs,
      maxMs,
      producer: owner.connector,
      bytesBefore,
      expires,
      cap,
      ...place,
    };
    const after: Head = { next: base + count, bytes: bytesBefore + body.rawLength, lastExpires: expires };
    // The fence of the log: an append lands at the head or not at all, whatever retention has removed (hazard A1).
    const head: Write = {
      update: headKey(topic.name, topic.generation, queue),
      set: { ...after },
      when: { next: base, sealed: false },
    };
    return { writes: [head, { put: segment, when: 'absent' }], after };
  };

  /** Takes in what a lost race says of the heads. `sealed`: the topic has a new generation, so everything is split again. */
  const learnHeads = (staged: readonly Staged[], result: WriteResult & { ok: false }): 'sealed' | 'moved' => {
    let sealed = false;
    for (const { index, found } of result.failed) {
      const one = staged[index >> 1];
      if (one === undefined) continue;
      heads.delete(headName(one));
      if (found?.sealed !== true) continue;
      topics.delete(one.topic.name);
      sealed = true;
    }
    return sealed ? 'sealed' : 'moved';
  };

  /** Batches that are being staged before their turn. */
  const early = new Map<RecordBatch, Promise<readonly Staged[]>>();

  const stageEarly = (batch: RecordBatch): void => {
    const staged = stage(batch);
    early.set(batch, staged);
    // Told when it is its turn.
    staged.catch(() => {});
  };

  /** Appends a batch and commits the offsets with it. Throws FENCED. */
  const append = async (batch: RecordBatch, commits: readonly OffsetCommit[]): Promise<void> => {
    const begun = early.get(batch);
    early.delete(batch);
    let staged = await (begun ?? stage(batch));
    for (let attempt = 1; attempt <= headTries; attempt++) {
      await readHeads(staged);
      const plans = staged.map(planAppend);
      const writes = [...plans.flatMap((plan) => plan.writes), ...offsetWrites(owner, commits)];
      if (writes.length === 0) return;
      const result = await table.write(writes);
      if (result.ok) {
        for (const [i, one] of staged.entries()) heads.set(headName(one), plans[i]!.after);
        return;
      }
      // Offsets first: when they were moved by this commit itself, its lost answer also moved the heads.
      if (settleOffsets(commits, result, staged.length * 2) === 'committed') {
        heads.clear();
        return;
      }
      if (learnHeads(staged, result) === 'sealed') staged = await stage(batch);
      else await delay(backoffMs(attempt, 2, 200));
    }
    throw new ConnectError(
      'UNAVAILABLE',
      `lost the race for a head of ${batch.groups[0]?.topic} ${headTries} times: too many writers for its queues`,
      {
        retriable: true,
      },
    );
  };

  /** How much of a batch one commit can hold: whole groups, up to the queues that a transaction has room for. */
  const take = (batch: RecordBatch): number => {
    const names = new Set<string>();
    let queues = 0;
    let records = 0;
    for (const group of batch.groups) {
      if (!names.has(group.topic)) {
        names.add(group.topic);
        // A topic that is not known yet may have any number of queues: it counts as full. The first one always fits.
        queues += topics.get(group.topic)?.queues ?? maxQueuesPerCommit;
        if (names.size > 1 && queues > maxQueuesPerCommit) break;
      }
      records += group.count;
    }
    return records;
  };

  return {
    append,
    take,
    stageEarly,
    /** When nothing is under way any more. */
    async close() {
      await Promise.allSettled(early.values());
    },
  };
};

/** Where a queue ends. */
interface Head {
  readonly next: number;
  /** Uncompressed, of all that was ever appended to it: what is unread is a difference of two of these. */
  readonly bytes: number;
  /** Of its last segment. Not named `expires`: that is what TTL removes. */
  readonly lastExpires: number;
}

const headOf = ({ next, bytes = 0, lastExpires = 0 }: Item): Head => ({
  next: Number(next),
  bytes: Number(bytes),
  lastExpires: Number(lastExpires),
});

interface Staged extends Omit<QueueGroups, 'topic'> {
  readonly topic: Topic;
  readonly body: Body;
  /** In the segment item, or a byte range of the commit's object. */
  readonly place: { readonly body: Uint8Array } | { readonly object: string; readonly start: number };
}

/** The earliest and the latest record timestamp of a segment; records without one count as of now. */
const timeRange = ({ groups }: Staged, nowMs: number): readonly [number, number] => {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (const { timestampsMs } of groups)
    for (const ms of timestampsMs ?? []) {
      if (ms < min) min = ms;
      if (ms > max) max = ms;
    }
  return min <= max ? [min, max] : [nowMs, nowMs];
};

/** The topic log as a sink: what a source connector and a processor write to. */
export const logSink = (options: AppendOptions): SinkTask => {
  const { append, take, stageEarly, close } = logAppender(options);
  return {
    takesControl: true,
    ahead: stageEarly,
    async put(batch, { offsets }) {
      await append(batch, offsets);
      return { committed: true };
    },
    take,
    close,
  };
};

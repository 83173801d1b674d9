import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import * as z from 'zod';
import type { RecordBatch } from '../../shared/connect/batch.ts';
import {
  defineSink,
  type PutContext,
  partitionKey,
  type SinkTask,
  type StoredOffset,
} from '../../shared/connect/connector.ts';
import { ConnectError, rowError } from '../../shared/connect/errors.ts';
import { canonicalJson } from '../../shared/connect/json.ts';
import type { Value } from '../../shared/connect/schema.ts';
import { describeSink, type SeenRecord, type SinkFixture, sinkRules } from './describe-sink.ts';

type Kind = 'owner' | 'two-phase' | 'plain';

const bugs = {
  'keeps the batch': 'records arrive: one, none, many, of several groups and topics',
  'writes on close': 'a batch is visible when put settles, before close',
  'skips empty batches': 'an empty batch moves the offset alone',
  'compares no seq': 'a zombie that read before the offset moved is FENCED and leaves nothing',
  'compares no writeId': 'a put that is repeated because its answer was lost doubles nothing',
  'writes before it compares': 'a zombie that read before the offset moved is FENCED and leaves nothing',
  'compares early': 'of two runs with the same batch at the same time, one commits',
  'forgets the incarnation':
    'owned offsets come back as they were put, apart for each deployment, connector and incarnation',
  'resets again': 'an operator resets owned offsets once per id, and fences who read before',
  'resets without seq': 'an operator resets owned offsets once per id, and fences who read before',
  'ignores what is prepared': 'a crash between commit and promote is finished by the next open, once',
  'promotes twice': 'a promote that is repeated shows its batch once',
  'counts rejects among the good': 'a rejected record is named before the commit, and the rest is durable',
  'rejects after the commit': 'a rejected record is named before the commit, and the rest is durable',
  'writes in spite of tolerance none': 'where rejecting throws, nothing is written and the error goes through',
  'first wins': 'the last record of a key wins, within a batch and across batches',
  'deletes first': 'a tombstone deletes its key, in order with the records around it',
  'ignores the signal': 'a put whose signal is aborted throws and commits nothing',
  'closes twice': 'closing twice is once',
} as const;
type Bug = keyof typeof bugs;

/** A destination in memory with one planted bug, or none: the suite must name the bug, and nothing else where there is none. */
const memoryFixture = (kind: Kind, mode: 'append' | 'upsert', bug?: Bug): SinkFixture => {
  const table = new Map<string, SeenRecord>();
  const offsets = new Map<string, StoredOffset & { readonly resetId?: string }>();
  const promoted = new Set<string>();
  const staged = new Map<string, SeenRecord[]>();
  const has = (name: Bug) => bug === name;

  const apply = (rows: readonly SeenRecord[]) => {
    const ordered = has('deletes first')
      ? rows.toSorted((a, b) => Number(b.value === null) - Number(a.value === null))
      : rows;
    const seen = new Set<string>();
    for (const record of ordered) {
      if (mode === 'append') {
        table.set(randomUUID(), record);
        continue;
      }
      const key = canonicalJson([record.topic!, record.key!]);
      if (has('first wins') && seen.has(key)) continue;
      seen.add(key);
      if (record.value === null) table.delete(key);
      else table.set(key, record);
    }
  };

  const settle = (prefix: string, context: PutContext): 'new' | 'mine' => {
    for (const { key, seq, writeId } of has('compares no seq') ? [] : context.offsets) {
      const found = offsets.get(prefix + key);
      if ((found?.seq ?? 0) === seq) continue;
      if (found?.writeId === writeId && !has('compares no writeId')) return 'mine';
      throw new ConnectError('FENCED', key);
    }
    return 'new';
  };

  const commit = (prefix: string, context: PutContext) => {
    for (const { key, seq, ...rest } of context.offsets)
      offsets.set(prefix + key, { ...offsets.get(prefix + key), key, ...structuredClone(rest), seq: seq + 1 });
  };

  const split = (batch: RecordBatch) => {
    const good: SeenRecord[] = [];
    const rejected: { index: number; error: ConnectError }[] = [];
    let index = 0;
    for (const { topic, key, value } of batch) {
      if (value !== null && (value as { id: Value }).id === 'bad')
        rejected.push({ index: has('counts rejects among the good') ? good.length : index, error: rowError('bad') });
      else good.push({ topic, key, value });
      index++;
    }
    return { good, rejected };
  };

  const applyLate = (batch: RecordBatch) => {
    try {
      apply(split(batch).good);
    } catch {
      // What is left of an overwritten batch may not even parse.
    }
  };

  const sink = defineSink({
    type: 'memory',
    config: z.strictObject({}),
    delivery: kind === 'plain' && mode === 'append' ? 'at-least-once' : 'exactly-once',
    async open({ deployment, connector, incarnation }): Promise<SinkTask> {
      const prefix = `${deployment}/${connector}/${has('forgets the incarnation') ? '' : incarnation}/`;
      let closed = false;
      const late: SeenRecord[] = [];
      const promote = async ({ id }: { id: string }) => {
        if (has('ignores what is prepared') || (promoted.has(id) && !has('promotes twice'))) return;
        promoted.add(id);
        apply(staged.get(id)!);
      };
      const task: SinkTask = {
        async put(batch, context) {
          if (!has('ignores the signal')) context.signal.throwIfAborted();
          if (batch.count === 0 && has('skips empty batches')) return { committed: true };
          const early = has('compares early') && kind === 'owner' ? settle(prefix, context) : undefined;
          await Promise.resolve();
          const { good, rejected } = split(batch);
          if (has('writes before it compares')) apply(good);
          if (rejected.length > 0 && !has('rejects after the commit'))
            await context.reject(rejected).catch((error) => {
              if (has('writes in spite of tolerance none')) apply(good);
              throw error;
            });
          if (kind === 'owner') {
            if ((early ?? settle(prefix, context)) === 'mine') return { committed: true };
            commit(prefix, context);
          }
          if (rejected.length > 0 && has('rejects after the commit')) await context.reject(rejected);
          if (kind === 'two-phase') {
            const id = randomUUID();
            staged.set(id, good);
            await context.commit({ id, data: {} });
            await promote({ id });
          } else if (has('writes on close')) late.push(...good);
          else if (has('keeps the batch')) setImmediate(() => applyLate(batch));
          else if (!has('writes before it compares')) apply(good);
          return { committed: kind !== 'plain' };
        },
        async close() {
          if (closed && has('closes twice')) throw new Error('closed already');
          closed = true;
          apply(late.splice(0));
        },
      };
      if (kind === 'two-phase') return { ...task, promote };
      if (kind === 'plain') return task;
      return {
        ...task,
        offsets: async () =>
          [...offsets].filter(([key]) => key.startsWith(prefix)).map(([, { resetId: _, ...stored }]) => stored),
        async reset(id, positions) {
          for (const { partition, offset } of positions) {
            const key = partitionKey(partition);
            const found = offsets.get(prefix + key);
            if (found?.resetId === id && !has('resets again')) continue;
            const seq = (found?.seq ?? 0) + (has('resets without seq') ? 0 : 1);
            offsets.set(prefix + key, { key, partition, offset, seq, writeId: id, resetId: id });
          }
        },
      };
    },
  });
  return {
    sink: sink as SinkFixture['sink'],
    config: {},
    mode,
    tombstones: mode === 'upsert',
    rejects: { topic: 'orders', key: { id: 'bad' }, value: { id: 'bad' } },
    read: async () => [...table.values()],
  };
};

for (const kind of ['owner', 'two-phase', 'plain'] as const)
  for (const mode of ['append', 'upsert'] as const)
    describeSink(`memory, ${kind}, ${mode}`, async () => memoryFixture(kind, mode));

test.each(Object.entries(bugs))('a sink that %s breaks: %s', async (bug, title) => {
  const broken: string[] = [];
  for (const kind of ['owner', 'two-phase'] as const)
    for (const mode of ['append', 'upsert'] as const)
      for (const rule of sinkRules)
        await rule.run(memoryFixture(kind, mode, bug as Bug)).catch(() => broken.push(rule.title));
  expect(broken).toContain(title);
});

test('every rule is broken by some planted bug', () => {
  expect(new Set(Object.values(bugs))).toEqual(new Set(sinkRules.map(({ title }) => title)));
});

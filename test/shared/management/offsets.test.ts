import { describe, expect, it } from 'vitest';
import { partitionKey, type SinkTask, type SourceTask } from '../../../shared/connect/connector.ts';
import { applyConnector } from '../../../shared/management/apply.ts';
import { changeOffsets, getOffsets, offsetHistory, resetOffsets } from '../../../shared/management/offsets.ts';
import { changeTarget } from '../../../shared/management/tasks.ts';
import { readConnector } from '../../../shared/state/connectors.ts';
import { offsetKey } from '../../../shared/state/keys.ts';
import { acquireLease } from '../../../shared/state/lease.ts';
import { appendingDestination, askedSource, owningDestination } from '../../kit/memory-connectors.ts';
import { createPlatform, recordedFunctions, specOf } from '../../kit/platform.ts';
import { numbered, upstreamOf } from '../../kit/run-kit.ts';

const a = { name: 'a' };
const b = { name: 'b' };

/** A direct connector of two partitions with three rows each, stopped. */
const bench = async (destination: { readonly sink: () => SinkTask }) => {
  const platform = createPlatform();
  const { table, clock } = platform;
  const { functions, invoked } = recordedFunctions();
  const upstream = upstreamOf({ a: numbered(3), b: numbered(3) });
  platform.plugins.set('c', {
    source: () => askedSource(upstream, 'rows') as SourceTask<unknown>,
    sink: destination.sink,
  });
  await applyConnector(table, functions, specOf({ name: 'c', kind: 'direct', maxRecords: 100 }));
  const stop = () => changeTarget(table, functions, 'c', 'stop');
  const resume = () => changeTarget(table, functions, 'c', 'resume');
  const run = () => platform.invoke('c', 0);
  const change = (partition: typeof a, offset: unknown) =>
    changeOffsets(table, 'c', [{ partition, offset }], 'ann', clock.now());
  const standing = async () => {
    const { offsets } = await getOffsets(table, 'c');
    return Object.fromEntries(offsets.map(({ partition, offset, seq }) => [partition.name, [offset, seq]]));
  };
  return { platform, table, clock, functions, invoked, stop, resume, run, change, standing };
};

/** A destination that owns its offsets and carries out orders, once per id. */
const resettable = () => {
  const destination = owningDestination();
  const orders = new Map<string, unknown>();
  const sink = (): SinkTask => ({
    ...destination.sink(),
    async reset(id, offsets) {
      if (orders.has(id)) return;
      orders.set(id, offsets);
    },
  });
  return { ...destination, sink, orders };
};

describe('changeOffsets', () => {
  it('moves offsets of the state table by compare-and-set, so that a batch read before is fenced', async () => {
    const { rows, sink } = appendingDestination();
    const { stop, resume, run, change, standing } = await bench({ sink });
    await run();
    expect(await standing()).toEqual({ a: [{ next: 3 }, 1], b: [{ next: 3 }, 1] });
    await stop();
    expect(await change(a, { next: 1 })).toBe('changed');
    expect(await standing()).toEqual({ a: [{ next: 1 }, 2], b: [{ next: 3 }, 1] });
    await resume();
    expect(await run()).toMatchObject({ records: 2 });
    expect(rows).toHaveLength(8);
  });

  it('to null starts that partition over', async () => {
    const { rows, sink } = appendingDestination();
    const { stop, resume, run, change } = await bench({ sink });
    await run();
    await stop();
    await change(a, null);
    await resume();
    expect(await run()).toMatchObject({ outcome: 'drained', records: 3 });
    expect(rows.slice(6).map(({ n }) => n)).toEqual([0, 1, 2]);
  });

  it('is refused while the connector is started, and while a run still holds a lease', async () => {
    const { table, clock, stop, change, standing, run } = await bench(appendingDestination());
    await run();
    await expect(change(a, { next: 1 })).rejects.toThrow('connector c is started');
    const nowMs = clock.now();
    await acquireLease(table, { connector: 'c', task: 0, owner: 'r', expiresAtMs: nowMs + 5_000, nowMs });
    await stop();
    await expect(change(a, { next: 1 })).rejects.toMatchObject({ code: 'STATE_CONFLICT', retriable: true });
    expect((await standing()).a).toEqual([{ next: 3 }, 1]);
    clock.advance(5_000);
    expect(await change(a, { next: 1 })).toBe('changed');
  });

  it('tells who changed what from what, the last change first', async () => {
    const { table, clock, stop, change, run } = await bench(appendingDestination());
    await run();
    await stop();
    await change(a, { next: 1 });
    clock.advance(1_000);
    await change(b, null);
    expect(await offsetHistory(table, 'c')).toEqual([
      expect.objectContaining({ who: 'ann', changes: [{ partition: b, offset: null }] }),
      expect.objectContaining({ who: 'ann', changes: [{ partition: a, offset: { next: 1 } }] }),
    ]);
  });
});

describe('offsets that a destination owns (hazard B5)', () => {
  it('are moved by the next run, in the destination: until then the order is shown as pending', async () => {
    const destination = resettable();
    const { table, stop, resume, run, change } = await bench(destination);
    await run();
    await stop();
    expect(await change(a, { next: 1 })).toBe('pending');
    expect((await getOffsets(table, 'c')).reset?.offsets).toEqual([{ partition: a, offset: { next: 1 } }]);
    await resume();
    await run();
    expect([...destination.orders.values()]).toEqual([[{ partition: a, offset: { next: 1 } }]]);
    expect((await getOffsets(table, 'c')).reset).toBeUndefined();
  });

  it('keep every order that waits: a second one adds to the first', async () => {
    const destination = resettable();
    const { table, stop, resume, run, change } = await bench(destination);
    await run();
    await stop();
    await change(a, { next: 1 });
    await change(b, { next: 2 });
    await change(a, null);
    expect((await getOffsets(table, 'c')).reset?.offsets).toEqual([
      { partition: a, offset: null },
      { partition: b, offset: { next: 2 } },
    ]);
    await resume();
    await run();
    expect([...destination.orders.values()]).toHaveLength(1);
  });

  it('are not missed by an order that comes before the first run, when nobody knows the owner yet', async () => {
    const destination = resettable();
    const { stop, resume, run, change } = await bench(destination);
    await stop();
    expect(await change(a, { next: 1 })).toBe('pending');
    await resume();
    await run();
    expect([...destination.orders.values()]).toEqual([[{ partition: a, offset: { next: 1 } }]]);
  });

  it('nor is it where it turns out that the state table owns them', async () => {
    const { rows, sink } = appendingDestination();
    const { stop, resume, run, change } = await bench({ sink });
    await stop();
    expect(await change(a, { next: 2 })).toBe('pending');
    await resume();
    expect(await run()).toMatchObject({ records: 4 });
    expect(rows.map(({ n }) => n)).toEqual([2, 0, 1, 2]);
    expect(await run()).toMatchObject({ outcome: 'idle' });
  });
});

describe('resetOffsets', () => {
  it('takes every partition back to the beginning', async () => {
    const { rows, sink } = appendingDestination();
    const { table, clock, stop, resume, run } = await bench({ sink });
    await run();
    await stop();
    expect(await resetOffsets(table, 'c', 'ann', clock.now())).toBe('changed');
    await resume();
    expect(await run()).toMatchObject({ records: 6 });
    expect(rows).toHaveLength(12);
  });

  it('reaches partitions that only the destination which owns the offsets knows', async () => {
    const { rows, sink } = owningDestination();
    const { table, clock, stop, resume, run } = await bench({ sink });
    const { incarnation } = (await readConnector(table, 'c'))!;
    await run();
    // A run that died between its commits and its release leaves a copy behind that lacks one of them.
    await table.write([{ delete: offsetKey('c', incarnation, partitionKey(b)) }]);
    await stop();
    expect(await resetOffsets(table, 'c', 'ann', clock.now())).toBe('pending');
    await resume();
    expect(await run()).toMatchObject({ records: 6 });
    expect(rows).toHaveLength(12);
  });
});

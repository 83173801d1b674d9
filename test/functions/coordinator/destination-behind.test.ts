import { beforeEach, describe, expect, it, vi } from 'vitest';
import { sweep } from '../../../functions/coordinator/sweep.ts';
import type { SinkTask, SourceTask } from '../../../shared/connect/connector.ts';
import { ConnectError } from '../../../shared/connect/errors.ts';
import { applyConnector } from '../../../shared/management/apply.ts';
import { getOffsets } from '../../../shared/management/offsets.ts';
import { restartConnector } from '../../../shared/management/tasks.ts';
import { appendingDestination, askedSource, owningDestination } from '../../kit/memory-connectors.ts';
import { createPlatform, recordedFunctions, specOf } from '../../kit/platform.ts';
import { numbered, upstreamOf } from '../../kit/run-kit.ts';

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;

/** source → rows → sink, with a destination that owns its offsets, and the first four of seven rows in its backup. */
const bench = async () => {
  const platform = createPlatform();
  const { table, clock } = platform;
  const { functions, invoked } = recordedFunctions();
  const upstream = upstreamOf({ a: numbered(4) });
  const destination = owningDestination();
  const opened = { count: 0, fails: false };
  const sink = (): SinkTask => {
    opened.count++;
    if (opened.fails) throw new ConnectError('UNAVAILABLE', 'no such host', { retriable: true });
    return destination.sink();
  };
  platform.plugins.set('source', { source: () => askedSource(upstream, 'rows') as SourceTask<unknown> });
  platform.plugins.set('sink', { sink });
  const topic = { name: 'rows', queues: 1, retentionMs: 7 * dayMs };
  const spec = specOf({ name: 'sink', kind: 'sink', from: ['rows'] });
  await applyConnector(table, functions, specOf({ name: 'source', kind: 'source', to: [topic] }));
  await applyConnector(table, functions, spec);
  const copy = async () => {
    await platform.invoke('source', 0);
    return platform.invoke('sink', 0);
  };
  await copy();
  const failOver = destination.backup();
  upstream.get('a')!.push(...numbered(7).slice(4));
  await copy();
  invoked();
  /** One sweep, and the runs that it asks for. */
  const swept = async () => {
    await sweep(table, functions, clock.now(), () => {});
    const asked = invoked();
    for (const one of asked) await platform.invoke(one.split('#')[0]!, 0);
    return asked;
  };
  const written = () => destination.rows.map(({ n }) => n);
  return { platform, table, clock, functions, spec, opened, upstream, copy, failOver, swept, written };
};

/** Hazard B6: rows and offsets go back together, so the destination is consistent, but nothing that is known here says so. */
describe('a destination that owns its offsets and lost its last transactions', () => {
  let world: Awaited<ReturnType<typeof bench>>;
  beforeEach(async () => {
    world = await bench();
    expect(world.written()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    world.failOver();
    expect(await world.platform.invoke('sink', 0), 'the copy of its offsets says that all is done').toEqual(
      expect.objectContaining({ outcome: 'idle' }),
    );
  });

  it('gets them again with the next record, whatever the copy of its offsets says', async () => {
    const { upstream, copy, written } = world;
    upstream.get('a')!.push(...numbered(8).slice(7));
    expect(await copy()).toMatchObject({ outcome: 'drained', records: 4 });
    expect(written()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('gets them after the failure that the failover was for a run', async () => {
    const { upstream, opened, copy, clock, swept, written } = world;
    upstream.get('a')!.push(...numbered(8).slice(7));
    opened.fails = true;
    expect(await copy()).toMatchObject({ outcome: 'failed' });
    opened.fails = false;
    clock.advance(2 * minuteMs);
    expect(await swept()).toEqual(['sink#0 sweep']);
    expect(written()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it.each([
    ['restarts it', () => restartConnector(world.table, world.functions, 'sink')],
    ['deploys it again', () => applyConnector(world.table, world.functions, world.spec)],
  ])('gets them when its operator %s', async (_, act) => {
    const { platform, table, opened, written } = world;
    await act();
    expect(await platform.invoke('sink', 0)).toMatchObject({ outcome: 'drained', records: 3 });
    expect(written()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect((await getOffsets(table, 'sink')).reset).toBeUndefined();
    const before = opened.count;
    expect(await platform.invoke('sink', 0)).toMatchObject({ outcome: 'idle' });
    expect(opened.count, 'it is asked once').toBe(before);
  });

  it('gets them within a day, although nothing comes and nobody does anything', async () => {
    const { clock, swept, written } = world;
    for (let hour = 0; hour < 23; hour++) {
      expect(await swept()).toEqual([]);
      clock.advance(60 * minuteMs);
    }
    clock.advance(60 * minuteMs);
    expect(await swept()).toEqual(['sink#0 sweep']);
    expect(written()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(await swept(), 'not again for a day').toEqual([]);
  });
});

describe('a destination that is asked where it stands', () => {
  it('in vain, because the state table owns the offsets, moves nothing', async () => {
    const { platform, table, clock, functions, spec } = await bench();
    const { rows, sink } = appendingDestination();
    platform.plugins.set('plain', { sink });
    await applyConnector(table, functions, { ...spec, name: 'plain' }, { nowMs: clock.now() });
    await platform.invoke('plain', 0);
    const { offsets } = await getOffsets(table, 'plain');
    await restartConnector(table, functions, 'plain');
    await platform.invoke('plain', 0);
    expect(await getOffsets(table, 'plain')).toEqual({ offsets, prepared: [] });
    expect(rows).toHaveLength(7);
  });

  it('waits for the moment that its operator chose', async () => {
    const { platform, table, clock, functions, spec, swept, failOver, written } = await bench();
    failOver();
    await applyConnector(table, functions, { ...spec, trigger: 'manual' });
    clock.advance(2 * dayMs);
    expect(await swept()).toEqual([]);
    const write = vi.spyOn(table, 'write');
    expect(await swept()).toEqual([]);
    expect(write, 'the order is there, and not given again every minute').not.toHaveBeenCalled();
    expect(await platform.invoke('sink', 0)).toMatchObject({ records: 3 });
    expect(written()).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('is not asked by a sweep that comes while its first run ends', async () => {
    const { platform, table, clock, functions, spec } = await bench();
    const { sink } = owningDestination();
    platform.plugins.set('new', { sink });
    await applyConnector(table, functions, { ...spec, name: 'new' }, { nowMs: clock.now() });
    let writes = 0;
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      // Its lease, the copy of its offsets, its release.
      if (name === 'write 1' && ++writes === 3) await sweep(table, functions, clock.now(), () => {});
      return call();
    };
    expect(await platform.invoke('new', 0, { op })).toMatchObject({ outcome: 'drained', records: 7 });
    expect(writes).toBe(3);
    expect(await getOffsets(table, 'new')).toMatchObject({ cached: true });
    expect((await getOffsets(table, 'new')).reset).toBeUndefined();
  });

  it('may have no reset: nothing is moved', async () => {
    const { platform, table, functions, failOver } = await bench();
    const { sink } = owningDestination();
    failOver();
    platform.plugins.set('sink', {
      sink: () => {
        const { reset: _, ...task } = sink();
        return task;
      },
    });
    await restartConnector(table, functions, 'sink');
    expect(await platform.invoke('sink', 0)).toMatchObject({ outcome: 'drained', records: 7 });
  });
});

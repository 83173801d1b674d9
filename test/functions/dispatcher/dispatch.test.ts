import { beforeEach, describe, expect, it } from 'vitest';
import { dispatch } from '../../../functions/dispatcher/dispatch.ts';
import { applyConnector, removeConnector } from '../../../shared/management/apply.ts';
import { changeTarget } from '../../../shared/management/tasks.ts';
import { segmentKey, wakeKey } from '../../../shared/state/keys.ts';
import { acquireLease, updateHeld } from '../../../shared/state/lease.ts';
import type { Key } from '../../../shared/state/table.ts';
import { createPlatform, recordedFunctions, specOf } from '../../kit/platform.ts';

const bench = async () => {
  const { table, clock } = createPlatform();
  const { functions, invoked } = recordedFunctions();
  await applyConnector(table, functions, specOf({ name: 'one', kind: 'sink', from: ['rows'], tasks: 2 }));
  await applyConnector(table, functions, specOf({ name: 'two', kind: 'sink', from: ['rows', 'others'] }));
  await applyConnector(table, functions, specOf({ name: 'source', kind: 'source' }));
  invoked();
  /** Dispatches the changes; returns what was invoked, and the sequence numbers that failed. */
  const changed = async (...keys: Key[]) => {
    const changes = keys.map((key, n) => ({ ...key, sequenceNumber: String(n) }));
    const failed = await dispatch(table, functions, changes, clock.now());
    return { invoked: invoked().sort(), failed };
  };
  return { table, clock, functions, changed };
};

const segment = (queue: number, base = 0, topic = 'rows') => segmentKey(topic, 0, queue, base);

describe('dispatch', () => {
  let world: Awaited<ReturnType<typeof bench>>;
  beforeEach(async () => {
    world = await bench();
  });

  it("wakes the task of every subscriber that reads the segment's queue", async () => {
    expect(await world.changed(segment(3))).toEqual({ invoked: ['one#1 data', 'two#0 data'], failed: [] });
    expect(await world.changed(segment(2))).toEqual({ invoked: ['one#0 data', 'two#0 data'], failed: [] });
    expect(await world.changed(segment(0, 0, 'others'))).toEqual({ invoked: ['two#0 data'], failed: [] });
    expect(await world.changed(segment(0, 0, 'nobody-reads'))).toEqual({ invoked: [], failed: [] });
  });

  it('wakes each task once per window, however much happened', async () => {
    const { invoked } = await world.changed(
      segment(1, 0),
      segment(1, 9),
      segment(3, 0),
      wakeKey('one', 1),
      segment(1, 0),
    );
    expect(invoked.map((one) => one.split(' ')[0])).toEqual(['one#1', 'two#0']);
  });

  it('wakes the task that a WAKE row names', async () => {
    expect(await world.changed(wakeKey('source', 0))).toEqual({ invoked: ['source#0 wake'], failed: [] });
  });

  it('knows other rows, and connectors and tasks that are no more, from a reason to wake', async () => {
    const { table, functions, changed } = world;
    const others: Key[] = [
      { pk: 'connector#one', sk: 'CONFIG' },
      { pk: 'connector#one', sk: 'TASK#0' },
      { pk: 'topic#rows', sk: 'META' },
      wakeKey('one', 2),
      wakeKey('nobody', 0),
    ];
    expect(await changed(...others)).toEqual({ invoked: [], failed: [] });
    await removeConnector(table, functions, 'one');
    expect(await changed(segment(0))).toEqual({ invoked: ['two#0 data'], failed: [] });
  });

  it('wakes neither a paused connector nor a failed task', async () => {
    const { table, clock, functions, changed } = world;
    await changeTarget(table, functions, 'two', 'pause');
    const nowMs = clock.now();
    const acquired = await acquireLease(table, { connector: 'one', task: 0, owner: 'r', expiresAtMs: nowMs, nowMs });
    if (!('lease' in acquired)) throw new Error('refused');
    await updateHeld(table, 'one', acquired.lease, { state: 'FAILED' });
    expect(await changed(segment(0), wakeKey('two', 0))).toEqual({ invoked: [], failed: [] });
  });

  it('leaves a reader with a schedule of its own to it, but not its WAKE row', async () => {
    const { table, functions, changed } = world;
    await applyConnector(
      table,
      functions,
      specOf({ name: 'two', kind: 'sink', from: ['rows'], trigger: 'every 60 s' }),
    );
    await changed();
    expect((await changed(segment(0))).invoked).toEqual(['one#0 data']);
    expect((await changed(wakeKey('two', 0))).invoked).toEqual(['two#0 wake']);
  });

  it('leaves out a task whose holder will look again, but not one whose lease is about to end (hazard C4)', async () => {
    const { table, clock, changed } = world;
    const nowMs = clock.now();
    await acquireLease(table, { connector: 'two', task: 0, owner: 'r', expiresAtMs: nowMs + 20_000, nowMs });
    expect((await changed(segment(0))).invoked).toEqual(['one#0 data']);
    clock.advance(15_001);
    expect((await changed(segment(0))).invoked).toEqual(['one#0 data', 'two#0 data']);
  });

  it('names the changes whose task could not be invoked, so that only they come again', async () => {
    const { table, clock } = world;
    const picky = {
      event: async (name: string) => {
        if (name === 'function-one') throw new Error('throttled');
      },
      request: async () => ({}),
    };
    const changes = [segment(0), wakeKey('two', 0), segment(2), segment(0, 0, 'others')].map((key, n) => ({
      ...key,
      sequenceNumber: String(n),
    }));
    expect(await dispatch(table, picky, changes, clock.now())).toEqual(['0', '2']);
  });

  it('reads the subscribers of a topic once per window', async () => {
    const { table, clock, functions } = world;
    let reads = 0;
    const counting = {
      ...table,
      query: (...args: Parameters<typeof table.query>) => {
        reads++;
        return table.query(...args);
      },
    };
    const changes = [0, 1, 2, 3].map((queue) => ({ ...segment(queue), sequenceNumber: String(queue) }));
    await dispatch(counting, functions, changes, clock.now());
    expect(reads).toBe(1);
  });
});

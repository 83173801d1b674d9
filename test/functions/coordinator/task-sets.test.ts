import { describe, expect, it } from 'vitest';
import { sweep } from '../../../functions/coordinator/sweep.ts';
import type { SourceTask } from '../../../shared/connect/connector.ts';
import { applyConnector } from '../../../shared/management/apply.ts';
import { readConnector } from '../../../shared/state/connectors.ts';
import { askedSource, keyedDestination, type Row, stagedDestination } from '../../kit/memory-connectors.ts';
import { alive, createPlatform, leaseMs, recordedFunctions, specOf } from '../../kit/platform.ts';
import { upstreamOf } from '../../kit/run-kit.ts';

const keys = Array.from({ length: 12 }, (_, n) => `k${n}`);

/** source → rows (6 queues) → sink, whose destination keeps the last value of each key and is told of every write. */
const bench = async () => {
  const platform = createPlatform();
  const { table, clock } = platform;
  const { functions, invoked } = recordedFunctions();
  const upstream = upstreamOf({ a: [] });
  const { last, sink } = keyedDestination();
  const written: (Row & { readonly task: number })[] = [];
  platform.plugins.set('source', { source: () => askedSource(upstream, 'rows') as SourceTask<unknown> });
  platform.plugins.set('sink', {
    sink: (_, task, process) =>
      sink({
        op: async (name, call) => {
          const n = (await process.op(name, call)) as Map<string, number>;
          const key = name.replace('write ', '');
          written.push({ key, n: n.get(key)!, task });
          return n as never;
        },
      }),
  });
  const topic = { name: 'rows', queues: 6, retentionMs: 3_600_000 };
  await applyConnector(table, functions, specOf({ name: 'source', kind: 'source', to: [topic], maxRecords: 100 }));
  const setTasks = (tasks: number) =>
    applyConnector(table, functions, specOf({ name: 'sink', kind: 'sink', from: ['rows'], tasks }));
  await setTasks(2);
  let n = 0;
  const produce = async () => {
    for (const key of keys) upstream.get('a')!.push({ key, n });
    n++;
    await platform.invoke('source', 0);
  };
  const tasksNow = async () => {
    const row = await readConnector(table, 'sink');
    return { tasks: row!.tasks, pending: row!.pendingTasks };
  };
  const swept = () => sweep(table, functions, clock.now(), () => {});
  return { platform, clock, last, written, invoked, setTasks, produce, tasksNow, swept, rounds: () => n };
};

describe('tasks.max 2 → 3 → 1 under load (hazard B3, H5)', () => {
  it('never runs two task sets at once, and keeps the order per key', async () => {
    const { platform, last, written, setTasks, produce, tasksNow, swept, rounds } = await bench();
    for (const tasks of [3, 1]) {
      await produce();
      // Task 1 of the old set is in the middle of a put when the number changes.
      const writing = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      let held = false;
      const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
        if (name.startsWith('write k') && !held) {
          held = true;
          writing.resolve();
          await goOn.promise;
        }
        return call();
      };
      const before = await tasksNow();
      const old = platform.invoke('sink', 1, { op });
      await writing.promise;
      await setTasks(tasks);
      await produce();
      await swept();
      expect(await tasksNow(), 'the old set still holds a lease').toEqual({ tasks: before.tasks, pending: tasks });
      const seen = written.length;
      for (let task = 0; task < 3; task++) await platform.invoke('sink', task);
      expect(written.length, 'no lease is taken while a set is pending').toBe(seen);
      goOn.resolve();
      expect(await old).toMatchObject({ outcome: expect.stringMatching(/superseded|drained/) });
      await swept();
      expect(await tasksNow()).toEqual({ tasks, pending: undefined });
      for (let round = 0; round < 5; round++) for (let task = 0; task < 3; task++) await platform.invoke('sink', task);
    }
    expect(Object.fromEntries(last)).toEqual(Object.fromEntries(keys.map((key) => [key, rounds() - 1])));
    for (const key of keys) {
      const ns = written.filter((one) => one.key === key).map((one) => one.n);
      expect(ns, `the order of ${key}`).toEqual([...ns].sort((a, b) => a - b));
    }
  });

  it('flips when the lease of a task that died has expired, and wakes the new set', async () => {
    const { platform, clock, invoked, setTasks, produce, tasksNow, swept } = await bench();
    await produce();
    const killed = Promise.withResolvers<void>();
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (name !== 'put') return call();
      killed.resolve();
      return new Promise<never>(() => {});
    };
    void platform.invoke('sink', 1, { op });
    await killed.promise;
    await setTasks(3);
    invoked();
    await swept();
    expect(await tasksNow()).toEqual({ tasks: 2, pending: 3 });
    expect(invoked()).toEqual([]);
    clock.advance(leaseMs);
    await swept();
    expect(await tasksNow()).toEqual({ tasks: 3, pending: undefined });
    expect(invoked()).toEqual(['sink#0 sweep', 'sink#1 sweep', 'sink#2 sweep']);
  });

  it('of a smaller set promotes what a task that is no more had committed', async () => {
    const { platform, clock, setTasks, produce, swept } = await bench();
    const { rows, sink } = stagedDestination();
    platform.plugins.set('sink', { sink: (_row, _task, process) => sink(process) });
    await produce();
    const killed = Promise.withResolvers<void>();
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (name !== 'rename') return call();
      killed.resolve();
      return new Promise<never>(() => {});
    };
    void platform.invoke('sink', 1, { op });
    await killed.promise;
    await setTasks(1);
    clock.advance(leaseMs);
    await swept();
    for (let round = 0; round < 5; round++) await platform.invoke('sink', 0, alive);
    expect(
      rows()
        .map(({ key }) => key)
        .sort(),
    ).toEqual([...keys].sort());
  });
});

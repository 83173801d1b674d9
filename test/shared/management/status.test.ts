import { describe, expect, it } from 'vitest';
import type { SourceTask } from '../../../shared/connect/connector.ts';
import { ConnectError } from '../../../shared/connect/errors.ts';
import { changeQueues } from '../../../shared/log/topics.ts';
import { applyConnector } from '../../../shared/management/apply.ts';
import { readState, readStates } from '../../../shared/management/status.ts';
import { changeTarget, restartConnector } from '../../../shared/management/tasks.ts';
import { logPk, taskKey } from '../../../shared/state/keys.ts';
import { acquireLease } from '../../../shared/state/lease.ts';
import { appendingDestination, askedSource } from '../../kit/memory-connectors.ts';
import { createPlatform, recordedFunctions, specOf } from '../../kit/platform.ts';
import { numbered, upstreamOf } from '../../kit/run-kit.ts';

/** source → rows → sink; the source has seven rows of different keys. */
const bench = async () => {
  const platform = createPlatform();
  const { table, clock } = platform;
  const { functions, invoked } = recordedFunctions();
  const upstream = upstreamOf({ a: numbered(7) });
  platform.plugins.set('source', { source: () => askedSource(upstream, 'rows') as SourceTask<unknown> });
  platform.plugins.set('sink', { sink: () => appendingDestination().sink() });
  const topic = { name: 'rows', queues: 2, retentionMs: 3_600_000 };
  await applyConnector(table, functions, specOf({ name: 'source', kind: 'source', to: [topic] }));
  await applyConnector(table, functions, specOf({ name: 'sink', kind: 'sink', from: ['rows'], tasks: 2 }));
  invoked();
  const lag = async () => (await readState(table, 'sink', clock.now()))?.lagRecords;
  return { platform, table, clock, functions, invoked, upstream, lag };
};

describe('lag', () => {
  it('counts what is appended and not yet committed, over all queues, and is 0 when all is done', async () => {
    const { platform, lag } = await bench();
    expect(await lag()).toBe(0);
    await platform.invoke('source', 0);
    expect(await lag()).toBe(7);
    await platform.invoke('sink', 0);
    const left = (await lag())!;
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThan(7);
    await platform.invoke('sink', 1);
    expect(await lag()).toBe(0);
  });

  it('does not count what had expired before the reader came', async () => {
    const { platform, table, clock, functions } = await bench();
    await platform.invoke('source', 0);
    for (const queue of [0, 1])
      for (const { pk, sk } of await table.query(logPk('rows', 0, queue)))
        if (sk !== 'HEAD') await table.write([{ delete: { pk, sk } }]);
    platform.plugins.set('late', { sink: () => appendingDestination().sink() });
    await applyConnector(table, functions, specOf({ name: 'late', kind: 'sink', from: ['rows'] }), {
      nowMs: clock.now(),
    });
    expect((await readState(table, 'late', clock.now()))?.lagRecords).toBe(0);
    expect(await platform.invoke('late', 0)).toMatchObject({ outcome: 'idle' });
  });

  it('counts what is gone for a reader who was there before: it must not look as if it had read it', async () => {
    const { platform, table, lag } = await bench();
    await platform.invoke('source', 0);
    for (const queue of [0, 1])
      for (const { pk, sk } of await table.query(logPk('rows', 0, queue)))
        if (sk !== 'HEAD') await table.write([{ delete: { pk, sk } }]);
    expect(await lag()).toBe(7);
    expect(await platform.invoke('sink', 0)).toMatchObject({ outcome: 'failed', error: { code: 'LOST_POSITION' } });
  });

  it('goes on over a change of the number of queues', async () => {
    const { platform, table, upstream, lag } = await bench();
    await platform.invoke('source', 0);
    await changeQueues(table, 'rows', 3);
    upstream.get('a')!.push(...numbered(5));
    await platform.invoke('source', 0);
    expect(await lag()).toBe(12);
    for (let round = 0; round < 4; round++) for (const task of [0, 1]) await platform.invoke('sink', task);
    expect(await lag()).toBe(0);
  });
});

describe('the state of tasks', () => {
  it("is Kafka Connect's, and PAUSING or STOPPING while a run still writes", async () => {
    const { table, clock, functions } = await bench();
    const states = async () => (await readState(table, 'sink', clock.now()))!.tasks.map(({ state }) => state);
    expect(await states()).toEqual(['RUNNING', 'RUNNING']);
    const nowMs = clock.now();
    await acquireLease(table, { connector: 'sink', task: 1, owner: 'r', expiresAtMs: nowMs + 5_000, nowMs });
    await changeTarget(table, functions, 'sink', 'pause');
    expect(await states()).toEqual(['PAUSED', 'PAUSING']);
    await changeTarget(table, functions, 'sink', 'stop');
    expect(await states()).toEqual(['STOPPED', 'STOPPING']);
    clock.advance(5_000);
    expect(await states()).toEqual(['STOPPED', 'STOPPED']);
  });

  it('is told of every connector', async () => {
    const { table, clock } = await bench();
    expect((await readStates(table, clock.now())).map(({ row }) => row.name)).toEqual(['sink', 'source']);
    expect(await readState(table, 'nobody', clock.now())).toBeUndefined();
  });

  it('is told of the others where one row can not be read, and of that one why', async () => {
    const { table, clock } = await bench();
    await table.write([{ update: taskKey('sink', 1), set: { v: 99 } }]);
    const unreadable: string[] = [];
    const states = await readStates(table, clock.now(), (name, { code }) => void unreadable.push(`${name} ${code}`));
    expect(states.map(({ row }) => row.name)).toEqual(['source']);
    expect(unreadable).toEqual(['sink SHAPE_TOO_NEW']);
    await expect(readStates(table, clock.now()), 'nobody asked').rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
  });
});

describe('verbs', () => {
  it('run every task on resume, none on pause and stop', async () => {
    const { table, functions, invoked } = await bench();
    await changeTarget(table, functions, 'sink', 'pause');
    expect(invoked()).toEqual([]);
    await changeTarget(table, functions, 'sink', 'resume');
    expect(invoked()).toEqual(['sink#0 manual', 'sink#1 manual']);
    await expect(changeTarget(table, functions, 'nobody', 'pause')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('are not undone by a function that can not be invoked: the sweep will', async () => {
    const { table } = await bench();
    const broken = { event: () => Promise.reject(new Error('throttled')), request: async () => ({}) };
    expect(await changeTarget(table, broken, 'sink', 'pause')).toMatchObject({ target: 'PAUSED' });
    expect(await changeTarget(table, broken, 'sink', 'resume')).toMatchObject({ target: 'STARTED' });
  });

  it('restart the failed tasks, whatever failed them, and tell how many', async () => {
    const { platform, table, clock, functions, invoked } = await bench();
    await platform.invoke('source', 0);
    const sink = () => {
      throw new ConnectError('LOST_POSITION', 'gone');
    };
    platform.plugins.set('sink', { sink });
    for (const task of [0, 1]) await platform.invoke('sink', task);
    expect((await readState(table, 'sink', clock.now()))!.tasks.map(({ state }) => state)).toEqual([
      'FAILED',
      'FAILED',
    ]);
    expect(await restartConnector(table, functions, 'sink')).toBe(2);
    expect(invoked()).toEqual(['sink#0 manual', 'sink#1 manual']);
    expect(await restartConnector(table, functions, 'sink')).toBe(0);
  });
});

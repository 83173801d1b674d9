import { describe, expect, it } from 'vitest';
import { sweep } from '../../../functions/coordinator/sweep.ts';
import type { SourceTask } from '../../../shared/connect/connector.ts';
import type { ConnectorSpec } from '../../../shared/connect/spec.ts';
import { readTopic } from '../../../shared/log/topics.ts';
import { applyConnector, removeConnector } from '../../../shared/management/apply.ts';
import { getOffsets } from '../../../shared/management/offsets.ts';
import { readConnector } from '../../../shared/state/connectors.ts';
import { connectorPk, logPk, subscriptionKey, taskKey } from '../../../shared/state/keys.ts';
import { acquireLease, readTask, type TaskRow, updateHeld } from '../../../shared/state/lease.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { shapes } from '../../../shared/state/shape.ts';
import { appendingDestination, arraySource, askedSource, keyedDestination } from '../../kit/memory-connectors.ts';
import { createPlatform, leaseMs, recordedFunctions, specOf } from '../../kit/platform.ts';
import { numbered, upstreamOf } from '../../kit/run-kit.ts';

const sinkSpec = specOf({ name: 'sink', kind: 'sink', from: ['rows'], tasks: 2 });

describe('applyConnector', () => {
  it('makes topics, row and subscriptions, asks the function, and runs every task', async () => {
    const table = memoryTable();
    const { functions, invoked, requests } = recordedFunctions(() => ({ problems: ['no such host'] }));
    const errors = { tolerance: 'all', retryTimeoutMs: 0, retryDelayMaxMs: 1, deadLetterTopic: 'dead' } as const;
    const spec = specOf({
      name: 'source',
      kind: 'source',
      to: [{ name: 'rows', queues: 3, retentionMs: 3_600_000 }],
      errors,
    });
    const { row, problems } = await applyConnector(table, functions, spec);
    expect(row).toMatchObject({ name: 'source', target: 'STARTED', generation: 1, tasks: 1 });
    expect(await readTopic(table, 'rows')).toMatchObject({ queues: 3, retentionMs: 3_600_000 });
    expect(await readTopic(table, 'dead')).toBeDefined();
    // A system that can't be reached yet does not stop a deploy.
    expect(problems).toEqual(['no such host', 'no such host']);
    expect(requests.map((request) => 'lifecycle' in request && request.lifecycle)).toEqual(['check', 'created']);
    expect(invoked()).toEqual(['source#0 manual']);
    await applyConnector(table, functions, sinkSpec);
    expect(await table.get(subscriptionKey('rows', 'sink'))).toMatchObject({ connector: 'sink' });
    expect(invoked()).toEqual(['sink#0 manual', 'sink#1 manual']);
  });

  it('may be repeated, keeps the incarnation, and drops subscriptions that are no more', async () => {
    const table = memoryTable();
    const { functions } = recordedFunctions();
    const { row: first } = await applyConnector(table, functions, sinkSpec);
    const { row: second } = await applyConnector(table, functions, { ...sinkSpec, from: ['others'] });
    expect(second).toMatchObject({ incarnation: first.incarnation, generation: 2, from: ['others'] });
    expect(await table.get(subscriptionKey('rows', 'sink'))).toBeUndefined();
    expect(await table.get(subscriptionKey('others', 'sink'))).toBeDefined();
  });

  it('restarts what failed for a newer shape, once the release that reads it is deployed: nothing was lost (invariant 11)', async () => {
    const platform = createPlatform();
    const { table, clock } = platform;
    const { functions, invoked } = recordedFunctions();
    const { rows, sink } = appendingDestination();
    const upstream = upstreamOf({ a: numbered(12) });
    platform.plugins.set('source', { source: () => arraySource(upstream, 'rows') as SourceTask<unknown> });
    platform.plugins.set('sink', { sink });
    const topic = { name: 'rows', queues: 1, retentionMs: 3_600_000 };
    const apply = (spec: ConnectorSpec) => applyConnector(table, functions, spec, { nowMs: clock.now() });
    await apply(specOf({ name: 'source', kind: 'source', to: [topic] }));
    const reader = specOf({ name: 'sink', kind: 'sink', from: ['rows'] });
    await apply(reader);
    await platform.invoke('source', 0);
    const [, second] = await table.query(logPk('rows', 0, 0));
    await table.write([{ put: { ...second!, v: shapes.segment + 1 } }]);

    // What is before it is written, and its position is where it was.
    expect(await platform.invoke('sink', 0)).toMatchObject({ outcome: 'failed', error: { code: 'SHAPE_TOO_NEW' } });
    const before = [...rows];
    const { offsets } = await getOffsets(table, 'sink');
    expect(await readTask(table, 'sink', 0)).toMatchObject({ state: 'FAILED', retriable: false });
    invoked();
    clock.advance(24 * 3_600_000);
    expect(await sweep(table, functions, clock.now(), () => {}), 'it is told, and not tried in vain').toEqual([
      expect.stringMatching(/sink task 0 has failed: SHAPE_TOO_NEW: segment 5 .*: deploy the release that wrote it/),
    ]);
    expect(invoked()).toEqual([]);
    expect([await platform.invoke('sink', 0), rows, (await getOffsets(table, 'sink')).offsets]).toEqual([
      expect.objectContaining({ outcome: 'failed' }),
      before,
      offsets,
    ]);

    // The other release: what it reads is here the old shape again.
    await table.write([{ put: second! }]);
    await apply(reader);
    expect(invoked()).toEqual(['sink#0 manual']);
    for (let runs = 0; runs < 3; runs++) await platform.invoke('sink', 0);
    expect(rows).toEqual(upstream.get('a'));
  });

  it('restarts also a task that failed when the set was larger, and is to come back', async () => {
    const table = memoryTable();
    const { functions } = recordedFunctions();
    await applyConnector(table, functions, { ...sinkSpec, tasks: 1 });
    const { lease } = (await acquireLease(table, {
      connector: 'sink',
      task: 1,
      owner: 'one',
      expiresAtMs: 1,
      nowMs: 0,
    })) as { lease: TaskRow };
    await updateHeld(table, 'sink', lease, { owner: undefined, state: 'FAILED' } as unknown as Partial<TaskRow>);
    const { row } = await applyConnector(table, functions, sinkSpec);
    expect(row).toMatchObject({ tasks: 1, pendingTasks: 2 });
    expect(await readTask(table, 'sink', 1)).toMatchObject({ state: 'RUNNING' });
  });

  it('runs nothing where the trigger is manual: its operator chooses the moment', async () => {
    const { functions, invoked } = recordedFunctions();
    await applyConnector(memoryTable(), functions, { ...sinkSpec, trigger: 'manual' });
    expect(invoked()).toEqual([]);
  });

  it('tells that a function could not be asked, and goes on', async () => {
    const { functions } = recordedFunctions(() => {
      throw new Error('function not found');
    });
    const { problems } = await applyConnector(memoryTable(), functions, sinkSpec);
    expect(problems).toEqual(['check did not run: function not found', 'created did not run: function not found']);
  });
});

describe('removeConnector', () => {
  it('asks the function first, then leaves nothing', async () => {
    const table = memoryTable();
    const { functions, requests } = recordedFunctions(() => ({ problems: ['slot still active'] }));
    await applyConnector(table, functions, sinkSpec);
    await table.write(Array.from({ length: 90 }, (_, n) => ({ put: { pk: connectorPk('sink'), sk: `HISTORY#${n}` } })));
    await table.write(Array.from({ length: 90 }, (_, n) => ({ put: { pk: connectorPk('sink'), sk: `TASK#${n}` } })));
    expect(await removeConnector(table, functions, 'sink')).toEqual(['slot still active']);
    expect(requests.at(-1)).toMatchObject({ lifecycle: 'deleted' });
    expect(await table.query(connectorPk('sink'))).toEqual([]);
    expect(await table.get(subscriptionKey('rows', 'sink'))).toBeUndefined();
    expect(await table.names('connector')).toEqual([]);
  });

  it('finishes a removal that died half way: what was left does not meet a new connector of that name', async () => {
    const platform = createPlatform();
    const { functions } = recordedFunctions();
    const source = specOf({ name: 'c', kind: 'direct' });
    await applyConnector(platform.table, functions, source);
    platform.plugins.set('c', {
      source: () => {
        throw new Error('no such host');
      },
      sink: () => appendingDestination().sink(),
    });
    await platform.invoke('c', 0);
    expect(await readTask(platform.table, 'c', 0)).toMatchObject({ state: 'FAILED' });
    const dying = {
      ...platform.table,
      query: () => Promise.reject(new Error('killed')),
    };
    await expect(removeConnector(dying, functions, 'c')).rejects.toThrow('killed');
    expect(await readConnector(platform.table, 'c')).toBeUndefined();
    await removeConnector(platform.table, functions, 'c');
    expect(await platform.table.query(connectorPk('c'))).toEqual([]);
  });
});

describe('a connector that is removed and made again under its name (hazards B4, H9)', () => {
  it('never meets the first commit of a run of the old one that wakes up later', async () => {
    const platform = createPlatform();
    const { functions } = recordedFunctions();
    const { rows, sink } = appendingDestination();
    const upstream = upstreamOf({ a: numbered(4) });
    const spec = specOf({ name: 'c', kind: 'direct', maxRecords: 2 });
    platform.plugins.set('c', { source: () => arraySource(upstream, 'rows') as SourceTask<unknown>, sink });
    await applyConnector(platform.table, functions, spec);
    // The zombie sleeps in its first run, just before its first commit.
    const asleep = Promise.withResolvers<void>();
    const wakeUp = Promise.withResolvers<void>();
    let commits = 0;
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (name === 'write 1' && ++commits === 2) {
        asleep.resolve();
        await wakeUp.promise;
      }
      return call();
    };
    const zombie = platform.invoke('c', 0, { op });
    await asleep.promise;
    await removeConnector(platform.table, functions, 'c', platform.clock.now());
    await applyConnector(platform.table, functions, spec);
    expect(rows).toHaveLength(2);
    wakeUp.resolve();
    expect(await zombie, 'stops at its next look at the connector').toMatchObject({
      outcome: 'superseded',
      batches: 1,
    });
    expect((await getOffsets(platform.table, 'c')).offsets).toEqual([]);
    expect(await readTask(platform.table, 'c', 0)).toMatchObject({ state: 'RUNNING', runs: 0 });
    rows.length = 0;
    platform.clock.advance(leaseMs);
    while ((await platform.invoke('c', 0)).outcome !== 'drained');
    expect(rows, 'the new one starts from the beginning').toEqual(upstream.get('a'));
  });

  it('waits for the run of the old one that is in the middle of a put: what that writes comes before it', async () => {
    const platform = createPlatform();
    const { table, clock } = platform;
    const { functions, invoked } = recordedFunctions();
    const { last, sink } = keyedDestination();
    const upstream = upstreamOf({ a: numbered(6, ['k']) });
    const spec = specOf({ name: 'c', kind: 'direct', maxRecords: 2 });
    platform.plugins.set('c', {
      source: () => askedSource(upstream, 'rows') as SourceTask<unknown>,
      sink: (_row, _task, process) => sink(process),
    });
    await applyConnector(table, functions, spec);
    const writing = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (name === 'write k') {
        writing.resolve();
        await goOn.promise;
      }
      return call();
    };
    const old = platform.invoke('c', 0, { op });
    await writing.promise;
    await removeConnector(table, functions, 'c', clock.now());
    expect(await table.query(connectorPk('c')), 'nothing else is left').toHaveLength(1);
    await applyConnector(table, functions, spec);
    expect(await platform.invoke('c', 0)).toMatchObject({ outcome: 'busy' });
    goOn.resolve();
    expect(await old).toMatchObject({ outcome: 'superseded' });
    expect(await platform.invoke('c', 0), 'the old one can not give it away').toMatchObject({ outcome: 'busy' });
    clock.advance(leaseMs);
    invoked();
    await sweep(table, functions, clock.now(), () => {});
    expect(invoked()).toEqual(['c#0 sweep']);
    while ((await platform.invoke('c', 0)).outcome !== 'drained');
    expect(Object.fromEntries(last)).toEqual({ k: 5 });
    expect(await table.get(taskKey('c', 0)), 'retention leaves the new row alone').not.toHaveProperty('expires');
  });

  it('is not failed by a run of the old one', async () => {
    const platform = createPlatform();
    const { functions } = recordedFunctions();
    const spec = specOf({ name: 'c', kind: 'direct' });
    await applyConnector(platform.table, functions, spec);
    const replaced = async () => {
      await removeConnector(platform.table, functions, 'c');
      await applyConnector(platform.table, functions, spec);
      throw new Error('no such host');
    };
    expect(await platform.invoke('c', 0, undefined, { openSource: replaced })).toMatchObject({ outcome: 'superseded' });
    expect(await readTask(platform.table, 'c', 0)).toMatchObject({ state: 'RUNNING', failures: 0 });
  });

  it('can not have its lease released by a run of the old one', async () => {
    const platform = createPlatform();
    const { functions } = recordedFunctions();
    await applyConnector(platform.table, functions, sinkSpec);
    const old = { ...(await readTask(platform.table, 'sink', 0)), epoch: 1, owner: 'old' };
    await platform.table.write([{ put: { pk: connectorPk('sink'), sk: 'TASK#0', v: 1, ...old, owner: 'new' } }]);
    expect(await updateHeld(platform.table, 'sink', old, { state: 'FAILED' })).toBe(false);
    expect(await readTask(platform.table, 'sink', 0)).toMatchObject({ owner: 'new', state: 'RUNNING' });
  });
});

import { describe, expect, it } from 'vitest';
import type { SourceTask } from '../../../shared/connect/connector.ts';
import { readTopic } from '../../../shared/log/topics.ts';
import { applyConnector, removeConnector } from '../../../shared/management/apply.ts';
import { getOffsets } from '../../../shared/management/offsets.ts';
import { readConnector } from '../../../shared/state/connectors.ts';
import { connectorPk, subscriptionKey } from '../../../shared/state/keys.ts';
import { readTask, updateHeld } from '../../../shared/state/lease.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { appendingDestination, arraySource } from '../../kit/memory-connectors.ts';
import { createPlatform, recordedFunctions, specOf } from '../../kit/platform.ts';
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
    await removeConnector(platform.table, functions, 'c');
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
    expect(await platform.invoke('c', 0)).toMatchObject({ outcome: 'drained', records: 4 });
    expect(rows, 'the new one starts from the beginning').toEqual(upstream.get('a'));
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

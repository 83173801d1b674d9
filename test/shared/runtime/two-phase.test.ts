import { describe, expect, it } from 'vitest';
import type { SinkTask, SourceTask } from '../../../shared/connect/connector.ts';
import { ConnectError } from '../../../shared/connect/errors.ts';
import type { RunRequest } from '../../../shared/runtime/run.ts';
import { resetKey } from '../../../shared/state/keys.ts';
import { acquireLease, restartTask } from '../../../shared/state/lease.ts';
import { shapes } from '../../../shared/state/shape.ts';
import type { Table } from '../../../shared/state/table.ts';
import {
  appendingDestination,
  askedSource,
  owningDestination,
  stagedDestination,
} from '../../kit/memory-connectors.ts';
import { createRunKit, identity, numbered, type RunKit, upstreamOf } from '../../kit/run-kit.ts';

const direct = { op: <T>(_: string, call: () => Promise<T>) => call() };
const down = new ConnectError('UNAVAILABLE', 'down', { retriable: true });
const retrying = { tolerance: 'none', retryTimeoutMs: 60_000, retryDelayMaxMs: 1_000 } as const;
const source = (upstream: ReturnType<typeof upstreamOf>): Pick<RunRequest, 'openSource'> => ({
  openSource: async () => askedSource(upstream, 'rows') as SourceTask<unknown>,
});
const preparedRows = async (kit: RunKit) => (await kit.rows()).filter(({ sk }) => sk.includes('#PREPARED#'));

describe('a sink with two phases', () => {
  it('commits its offsets with the prepared row in one transaction, and forgets the row after the promote', async () => {
    const kit = createRunKit();
    const { rows, sink } = stagedDestination();
    const upstream = upstreamOf({ a: numbered(3) });
    await kit.run({ ...source(upstream), openSink: async () => sink(direct) });
    expect(kit.writes()).toEqual([
      'lease',
      'commit a 3, put PREPARED#0#attempt-0',
      'delete PREPARED#0#attempt-0',
      'release RUNNING',
    ]);
    expect(rows()).toEqual(upstream.get('a'));
  });

  it.each(['the commit', 'the rename'])(
    'shows nothing twice when %s did not answer, although puts are retried',
    async (lost) => {
      const kit = createRunKit();
      const { rows, sink } = stagedDestination();
      const upstream = upstreamOf({ a: numbered(3) });
      const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
        if (name === 'rename' && lost === 'the rename') throw down;
        return call();
      };
      const table = lost === 'the commit' ? losingPrepared(kit) : kit.table;
      const first = await kit.run({ ...source(upstream), table, openSink: async () => sink({ op }), errors: retrying });
      expect(first).toMatchObject({ outcome: 'failed', error: { retriable: true } });
      await restartTask(kit.base, 'c', 0, false);
      await kit.run({ ...source(upstream), openSink: async () => sink(direct) });
      expect(rows()).toEqual(upstream.get('a'));
      expect(await preparedRows(kit)).toEqual([]);
    },
  );

  it('retries what failed before the commit', async () => {
    const kit = createRunKit();
    const { rows, sink } = stagedDestination();
    const upstream = upstreamOf({ a: numbered(3) });
    let tries = 0;
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (name === 'stage' && tries++ === 0) throw down;
      return call();
    };
    expect(await kit.run({ ...source(upstream), openSink: async () => sink({ op }), errors: retrying })).toMatchObject({
      outcome: 'drained',
    });
    expect(rows()).toEqual(upstream.get('a'));
  });

  /** Task 1 commits a batch and is killed before it promotes it. */
  const leaveBehind = async () => {
    const kit = createRunKit();
    const { rows, sink } = stagedDestination();
    const upstream = upstreamOf({ a: numbered(3) });
    const killed = Promise.withResolvers<void>();
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (name !== 'rename') return call();
      killed.resolve();
      return new Promise<never>(() => {});
    };
    void kit.run({ ...source(upstream), taskId: 1, openSink: async () => sink({ op }) });
    await killed.promise;
    expect(rows(), 'committed, not visible').toEqual([]);
    return {
      kit,
      rows,
      upstream,
      runTask0: () => kit.run({ ...source(upstream), openSink: async () => sink(direct) }),
    };
  };

  it('has its batch promoted by another task, where the one that prepared it is gone (hazard B3)', async () => {
    const { kit, rows, upstream, runTask0 } = await leaveBehind();
    kit.clock.advance(60_000);
    expect(await runTask0()).toMatchObject({ outcome: 'drained', records: 0 });
    expect(rows()).toEqual(upstream.get('a'));
    expect(await preparedRows(kit)).toEqual([]);
    expect(await runTask0()).toMatchObject({ outcome: 'idle' });
  });

  it('is left alone while the task that prepared it is alive', async () => {
    const { kit, rows, runTask0 } = await leaveBehind();
    expect(await runTask0()).toMatchObject({ outcome: 'idle' });
    expect(rows()).toEqual([]);
    expect(await preparedRows(kit)).toHaveLength(1);
  });

  it('stops, and says why, where the plugin was changed to one that can not promote', async () => {
    const { kit, upstream } = await leaveBehind();
    kit.clock.advance(60_000);
    const { outcome, error } = await kit.run({
      ...source(upstream),
      openSink: async () => appendingDestination().sink(),
    });
    expect(outcome).toBe('failed');
    expect(error?.message).toContain("attempt-0) but the sink can't promote it");
  });
});

describe("an operator's order to move offsets", () => {
  const order = (kit: RunKit, offset: unknown) =>
    kit.base.write([
      {
        put: {
          ...resetKey(identity.connector, identity.incarnation),
          v: shapes.reset,
          id: 'order-1',
          offsets: JSON.stringify([{ partition: { name: 'a' }, offset }]),
        },
      },
    ]);

  it('is carried out in the destination that owns them, once, before anything is polled (hazard B5)', async () => {
    const kit = createRunKit();
    const { rows, sink } = owningDestination();
    const upstream = upstreamOf({ a: numbered(3) });
    const orders: unknown[] = [];
    const openSink = async (): Promise<SinkTask> => ({
      ...sink(),
      async reset(id, offsets) {
        orders.push([id, offsets]);
      },
    });
    await kit.run({ ...source(upstream), openSink });
    await order(kit, { next: 1 });
    expect(await kit.run({ ...source(upstream), openSink })).toMatchObject({ outcome: 'drained' });
    expect(orders).toEqual([['order-1', [{ partition: { name: 'a' }, offset: { next: 1 } }]]]);
    expect(await kit.run({ ...source(upstream), openSink })).toMatchObject({ outcome: 'idle' });
    expect(orders).toHaveLength(1);
    expect(rows).toHaveLength(3);
  });

  it.each([
    ['to an offset', { next: 2 }, [2]],
    ['to the beginning', null, [0, 1, 2]],
  ])(
    'is carried out in the state table, where it turns out that no destination owns them: %s',
    async (_, offset, expected) => {
      const kit = createRunKit();
      const { rows, sink } = appendingDestination();
      await order(kit, offset);
      const openSink = async () => sink();
      expect(await kit.run({ ...source(upstreamOf({ a: numbered(3) })), openSink })).toMatchObject({
        outcome: 'drained',
      });
      expect(rows.map(({ n }) => n)).toEqual(expected);
      expect(await kit.committed()).toEqual({ a: [{ next: 3 }, 2] });
      expect(await kit.run({ ...source(upstreamOf({ a: numbered(3) })), openSink })).toMatchObject({ outcome: 'idle' });
    },
  );

  it('fences a batch that was read before it', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    const openSink = async (): Promise<SinkTask> => ({
      ...sink(),
      async put(batch, context) {
        // The lease of this run has expired, and the run that an operator's order brought takes it.
        kit.clock.advance(60_000);
        await order(kit, { next: 0 });
        const { lease } = (await acquireLease(kit.base, {
          connector: identity.connector,
          task: 0,
          owner: 'other',
          expiresAtMs: kit.clock.now(),
          nowMs: kit.clock.now(),
        })) as { lease: object };
        expect(lease).toBeDefined();
        await kit.run({ ...source(upstreamOf({ a: [] })), openSink: async () => sink() });
        return sink().put(batch, context);
      },
    });
    expect(await kit.run({ ...source(upstreamOf({ a: numbered(3) })), openSink })).toMatchObject({
      outcome: 'superseded',
      batches: 0,
    });
    expect(await kit.committed()).toEqual({ a: [{ next: 0 }, 1] });
  });
});

/** The commit of a prepared row happens, and its caller is told that the table did not answer. */
const losingPrepared = ({ table }: RunKit): Table => ({
  ...table,
  async write(writes) {
    const result = await table.write(writes);
    if (writes.some((write) => 'put' in write && write.put.sk.includes('#PREPARED#'))) throw down;
    return result;
  },
});

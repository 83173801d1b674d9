import { describe, expect, it } from 'vitest';
import { endFailedRun } from '../../../functions/coordinator/failed-run.ts';
import { sweep } from '../../../functions/coordinator/sweep.ts';
import type { SourceTask } from '../../../shared/connect/connector.ts';
import { applyConnector } from '../../../shared/management/apply.ts';
import { isHeld, readTask } from '../../../shared/state/lease.ts';
import { Crash, type Process } from '../../kit/faults.ts';
import { appendingDestination, askedSource } from '../../kit/memory-connectors.ts';
import { alive, createPlatform, leaseMs, recordedFunctions, specOf } from '../../kit/platform.ts';
import { numbered, upstreamOf } from '../../kit/run-kit.ts';

const minuteMs = 60_000;

/** A direct connector that nothing wakes but events: who loses one has only the sweep. */
const bench = async (rows = 20) => {
  const platform = createPlatform();
  const { table, clock } = platform;
  const { functions, invoked } = recordedFunctions();
  const { rows: written, sink } = appendingDestination();
  const upstream = upstreamOf({ a: numbered(rows) });
  platform.plugins.set('copy', { source: () => askedSource(upstream, 'rows') as SourceTask<unknown>, sink });
  await applyConnector(table, functions, specOf({ name: 'copy', kind: 'direct', trigger: 's3://bucket/' }), {
    nowMs: clock.now(),
  });
  invoked();
  const swept = async () => {
    await sweep(table, functions, clock.now(), () => {});
    return invoked();
  };
  /** A run whose time ends after its first batch. */
  const runOut = (process: Process = alive) => {
    const stop = new AbortController();
    const openSink = async () => ({
      ...sink(),
      put: async (...args: Parameters<ReturnType<typeof sink>['put']>) => {
        stop.abort(new Error('over'));
        return sink().put(...args);
      },
    });
    return platform.invoke('copy', 0, process, { openSink, stop: stop.signal });
  };
  return { platform, table, clock, functions, upstream, written, swept, runOut };
};

describe('a run that dies between its release and its WAKE row', () => {
  it('strands nobody: the release says that there is more, and the sweep believes it', async () => {
    const { platform, table, written, swept, runOut } = await bench();
    let writes = 0;
    const op: Process['op'] = async (name, call) => {
      // The lease, the offsets, the release; then it dies.
      if (name.startsWith('write') && ++writes === 4) throw new Crash(name);
      return call();
    };
    await expect(runOut({ op })).rejects.toThrow(Crash);
    expect(await readTask(table, 'copy', 0)).toMatchObject({ more: true, state: 'RUNNING' });
    expect(await readTask(table, 'copy', 0)).not.toHaveProperty('owner');
    expect(await swept()).toEqual(['copy#0 sweep']);
    await platform.invoke('copy', 0);
    expect(written).toHaveLength(20);
    expect(await readTask(table, 'copy', 0)).not.toHaveProperty('more');
    expect(await swept()).toEqual([]);
  });

  it('is not believed for ever: the run that followed may have found nothing, and left no trace', async () => {
    const { clock, swept, runOut } = await bench();
    await runOut();
    clock.advance(60 * minuteMs);
    expect(await swept()).toEqual(['copy#0 sweep']);
    clock.advance(minuteMs);
    expect(await swept()).toEqual([]);
  });
});

describe('a run whose first put was given up at the deadline', () => {
  it('does not wake itself, as it got nowhere; the sweep has it tried again', async () => {
    const { platform, table, written, swept } = await bench();
    const abort = new AbortController();
    const openSink = async () => ({
      put: async () => {
        abort.abort(new Error('over'));
        throw abort.signal.reason;
      },
      close: async () => {},
    });
    const given = await platform.invoke('copy', 0, alive, { openSink, abort: abort.signal, stop: abort.signal });
    expect(given).toMatchObject({ outcome: 'more', batches: 0 });
    expect(await table.get({ pk: 'connector#copy', sk: 'WAKE#0' })).toBeUndefined();
    expect(await swept()).toEqual(['copy#0 sweep']);
    await platform.invoke('copy', 0);
    expect(written.length).toBeGreaterThan(0);
  });
});

describe('a run that Lambda says died', () => {
  const failed = (requestId: string, functionName = 'function-copy') => ({
    requestContext: {
      requestId,
      functionArn: `arn:aws:lambda:eu-central-1:123456789012:function:${functionName}:$LATEST`,
    },
  });

  /** Dies while it puts; returns its request id. */
  const die = async ({ platform, table }: Awaited<ReturnType<typeof bench>>): Promise<string> => {
    const putting = Promise.withResolvers<void>();
    const op: Process['op'] = async (name, call) => {
      if (name !== 'put') return call();
      putting.resolve();
      return new Promise<never>(() => {});
    };
    void platform.invoke('copy', 0, { op });
    await putting.promise;
    return (await readTask(table, 'copy', 0)).owner!;
  };

  it('has its lease ended when nothing that it sent can be on its way any more; the sweep wakes its task', async () => {
    const world = await bench();
    const { platform, table, clock, written, swept } = world;
    const owner = await die(world);
    await endFailedRun(table, failed(owner), clock.now(), () => {});
    expect(isHeld(await readTask(table, 'copy', 0), clock.now() + 14_999), 'still held for a grace').toBe(true);
    clock.advance(15_000);
    expect(clock.now()).toBeLessThan((await readTask(table, 'copy', 0)).expiresAtMs! + leaseMs);
    expect(await swept()).toEqual(['copy#0 sweep']);
    await platform.invoke('copy', 0);
    expect(written).toHaveLength(20);
  });

  it.each([
    ['another request', ['other', 'function-copy']],
    ['another function', ['owner', 'function-other']],
  ])('is told from %s', async (_, [request, functionName]) => {
    const world = await bench();
    const owner = await die(world);
    const before = await readTask(world.table, 'copy', 0);
    await endFailedRun(
      world.table,
      failed(request === 'owner' ? owner : request!, functionName),
      world.clock.now(),
      () => {},
    );
    expect(await readTask(world.table, 'copy', 0)).toEqual(before);
  });

  it('is found by the ARN of its function, too', async () => {
    const world = await bench();
    const { table, clock, functions } = world;
    const functionName = 'arn:aws:lambda:eu-central-1:123456789012:function:mine';
    await applyConnector(table, functions, specOf({ name: 'copy', kind: 'direct', trigger: 'manual', functionName }), {
      nowMs: clock.now(),
    });
    const owner = await die(world);
    await endFailedRun(table, failed(owner, 'mine'), clock.now(), () => {});
    expect((await readTask(table, 'copy', 0)).expiresAtMs).toBe(clock.now() + 15_000);
  });
});

describe('a trigger that found the lease held by a run that did nothing', () => {
  it('is not lost, where that run had been overtaken between its look and its lease', async () => {
    const { platform, upstream, written, clock, table, swept } = await bench(2);
    const outcomes: string[] = [];
    let looks = 0;
    // Two events at once: both look and find the same; the first one copies it before the second one has its lease.
    const openSource = async () => {
      const source = askedSource(upstream, 'rows') as SourceTask<unknown>;
      const more: NonNullable<typeof source.more> = async (offsets) => {
        const found = await source.more!(offsets);
        if (looks++ === 0) outcomes.push((await platform.invoke('copy', 0)).outcome);
        return found;
      };
      // While the second one holds it, a third event comes, for what came after its poll.
      const poll: typeof source.poll = async (...args) => {
        const polled = await source.poll(...args);
        upstream.get('a')!.push({ key: 'late', n: 2 });
        outcomes.push((await platform.invoke('copy', 0)).outcome);
        return polled;
      };
      return { ...source, more, poll };
    };
    const second = await platform.invoke('copy', 0, alive, { openSource });
    expect([...outcomes, second.outcome]).toEqual(['drained', 'busy', 'drained']);
    expect(second).toMatchObject({ batches: 0 });
    const wake = await table.get({ pk: 'connector#copy', sk: 'WAKE#0' });
    expect(wake).toMatchObject({ atMs: clock.now() });
    expect(await swept(), 'if the stream loses it, too').toEqual(['copy#0 sweep']);
    await platform.invoke('copy', 0);
    expect(written.at(-1)).toEqual({ key: 'late', n: 2 });
  });
});

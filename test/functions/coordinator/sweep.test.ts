import { beforeEach, describe, expect, it } from 'vitest';
import { restartBackoffMs, sweep } from '../../../functions/coordinator/sweep.ts';
import type { Lag, SinkTask, SourceTask } from '../../../shared/connect/connector.ts';
import { ConnectError, type ErrorCode } from '../../../shared/connect/errors.ts';
import { applyConnector } from '../../../shared/management/apply.ts';
import { changeOffsets } from '../../../shared/management/offsets.ts';
import { readState } from '../../../shared/management/status.ts';
import { changeTarget } from '../../../shared/management/tasks.ts';
import { configKey, wakeKey } from '../../../shared/state/keys.ts';
import { writeLag } from '../../../shared/state/lag.ts';
import { readTask } from '../../../shared/state/lease.ts';
import {
  appendingDestination,
  askedSource,
  owningDestination,
  stagedDestination,
} from '../../kit/memory-connectors.ts';
import { alive, createPlatform, leaseMs, recordedFunctions, specOf } from '../../kit/platform.ts';
import { numbered, upstreamOf } from '../../kit/run-kit.ts';

const minuteMs = 60_000;

/** source → rows → sink, with the source's seven rows in the log. */
const bench = async (sink: () => SinkTask = appendingDestination().sink) => {
  const platform = createPlatform();
  const { table, clock } = platform;
  const { functions, invoked } = recordedFunctions();
  const upstream = upstreamOf({ a: numbered(7) });
  const logged: string[] = [];
  platform.plugins.set('source', { source: () => askedSource(upstream, 'rows') as SourceTask<unknown> });
  platform.plugins.set('sink', { sink });
  const topic = { name: 'rows', queues: 1, retentionMs: 3_600_000 };
  await applyConnector(table, functions, specOf({ name: 'source', kind: 'source', to: [topic] }));
  await applyConnector(table, functions, specOf({ name: 'sink', kind: 'sink', from: ['rows'] }));
  await platform.invoke('source', 0);
  invoked();
  /** One sweep; returns what it invoked. */
  const swept = async () => {
    await sweep(table, functions, clock.now(), (level, message) => void (level === 'error' && logged.push(message)));
    return invoked();
  };
  const lag = async () => (await readState(table, 'sink', clock.now()))!.lagRecords;
  return { platform, table, clock, functions, invoked, logged, swept, lag };
};

type Bench = Awaited<ReturnType<typeof bench>>;

describe('a sweep', () => {
  let world: Bench;
  beforeEach(async () => {
    world = await bench();
  });

  it('wakes a reader whose trigger was lost, until it has caught up', async () => {
    const { platform, swept } = world;
    expect(await swept()).toEqual(['sink#0 sweep']);
    await platform.invoke('sink', 0);
    expect(await swept()).toEqual([]);
  });

  it('writes nothing when there is nothing to do', async () => {
    const { platform, table, clock, functions } = world;
    await platform.invoke('sink', 0);
    const readOnly = { ...table, write: () => Promise.reject(new Error('a write')) };
    await sweep(readOnly, functions, clock.now(), (_, message) => expect.fail(message));
  });

  it('leaves a reader with a schedule of its own to it, however far behind, but not what died', async () => {
    const { platform, table, clock, functions, invoked, swept, lag } = world;
    const spec = specOf({ name: 'sink', kind: 'sink', from: ['rows'], trigger: 'every 3600 s' });
    await applyConnector(table, functions, spec);
    invoked();
    expect(await lag()).toBe(7);
    expect(await swept()).toEqual([]);
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> =>
      name === 'put' ? new Promise<never>(() => {}) : call();
    void platform.invoke('sink', 0, { op });
    await new Promise(setImmediate);
    clock.advance(leaseMs);
    expect(await swept()).toEqual(['sink#0 sweep']);
  });

  it('leaves a paused connector alone, and a task that runs', async () => {
    const { platform, table, functions, invoked, swept } = world;
    await changeTarget(table, functions, 'sink', 'pause');
    expect(await swept()).toEqual([]);
    await changeTarget(table, functions, 'sink', 'resume');
    invoked();
    const held: (readonly string[])[] = [];
    const openSink = async () => {
      held.push(await swept());
      return appendingDestination().sink();
    };
    await platform.invoke('sink', 0, alive, { openSink });
    expect(held).toEqual([[]]);
  });

  it('may run twice at once: the second of two runs is turned away', async () => {
    const { platform, swept, lag } = world;
    expect([await swept(), await swept()]).toEqual([['sink#0 sweep'], ['sink#0 sweep']]);
    const runs = await Promise.all([platform.invoke('sink', 0), platform.invoke('sink', 0)]);
    expect(runs.map(({ outcome }) => outcome).sort()).toEqual(['busy', 'drained']);
    expect(await lag()).toBe(0);
  });

  it('sweeps the others although one connector can not be read or invoked', async () => {
    const { table, clock, functions, logged, invoked } = world;
    await applyConnector(table, functions, specOf({ name: 'another', kind: 'sink', from: ['rows'] }), {
      nowMs: clock.now(),
    });
    invoked();
    const picky = {
      ...functions,
      event: async (name: string, payload: never) => {
        if (name === 'function-another') throw new Error('function not found');
        await functions.event(name, payload);
      },
    };
    await sweep(table, picky, clock.now(), (_, message) => void logged.push(message));
    expect(invoked()).toEqual(['sink#0 sweep']);
    expect(logged).toContain('sweep of another: function not found');
  });

  it('finds the work of a lease holder that was killed after another lost to it (H14): no lag within one sweep', async () => {
    const { platform, clock, swept, lag } = world;
    const killed = Promise.withResolvers<void>();
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (name !== 'put') return call();
      killed.resolve();
      return new Promise<never>(() => {});
    };
    void platform.invoke('sink', 0, { op });
    await killed.promise;
    expect(await platform.invoke('sink', 0), 'B gives up').toMatchObject({ outcome: 'busy' });
    expect(await swept(), 'as long as the lease lasts, its holder may be alive').toEqual([]);
    clock.advance(leaseMs);
    expect(await swept()).toEqual(['sink#0 sweep']);
    await platform.invoke('sink', 0);
    expect(await lag()).toBe(0);
  });

  it('runs a source again whose holder died, although it has no lag that the sweep could see', async () => {
    const { platform, clock, swept } = world;
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> =>
      name === 'put' ? new Promise<never>(() => {}) : call();
    await platform.invoke('sink', 0);
    platform.plugins.set('source', {
      source: () => askedSource(upstreamOf({ a: numbered(9) }), 'rows') as SourceTask<unknown>,
    });
    void platform.invoke('source', 0, { op });
    await new Promise(setImmediate);
    clock.advance(leaseMs);
    expect(await swept()).toEqual(['source#0 sweep']);
    // But not for ever: where there was nothing left to do, the run that followed wrote nothing.
    clock.advance(61 * minuteMs);
    expect(await swept()).toEqual([]);
  });

  it('runs a task whose WAKE row went unheard, but not for ever: an idle run leaves no trace', async () => {
    const { platform, clock, swept } = world;
    await platform.invoke('sink', 0);
    const stop = new AbortController();
    const sink = () => ({
      ...appendingDestination().sink(),
      put: async () => {
        stop.abort();
        return { committed: false };
      },
    });
    const source = () => askedSource(upstreamOf({ a: numbered(30) }), 'rows') as SourceTask<unknown>;
    platform.plugins.set('source', { source, sink });
    expect(await platform.invoke('source', 0, alive, { stop: stop.signal })).toMatchObject({ outcome: 'more' });
    expect(await swept()).toEqual(['source#0 sweep']);
    clock.advance(60 * minuteMs);
    expect(await swept()).toEqual(['source#0 sweep']);
    clock.advance(minuteMs);
    expect(await swept()).toEqual([]);
  });

  it('runs a task whose WAKE row went unheard, where the clock of its last run was an hour ahead', async () => {
    const { platform, table, clock, swept } = world;
    await platform.invoke('sink', 0);
    const wake = () => table.write([{ put: { ...wakeKey('source', 0), atMs: clock.now() } }]);
    clock.advance(-1);
    await wake();
    expect(await swept(), 'the last run came after it').toEqual([]);
    clock.advance(-60 * minuteMs);
    await wake();
    expect(await swept()).toEqual(['source#0 sweep']);
  });
});

describe('what waits for a run without being lag', () => {
  it('is a batch that was committed and not promoted', async () => {
    const { rows, sink } = stagedDestination();
    const { platform, clock, swept, lag } = await bench(() => sink(alive));
    const broken = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (name === 'rename') throw new ConnectError('FENCED', 'the rename was refused');
      return call();
    };
    await platform.invoke('sink', 0, alive, { openSink: async () => sink({ op: broken }) });
    expect(await lag()).toBeGreaterThan(0);
    clock.advance(minuteMs);
    expect(await swept()).toEqual(['sink#0 sweep']);
    for (let round = 0; round < 3; round++) await platform.invoke('sink', 0);
    expect(rows()).toHaveLength(7);
    expect(await swept()).toEqual([]);
  });

  it("is an operator's order to move offsets that a destination owns (hazard C3)", async () => {
    const { sink } = owningDestination();
    const { platform, table, clock, functions, invoked, swept } = await bench(() => ({
      ...sink(),
      reset: async () => {},
    }));
    await platform.invoke('sink', 0);
    await changeTarget(table, functions, 'sink', 'stop');
    const partition = { topic: 'rows', generation: 0, queue: 0 };
    await changeOffsets(table, 'sink', [{ partition, offset: null }], 'ann', clock.now());
    await changeTarget(table, functions, 'sink', 'resume');
    invoked(); // …and all of it was lost.
    expect(await swept()).toEqual(['sink#0 sweep']);
  });
});

describe('a failed task', () => {
  /** The sink fails with `code` once, and is swept every minute. */
  const failing = async (code: ErrorCode, retriable: boolean) => {
    const world = await bench(() => {
      throw new ConnectError(code, 'refused', { retriable });
    });
    await world.platform.invoke('sink', 0);
    expect(await readTask(world.table, 'sink', 0)).toMatchObject({ state: 'FAILED', failures: 1 });
    return world;
  };

  it.each([1, 2, 3, 4, 5])('waits n² + n minutes before restart n = %i', (n) => {
    expect(restartBackoffMs(n)).toBe((n * n + n) * minuteMs);
  });

  it('waits an hour at most', () => {
    expect(restartBackoffMs(100)).toBe(60 * minuteMs);
  });

  it('is restarted when a retry may help, after n² + n minutes, each time later', async () => {
    const { platform, table, clock, swept } = await failing('UNAVAILABLE', true);
    const minutes: number[] = [];
    let since = 0;
    while (minutes.length < 3) {
      clock.advance(minuteMs);
      since++;
      if ((await swept()).length === 0) continue;
      minutes.push(since);
      since = 0;
      expect(await platform.invoke('sink', 0)).toMatchObject({ outcome: 'failed' });
    }
    expect(minutes).toEqual([2, 6, 12]);
    expect(await readTask(table, 'sink', 0)).toMatchObject({ failures: 4 });
  });

  it('starts counting anew after a run that ended well', async () => {
    const { platform, table, clock, swept } = await failing('UNAVAILABLE', true);
    clock.advance(2 * minuteMs);
    await swept();
    platform.plugins.set('sink', { sink: appendingDestination().sink });
    await platform.invoke('sink', 0);
    expect(await readTask(table, 'sink', 0)).toMatchObject({ state: 'RUNNING', failures: 0 });
  });

  it('is restarted at once where the clock of the run that failed was an hour ahead', async () => {
    const { clock, swept } = await failing('UNAVAILABLE', true);
    clock.advance(-minuteMs);
    expect(await swept()).toEqual([]);
    clock.advance(-59 * minuteMs);
    expect(await swept()).toEqual(['sink#0 sweep']);
  });

  it.each(['LOST_POSITION', 'POISON', 'CONFIG_INVALID', 'RECORD_REJECTED'] as const)(
    'with %s waits for an operator',
    async (code) => {
      const { clock, swept } = await failing(code, false);
      for (let hour = 0; hour < 48; hour++) {
        clock.advance(60 * minuteMs);
        expect(await swept()).toEqual([]);
      }
    },
  );

  it('of a paused connector is not restarted', async () => {
    const { table, clock, functions, swept } = await failing('UNAVAILABLE', true);
    await changeTarget(table, functions, 'sink', 'pause');
    clock.advance(60 * minuteMs);
    expect(await swept()).toEqual([]);
    expect(await readTask(table, 'sink', 0)).toMatchObject({ state: 'FAILED' });
  });
});

describe('a connector row of a newer release', () => {
  it('stops the sweep of that connector, and nothing is written (invariant 11)', async () => {
    const { table, clock, functions, logged, invoked } = await bench();
    await applyConnector(table, functions, specOf({ name: 'another', kind: 'sink', from: ['rows'] }));
    invoked();
    await table.write([{ update: configKey('another'), set: { v: 99 } }]);
    const readOnly = { ...table, write: () => Promise.reject(new Error('a write')) };
    await sweep(readOnly, functions, clock.now(), (level, message) => void (level === 'error' && logged.push(message)));
    expect(logged).toEqual([expect.stringContaining('shape 99')]);
    expect(invoked(), 'only the others are swept').toEqual(['sink#0 sweep']);
  });
});

describe('the lag of a source that can tell it', () => {
  const source = specOf({ name: 'changes', kind: 'source', to: [], lag: true });
  const lagOf = async (target: 'STARTED' | 'PAUSED' = 'STARTED') => {
    const { table, clock } = createPlatform();
    const { functions, invoked } = recordedFunctions();
    const { row } = await applyConnector(table, functions, source);
    if (target === 'PAUSED') await changeTarget(table, functions, 'changes', 'pause');
    invoked();
    const measured = (lag: Lag) => writeLag(table, { connector: 'changes', ...row }, { atMs: clock.now(), lag });
    const swept = async () => {
      const alarms = await sweep(table, functions, clock.now(), () => {});
      return { alarms, invoked: invoked() };
    };
    return { table, clock, row, measured, swept };
  };

  it.each(['STARTED', 'PAUSED'] as const)('is asked for at once, and then every ten minutes: %s', async (target) => {
    const { clock, measured, swept } = await lagOf(target);
    expect((await swept()).invoked).toEqual(['lag']);
    await measured({ bytes: 1 });
    expect((await swept()).invoked).toEqual([]);
    clock.advance(10 * minuteMs - 1);
    expect((await swept()).invoked).toEqual([]);
    clock.advance(1);
    expect((await swept()).invoked).toEqual(['lag']);
  });

  it('is not asked for again at once where it could not be measured, and of no other connector', async () => {
    const { table, clock, row, swept } = await lagOf();
    await writeLag(table, { connector: 'changes', ...row }, { atMs: clock.now(), error: 'refused' });
    expect(await swept()).toEqual({ alarms: [], invoked: [] });
    const { swept: other } = await bench();
    expect(await other()).toEqual(['sink#0 sweep']);
  });

  it('alarms from half of what its upstream keeps, by its own words, until it is less', async () => {
    const { measured, swept } = await lagOf('PAUSED');
    const kept = (share?: number) => measured({ retained: { ...(share === undefined ? {} : { share }), text: 'WAL' } });
    await kept(0.49);
    expect((await swept()).alarms).toEqual([]);
    await kept(0.5);
    expect((await swept()).alarms).toEqual(['changes: WAL']);
    expect((await swept()).alarms).toEqual(['changes: WAL']);
    await kept();
    expect((await swept()).alarms).toEqual([]);
  });
});

it('says how far a reader is behind, in records, bytes and time, and nothing where it has caught up', async () => {
  const { platform, table, clock, functions } = await bench();
  clock.advance(minuteMs);
  const lines: unknown[] = [];
  const swept = () =>
    sweep(table, functions, clock.now(), (_, message, fields) => void (message === 'lag' && lines.push(fields)));
  await swept();
  expect(lines).toEqual([{ connector: 'sink', records: 7, bytes: expect.any(Number), behindMs: expect.any(Number) }]);
  const [{ bytes, behindMs }] = lines as [{ bytes: number; behindMs: number }];
  expect(bytes).toBeGreaterThan(7);
  expect(behindMs).toBeGreaterThanOrEqual(minuteMs);
  await platform.invoke('sink', 0);
  await swept();
  expect(lines).toHaveLength(1);
});

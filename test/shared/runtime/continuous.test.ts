import { describe, expect, it } from 'vitest';
import { pollOf, type SourceTask } from '../../../shared/connect/connector.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { acquireLease } from '../../../shared/state/lease.ts';
import { appendingDestination, arraySource, askedSource, type Row } from '../../kit/memory-connectors.ts';
import { createRunKit, numbered, toldSource, upstreamOf } from '../../kit/run-kit.ts';

const startMs = Date.UTC(2026, 0, 1);

/** Time passes while a run waits; what is to happen by then happens in the middle of the wait. */
const eventfulClock = (events: Readonly<Record<number, () => void>>) => {
  let nowMs = startMs;
  const waits: number[] = [];
  const left = Object.entries(events).map(([atMs, happen]) => ({ atMs: Number(atMs), happen }));
  const clock: Clock = {
    now: () => nowMs,
    async delay(ms, signal) {
      waits.push(ms);
      nowMs += ms;
      while (left[0] !== undefined && startMs + left[0].atMs <= nowMs) left.shift()!.happen();
      if (signal?.aborted) throw signal.reason;
    },
  };
  return { clock, waits };
};

/** A continuous run whose time is over after 30 seconds. */
const bench = (
  rows: readonly Row[],
  events: (push: (row: Row) => void) => Readonly<Record<number, () => void>> = () => ({}),
) => {
  const kit = createRunKit();
  const stop = new AbortController();
  const upstream = upstreamOf({ a: rows });
  const { rows: written, sink } = appendingDestination();
  const { clock, waits } = eventfulClock({
    ...events((row) => upstream.get('a')!.push(row)),
    30000: () => stop.abort(new Error('over')),
  });
  const source = (told: SourceTask<never> | SourceTask<unknown> = arraySource(upstream, 'rows')) => ({
    openSource: async () => toldSource(told as SourceTask<unknown>, kit.events),
  });
  const run = (overrides = {}) =>
    kit.run({
      ...source(),
      openSink: async () => sink(),
      continuous: true,
      clock,
      stop: stop.signal,
      leaseExpiresAtMs: startMs + 60_000,
      ...overrides,
    });
  return { kit, upstream, written, waits, run, source, clock };
};

describe('a continuous run', () => {
  it('waits as its source knows to, and polls when there may be more', async () => {
    const late = { key: 'late', n: 9 };
    const { upstream, written, run, source, clock, waits } = bench(numbered(2));
    const asked: number[] = [];
    const waiting = {
      ...arraySource(upstream, 'rows'),
      async wait(waitMs: number, signal: AbortSignal) {
        asked.push(waitMs);
        if (asked.length === 1) upstream.get('a')!.push(late);
        else await clock.delay(30_000, signal);
      },
    };
    expect(await run(source(waiting))).toMatchObject({ outcome: 'drained', records: 3 });
    expect(written).toHaveLength(3);
    expect(asked).toEqual([1_000, 1_000]);
    expect(waits).toEqual([30_000]);
  });

  it('waits under its lease for what comes, until its time is over; then it wakes its successor', async () => {
    const late = { key: 'late', n: 9 };
    const { kit, written, run } = bench(numbered(2), (push) => ({ 10000: () => push(late) }));
    expect(await run()).toMatchObject({ outcome: 'drained', records: 3, batches: 2 });
    expect(written.at(-1)).toEqual(late);
    expect(kit.writes().filter((event) => !/poll|acknowledge|close/.test(event))).toEqual([
      'lease',
      'commit a 2',
      'commit a 3',
      'release RUNNING',
      'wake',
    ]);
    expect(await kit.task()).toMatchObject({ runs: 1, records: 3, more: true });
  });

  it('waits longer each time, a second at most, and shortly again after it found something', async () => {
    const { waits, run } = bench([], (push) => ({ 5000: () => push({ key: 'k', n: 0 }) }));
    await run();
    expect(waits.slice(0, 7)).toEqual([50, 100, 200, 400, 800, 1000, 1000]);
    const again = waits.indexOf(50, 1);
    expect(waits.slice(again, again + 3)).toEqual([50, 100, 200]);
    expect(waits.every((ms) => ms <= 1000)).toBe(true);
  });

  it('goes on although nothing came: it takes its lease, and chains', async () => {
    const { kit, run } = bench([]);
    expect(await run({ openSource: async () => askedSource(new Map(), 'rows') })).toMatchObject({
      outcome: 'drained',
      batches: 0,
    });
    expect(kit.writes()).toEqual(['lease', 'release RUNNING', 'wake']);
  });

  it('that finds another one running only reads', async () => {
    const { kit, run, clock } = bench(numbered(2));
    await acquireLease(kit.base, {
      connector: 'c',
      task: 0,
      owner: 'other',
      expiresAtMs: startMs + 1,
      nowMs: clock.now(),
    });
    const openSource = () => Promise.reject(new Error('opened'));
    expect(await run({ openSource })).toMatchObject({ outcome: 'busy' });
    expect(kit.events).toEqual(['query connector#c', 'get TASK#0']);
  });

  it('ends within seconds when its connector is paused, although nothing comes', async () => {
    let current = true;
    const { kit, run, clock } = bench([], () => ({
      10000: () => {
        current = false;
      },
    }));
    expect(await run({ stillCurrent: async () => current })).toMatchObject({ outcome: 'superseded' });
    expect(clock.now() - startMs).toBeLessThan(16_000);
    expect(kit.writes().slice(-3, -1)).toEqual(['release RUNNING', 'wake']);
  });

  it('commits what moved without a record when its time is over', async () => {
    const { kit, run } = bench([]);
    let next = 0;
    const quiet: SourceTask<{ next: number }> = {
      poll: async () =>
        pollOf([], { caughtUp: true, moved: 1_000, offsets: [{ partition: { name: 'a' }, offset: { next: next++ } }] }),
      close: async () => {},
    };
    expect(await run({ openSource: async () => quiet })).toMatchObject({ outcome: 'drained', records: 0 });
    // Once because nothing was committed for ten minutes, once at the end.
    expect(await kit.committed()).toEqual({ a: [{ next: next - 1 }, 2] });
  });

  it('stops in the middle of a backlog like any other run', async () => {
    const { kit, run, written } = bench(numbered(20));
    const stop = new AbortController();
    const openSink = async () => {
      const inner = appendingDestination().sink();
      return {
        ...inner,
        put: async (...args: Parameters<typeof inner.put>) => {
          stop.abort(new Error('over'));
          return inner.put(...args);
        },
      };
    };
    expect(await run({ openSink, stop: stop.signal })).toMatchObject({ outcome: 'more', records: 5 });
    expect(written).toEqual([]);
    expect(kit.writes().slice(-3, -1)).toEqual(['release RUNNING', 'wake']);
  });

  it('that fails waits for its restart, and wakes nobody', async () => {
    const { kit, run, source } = bench([], () => ({}));
    let polls = 0;
    const failing = {
      poll: async () => (polls++ < 3 ? pollOf([], { caughtUp: true }) : Promise.reject(new Error('reset'))),
      close: async () => {},
    };
    expect(await run(source(failing as SourceTask<unknown>))).toMatchObject({ outcome: 'failed' });
    expect(kit.writes().at(-1)).toBe('close source');
    expect(kit.writes()).not.toContain('wake');
    expect(await kit.task()).not.toHaveProperty('more');
  });

  it('forgets the deaths of its predecessors once it has caught up', async () => {
    const { kit, run } = bench(numbered(2));
    await acquireLease(kit.base, {
      connector: 'c',
      task: 0,
      owner: 'dead',
      expiresAtMs: startMs - 1,
      nowMs: startMs - 2,
    });
    await run();
    expect(await kit.task()).toMatchObject({ deaths: 0, epoch: 2 });
  });
});

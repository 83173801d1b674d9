import { describe, expect, it } from 'vitest';
import type { SourceTask } from '../../../shared/connect/connector.ts';
import { memoryObjects } from '../../../shared/log/objects.ts';
import { logSource } from '../../../shared/log/read.ts';
import type { RunRequest } from '../../../shared/runtime/run.ts';
import { wakeKey } from '../../../shared/state/keys.ts';
import { restartTask } from '../../../shared/state/lease.ts';
import { appendingDestination, arraySource, askedSource, owningDestination } from '../../kit/memory-connectors.ts';
import { createRunKit, numbered, runUntilIdle, toldSink, toldSource, upstreamOf } from '../../kit/run-kit.ts';
import { makeTopic } from '../../kit/world.ts';

const sourceOf = (source: unknown): Pick<RunRequest, 'openSource'> => ({
  openSource: async () => source as SourceTask<unknown>,
});

describe('an idle run', () => {
  it('writes nothing and reads only its offsets where the source is asked', async () => {
    const kit = createRunKit();
    const result = await kit.run(sourceOf(askedSource(new Map(), 'rows')));
    expect(result).toMatchObject({ outcome: 'idle', records: 0, batches: 0 });
    expect(kit.events).toEqual(['query connector#c']);
    expect(await kit.rows()).toEqual([]);
  });

  it('reads the topic and the heads besides, where it reads the log', async () => {
    const kit = createRunKit();
    await makeTopic(kit.base, 'rows', 3);
    await kit.run(
      sourceOf(logSource({ table: kit.table, objects: memoryObjects(), topics: ['rows'], task: 0, tasks: 1 })),
    );
    expect(kit.events).toEqual(['query connector#c', 'get META', 'get HEAD HEAD HEAD']);
  });

  it('of a source that can not be asked takes the lease before it polls, and writes no more than that', async () => {
    const kit = createRunKit();
    await kit.run(sourceOf(toldSource(arraySource(new Map(), 'rows'), kit.events)));
    expect(kit.events.filter((event) => /^poll$/.test(event))).toHaveLength(1);
    expect(kit.events.indexOf('poll')).toBeGreaterThan(kit.events.indexOf('lease'));
    expect(kit.writes().filter((event) => !/^poll|^close/.test(event))).toEqual(['lease', 'release RUNNING']);
  });

  it('does not open its sink', async () => {
    const kit = createRunKit();
    const openSink = () => Promise.reject(new Error('opened'));
    expect(await kit.run({ ...sourceOf(askedSource(new Map(), 'rows')), openSink })).toMatchObject({ outcome: 'idle' });
  });
});

describe('a run', () => {
  it('copies everything, commits, acknowledges upstream after it, and then comes to rest', async () => {
    const kit = createRunKit();
    const { rows, sink } = appendingDestination();
    const upstream = upstreamOf({ a: numbered(7) });
    const outcomes = await runUntilIdle(kit, () => ({
      ...sourceOf(toldSource(askedSource(upstream, 'rows'), kit.events)),
      openSink: async () => toldSink(sink(), kit.events),
    }));
    expect(outcomes).toEqual(['drained']);
    expect(rows).toEqual(upstream.get('a'));
    expect(await kit.committed()).toEqual({ a: [{ next: 7 }, 2] });
    // Invariant 2: durable downstream, then committed, then acknowledged.
    const order = kit.events.filter((event) => /^(written|commit|acknowledge)/.test(event));
    expect(order).toEqual(['written 5', 'commit a 5', 'acknowledge a 5', 'written 2', 'commit a 7', 'acknowledge a 7']);
  });

  it('counts what it did, in its result and in the task row', async () => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(7) });
    const slow = {
      ...arraySource(upstream, 'rows'),
      poll: async (...args: Parameters<SourceTask<never>['poll']>) => {
        kit.clock.advance(10);
        return arraySource(upstream, 'rows').poll(...args);
      },
    };
    const result = await kit.run(sourceOf(slow));
    expect(result).toMatchObject({
      outcome: 'drained',
      records: 7,
      batches: 2,
      rejected: 0,
      putMs: 0,
      commitMs: 0,
      pollMs: 20,
    });
    expect(result.bytes).toBeGreaterThan(7);
    expect(await kit.task()).toMatchObject({
      runs: 1,
      records: 7,
      bytes: result.bytes,
      epoch: 1,
      lastRunAtMs: kit.clock.now(),
      lastCommitAtMs: kit.clock.now(),
    });
    upstream.get('a')!.push({ key: 'k', n: 7 });
    await kit.run({ ...sourceOf(arraySource(upstream, 'rows')), openSink: async () => appendingDestination().sink() });
    expect(await kit.task()).toMatchObject({ runs: 2, epoch: 2 });
  });

  it('repeats on open an acknowledgement that was lost', async () => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(1) });
    const openSink = async () => appendingDestination().sink();
    const lost = { ...arraySource(upstream, 'rows'), commit: () => Promise.reject(new Error('gone')) };
    expect(await kit.run({ ...sourceOf(lost), openSink })).toMatchObject({ outcome: 'failed' });
    await restartTask(kit.base, 'c', 0, true);
    upstream.get('a')!.push({ key: 'k', n: 1 });
    await kit.run({ ...sourceOf(toldSource(arraySource(upstream, 'rows'), kit.events)), openSink });
    expect(kit.events.filter((event) => /^acknowledge/.test(event))).toEqual(['acknowledge a 1', 'acknowledge a 2']);
  });
});

describe('a run whose time ends', () => {
  it('stops after the batch in progress, and wakes itself after the release', async () => {
    const kit = createRunKit();
    const stop = new AbortController();
    const sink = appendingDestination();
    const openSink = async () => ({
      ...sink.sink(),
      put: async (...args: Parameters<ReturnType<typeof sink.sink>['put']>) => {
        stop.abort(new Error('over'));
        return sink.sink().put(...args);
      },
    });
    const result = await kit.run({
      ...sourceOf(arraySource(upstreamOf({ a: numbered(20) }), 'rows')),
      openSink,
      stop: stop.signal,
    });
    expect(result).toMatchObject({ outcome: 'more', records: 5, batches: 1 });
    expect(kit.writes()).toEqual(['lease', 'commit a 5', 'release RUNNING', 'wake']);
    expect(await kit.base.get(wakeKey('c', 0))).toMatchObject({ atMs: kit.clock.now() });
  });

  it.each(['the reason itself', 'an AbortError', 'a wrapped reason'])(
    'is not a failure of the task when a wait throws %s',
    async (kind) => {
      const kit = createRunKit();
      const stop = new AbortController();
      const source = askedSource(upstreamOf({ a: numbered(1) }), 'rows');
      const poll = async () => {
        stop.abort(new Error('the time of this invocation is over'));
        const { reason } = stop.signal;
        if (kind === 'the reason itself') throw reason;
        throw kind === 'an AbortError'
          ? new DOMException('aborted', 'AbortError')
          : new Error('query cancelled', { cause: reason });
      };
      expect(await kit.run({ ...sourceOf({ ...source, poll }), stop: stop.signal })).toMatchObject({
        outcome: 'more',
        batches: 0,
      });
      expect(await kit.task()).toMatchObject({ state: 'RUNNING', failures: 0 });
      // Before the lease, too.
      expect(await kit.run({ ...sourceOf({ ...source, more: poll }), stop: stop.signal })).toMatchObject({
        outcome: 'more',
      });
      expect(await kit.task()).toMatchObject({ state: 'RUNNING', runs: 1 });
    },
  );

  it('begins no other poll', async () => {
    const kit = createRunKit();
    const stop = new AbortController();
    const inner = askedSource(upstreamOf({ a: numbered(20) }), 'rows');
    let polls = 0;
    const poll: typeof inner.poll = (...args) => {
      polls++;
      stop.abort(new Error('over'));
      return inner.poll(...args);
    };
    const openSink = async () => appendingDestination().sink();
    const source = sourceOf({ ...inner, poll });
    expect(await kit.run({ ...source, openSink, stop: stop.signal })).toMatchObject({ outcome: 'more', records: 5 });
    expect(polls).toBe(1);
  });

  it('does not wake itself when it got nothing done', async () => {
    const kit = createRunKit();
    const stop = new AbortController();
    const source = askedSource(upstreamOf({ a: numbered(1) }), 'rows');
    const poll = async () => {
      stop.abort(new Error('over'));
      throw stop.signal.reason;
    };
    await kit.run({ ...sourceOf({ ...source, poll }), stop: stop.signal });
    expect(kit.writes()).toEqual(['lease', 'release RUNNING']);
  });
});

describe('the look after the release (invariant 9)', () => {
  /** A run whose upstream grows while it closes its sink, and whose second trigger comes just then. */
  const loseOneWakeUp = async (sourceFor: typeof arraySource | typeof askedSource) => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(2) });
    const { rows, sink } = appendingDestination();
    const ends = { ...sourceOf(sourceFor(upstream, 'rows')), openSink: async () => sink() };
    const triggers: string[] = [];
    const openSink = async () => ({
      ...sink(),
      async close() {
        upstream.get('a')!.push({ key: 'late', n: 2 });
        triggers.push((await kit.run(ends)).outcome);
      },
    });
    const { outcome } = await kit.run({ ...ends, openSink });
    return { kit, outcome, triggers, rows, ends };
  };

  it.each([
    ['can be asked', askedSource],
    ['can only be polled, and so is run once more', arraySource],
  ])(
    'finds what was appended while the lease was held, whose own trigger found it held; the source %s',
    async (_, source) => {
      const { kit, outcome, triggers, rows, ends } = await loseOneWakeUp(source as typeof arraySource);
      expect(outcome).toBe('drained');
      expect(triggers, 'the wake-up was lost to the lease').toEqual(['busy']);
      expect(kit.writes().at(-1)).toBe('wake');
      await kit.run(ends);
      expect(rows.at(-1)).toEqual({ key: 'late', n: 2 });
    },
  );

  it('finds nothing where nothing came, and wakes nobody', async () => {
    const kit = createRunKit();
    expect(await kit.run(sourceOf(askedSource(upstreamOf({ a: numbered(2) }), 'rows')))).toMatchObject({
      outcome: 'drained',
    });
    expect(kit.writes()).not.toContain('wake');
  });

  it('does not wake a task that can not move: there is more, but no progress', async () => {
    const kit = createRunKit();
    const stuck = { ...arraySource(new Map(), 'rows'), more: async () => true };
    expect(await kit.run(sourceOf(stuck))).toMatchObject({ outcome: 'drained', batches: 0 });
    expect(kit.writes()).not.toContain('wake');
  });

  it.each([
    ['after this run began: it wakes itself', 1, true],
    ['before it, and started it: nobody is woken', -1, false],
  ])('without progress looks whether somebody asked for a run %s', async (_, afterMs, woken) => {
    const kit = createRunKit();
    const wakeRow = { ...wakeKey('c', 0), atMs: kit.clock.now() + afterMs };
    const empty = arraySource(new Map(), 'rows');
    const poll: typeof empty.poll = async (...args) => {
      const nothing = await empty.poll(...args);
      await kit.base.write([{ put: wakeRow }]);
      return nothing;
    };
    expect(await kit.run(sourceOf({ ...empty, poll }))).toMatchObject({ outcome: 'drained', batches: 0 });
    expect(kit.writes().includes('wake')).toBe(woken);
  });

  it('does not turn a finished run into a failure when the source can not be asked any more', async () => {
    const kit = createRunKit();
    let asked = 0;
    const source = {
      ...askedSource(upstreamOf({ a: numbered(2) }), 'rows'),
      more: async () => {
        if (asked++ > 0) throw new Error('connection reset');
        return true;
      },
      close: () => Promise.reject(new Error('not connected')),
    };
    expect(await kit.run(sourceOf(source))).toMatchObject({ outcome: 'drained', records: 2 });
    expect(kit.warnings).toEqual([
      expect.stringContaining('connection reset'),
      expect.stringContaining('not connected'),
    ]);
  });
});

describe("an operator's change between batches (hazard B11)", () => {
  it('ends the run: nothing more is committed, and the task is woken for the trigger that found the lease held', async () => {
    const kit = createRunKit();
    const { rows, sink } = appendingDestination();
    let current = true;
    const openSink = async () => ({
      ...sink(),
      put: async (...args: Parameters<ReturnType<typeof sink>['put']>) => {
        current = false;
        return sink().put(...args);
      },
    });
    const source = arraySource(upstreamOf({ a: numbered(20) }), 'rows');
    const result = await kit.run({ ...sourceOf(source), openSink, stillCurrent: async () => current });
    expect(result).toMatchObject({ outcome: 'superseded', records: 5 });
    expect(rows).toHaveLength(5);
    expect(await kit.committed()).toEqual({ a: [{ next: 5 }, 1] });
    expect(kit.writes()).toEqual(['lease', 'commit a 5', 'release RUNNING', 'wake']);
  });

  it('before the first batch is found once the lease is held', async () => {
    const kit = createRunKit();
    const openSink = () => Promise.reject(new Error('opened'));
    expect(await kit.run({ openSink, stillCurrent: async () => false })).toMatchObject({
      outcome: 'superseded',
      batches: 0,
    });
    expect(await kit.committed()).toEqual({});
  });

  it('does not let an old run fail the task of the new config', async () => {
    const kit = createRunKit();
    const openSource = () => Promise.reject(new Error('no such host'));
    expect(await kit.run({ openSource, stillCurrent: async () => false })).toMatchObject({ outcome: 'superseded' });
    expect(await kit.task()).toMatchObject({ state: 'RUNNING', failures: 0 });
    expect(await kit.run({ openSource })).toMatchObject({ outcome: 'failed' });
    expect(await kit.task()).toMatchObject({ state: 'FAILED', failures: 1, trace: 'UNEXPECTED: no such host' });
  });
});

describe('a destination that owns its offsets', () => {
  it('is asked for them under the lease: what the state table says is a cache for idle checks', async () => {
    const kit = createRunKit();
    const { rows, sink } = owningDestination();
    const upstream = upstreamOf({ a: numbered(3) });
    const ends = () => ({ ...sourceOf(askedSource(upstream, 'rows')), openSink: async () => sink() });
    await kit.run(ends());
    expect(kit.writes()).toEqual(['lease', 'cache a 3', 'release RUNNING']);
    expect(await kit.run(ends())).toMatchObject({ outcome: 'idle' });
    // A cache that a dead run left behind costs one run that finds nothing, and is mended by it.
    for (const item of await kit.rows()) if (item.cache === true) await kit.base.write([{ delete: item }]);
    expect(await kit.run(ends())).toMatchObject({ outcome: 'drained', records: 0 });
    expect(rows).toHaveLength(3);
    expect(await kit.run(ends())).toMatchObject({ outcome: 'idle' });
  });
});

import { describe, expect, it } from 'vitest';
import type { SinkTask, SourceTask } from '../../../shared/connect/connector.ts';
import { ConnectError } from '../../../shared/connect/errors.ts';
import { budgetAfterDeaths } from '../../../shared/runtime/budget.ts';
import type { RunRequest } from '../../../shared/runtime/run.ts';
import { acquireLease, restartTask } from '../../../shared/state/lease.ts';
import { arraySource, askedSource, keyedDestination } from '../../kit/memory-connectors.ts';
import { createRunKit, identity, numbered, type RunKit, upstreamOf } from '../../kit/run-kit.ts';

const direct = { op: <T>(_: string, call: () => Promise<T>) => call() };
const source = (made: unknown): Pick<RunRequest, 'openSource'> => ({
  openSource: async () => made as SourceTask<unknown>,
});

/** A gate: whoever passes it waits until it is opened. */
const gate = () => {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  return {
    reached: reached.promise,
    open: opened.resolve,
    async pass() {
      reached.resolve();
      await opened.promise;
    },
  };
};

describe('a sink that can not join the commit (hazards B1, H4)', () => {
  it.each([
    ['can be asked', askedSource],
    ['can only be polled', arraySource],
  ])('is not given a batch that was polled while another run held the lease; the source %s', async (_, sourceFor) => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(1, ['k']) });
    const { last, sink } = keyedDestination();
    const openSink = async () => sink(direct);
    const asleep = gate();
    const sleepy = sourceFor(upstream, 'rows');
    const poll: typeof sleepy.poll = async (...args) => {
      const polled = await sleepy.poll(...args);
      await asleep.pass();
      return polled;
    };
    const a = kit.run({ ...source({ ...sleepy, poll }), openSink });
    await asleep.reached;
    expect(
      await kit.run({ ...source(sourceFor(upstream, 'rows')), openSink }),
      'nothing is polled without it',
    ).toMatchObject({ outcome: 'busy' });
    // A sleeps past it. B does two batches with the same key, and releases.
    kit.clock.advance(60_001);
    await kit.run({ ...source(sourceFor(upstream, 'rows')), openSink });
    upstream.get('a')!.push({ key: 'k', n: 1 });
    await kit.run({ ...source(sourceFor(upstream, 'rows')), openSink });
    expect(last.get('k')).toBe(1);
    asleep.open();
    expect(await a).toMatchObject({ outcome: 'superseded', records: 0 });
    expect(last.get('k'), 'the old value was put over the new one').toBe(1);
    expect(await kit.committed()).toEqual({ a: [{ next: 2 }, 2] });
  });

  it('is not given anything by a run that slept past its lease', async () => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(1, ['k']) });
    const { last, sink } = keyedDestination();
    const asleep = gate();
    const openSink = async () => sink(direct);
    const sleepy = async () => {
      await asleep.pass();
      return sink(direct);
    };
    const a = kit.run({ ...source(arraySource(upstream, 'rows')), openSink: sleepy });
    await asleep.reached;
    kit.clock.advance(60_001);
    upstream.get('a')!.push({ key: 'k', n: 1 });
    expect(await kit.run({ ...source(arraySource(upstream, 'rows')), openSink })).toMatchObject({ records: 2 });
    asleep.open();
    expect(await a).toMatchObject({ outcome: 'superseded', records: 0 });
    expect(last.get('k')).toBe(1);
  });
});

describe('a lease', () => {
  const take = ({ base, clock }: RunKit, owner: string) =>
    acquireLease(base, {
      connector: identity.connector,
      task: 0,
      owner,
      expiresAtMs: clock.now() + 60_000,
      nowMs: clock.now(),
    });

  it('turns the second of two runs away, until it is released or has expired (invariant 4)', async () => {
    const kit = createRunKit();
    await take(kit, 'another');
    kit.clock.advance(59_999);
    expect(await kit.run()).toMatchObject({ outcome: 'busy', records: 0 });
    expect((await kit.task()).owner, 'untouched').toBe('another');
    kit.clock.advance(1);
    expect(await kit.run()).toMatchObject({ outcome: 'drained', records: 3 });
    expect(await kit.task()).toMatchObject({ epoch: 2, deaths: 0 });
  });

  it('carries the epoch that the sink gets, which grows with every take-over', async () => {
    const kit = createRunKit();
    const epochs: number[] = [];
    const openSink = async (): Promise<SinkTask> => ({
      async put(_batch, { epoch }) {
        epochs.push(epoch);
        return { committed: false };
      },
      close: async () => {},
    });
    const upstream = upstreamOf({ a: numbered(1) });
    for (let round = 0; round < 3; round++) {
      await kit.run({ ...source(arraySource(upstream, 'rows')), openSink });
      await take(kit, `killed-${round}`);
      kit.clock.advance(60_000);
      upstream.get('a')!.push({ key: 'k', n: 1 });
    }
    expect(epochs).toEqual([1, 3, 5]);
  });
});

describe('a task that dies (hazard B10)', () => {
  it('gets half the batch after each death', () => {
    const budget = { maxRecords: 100, maxBytes: 4_000 };
    expect([0, 1, 2, 3].map((deaths) => budgetAfterDeaths(budget, deaths))).toEqual([
      { maxRecords: 100, maxBytes: 4_000 },
      { maxRecords: 50, maxBytes: 2_000 },
      { maxRecords: 25, maxBytes: 1_000 },
      { maxRecords: 12, maxBytes: 500 },
    ]);
    expect(budgetAfterDeaths(budget, 6)).toMatchObject({ maxRecords: 1 });
    expect(budgetAfterDeaths(budget, 7), 'the last death was with a single record').toBe('poison');
    expect(budgetAfterDeaths({ maxRecords: 1, maxBytes: 1 }, 5), 'at least six deaths').toMatchObject({
      maxRecords: 1,
    });
  });

  /** A function that is killed, without another line run, when it is given row 13 of partition a. */
  const killedBy = (kit: RunKit, upstream: ReturnType<typeof upstreamOf>, poison: number) => {
    const { last, sink } = keyedDestination();
    const attempt = async (maxRecords: number) => {
      const killed = Promise.withResolvers<'killed'>();
      const openSink = async (): Promise<SinkTask> => ({
        ...sink(direct),
        async put(batch, context) {
          const rows = [...batch].map((record) => record.value as unknown as { n: number });
          if (!rows.some(({ n }) => n === poison)) return sink(direct).put(batch, context);
          killed.resolve('killed');
          return new Promise<never>(() => {});
        },
      });
      const running = kit.run({
        ...source(askedSource(upstream, 'rows')),
        openSink,
        budget: { maxRecords, maxBytes: 1 << 20 },
      });
      const end = await Promise.race([running, killed.promise]);
      if (end === 'killed') kit.clock.advance(60_001);
      return end;
    };
    return { last, attempt };
  };

  it('by one record is FAILED with exactly that record, within few runs, and it is never skipped (H13)', async () => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(20) });
    const { last, attempt } = killedBy(kit, upstream, 13);
    const ends: unknown[] = [];
    while (ends.length < 30) {
      const end = await attempt(8);
      ends.push(end === 'killed' ? end : end.outcome);
      if (end !== 'killed' && end.outcome === 'failed') break;
    }
    expect(ends.length).toBeLessThanOrEqual(12);
    const { state, trace, retriable, deaths } = await kit.task();
    expect({ state, retriable, deaths }).toEqual({ state: 'FAILED', retriable: false, deaths: 0 });
    expect(trace).toMatch(/^POISON: the record at \{"name":"a"\} \{"next":14\} killed its function \d+ times/);
    expect(await kit.committed(), 'everything before it is committed').toMatchObject({
      a: [{ next: 13 }, expect.anything()],
    });
    expect(last.has('k13')).toBe(false);
    // Until an operator restarts it, nothing runs.
    expect(await attempt(8)).toMatchObject({ outcome: 'failed', records: 0 });
    expect(await kit.committed()).toMatchObject({ a: [{ next: 13 }, expect.anything()] });
  });

  it.each([
    ['can be asked', askedSource],
    ['can only be polled', arraySource],
  ])('by reading one record is FAILED too: nothing is read before the lease; the source %s', async (_, sourceFor) => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(9) });
    const inner = sourceFor(upstream, 'rows');
    const ends: unknown[] = [];
    while (ends.length < 30 && ends.at(-1) !== 'failed') {
      const killed = Promise.withResolvers<'killed'>();
      const poll: typeof inner.poll = async (...args) => {
        const polled = await inner.poll(...args);
        if (![...polled.batch].some((record) => (record.value as unknown as { n: number }).n === 5)) return polled;
        killed.resolve('killed');
        return new Promise<never>(() => {});
      };
      const running = kit.run({
        ...source({ ...inner, poll }),
        openSink: async () => keyedDestination().sink(direct),
        budget: { maxRecords: 4, maxBytes: 1 << 20 },
      });
      const end = await Promise.race([running, killed.promise]);
      ends.push(end === 'killed' ? end : end.outcome);
      if (end === 'killed') kit.clock.advance(60_001);
    }
    expect(ends.length).toBeLessThanOrEqual(12);
    expect((await kit.task()).trace).toMatch(
      /^POISON: the record after \{"name":"a"\} \{"next":5\} killed its function/,
    );
  });

  it('gets through in parts where the batch was too much for one run', async () => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(20) });
    const { last, sink } = keyedDestination();
    let given = 0;
    /** Three records are all that one put of this sink gets done in time. */
    const runOnce = async () => {
      const abort = new AbortController();
      const openSink = async (): Promise<SinkTask> => ({
        ...sink(direct),
        async put(batch, context) {
          if (batch.count <= 3) return sink(direct).put(batch, context);
          given++;
          abort.abort(new Error('the time of this invocation is over'));
          throw abort.signal.reason;
        },
      });
      const budget = { maxRecords: 8, maxBytes: 1 << 20 };
      return kit.run({ ...source(askedSource(upstream, 'rows')), openSink, abort: abort.signal, budget });
    };
    for (let run = 0; run < 10; run++) await runOnce();
    expect(given).toBeGreaterThan(0);
    expect(last.size).toBe(20);
  });

  it('forgets a death with every run that gets on, so that a task that is never drained grows back', async () => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(100) });
    const acquired = [];
    for (let death = 0; death < 2; death++) {
      acquired.push(
        await acquireLease(kit.base, {
          connector: 'c',
          task: 0,
          owner: `killed-${death}`,
          expiresAtMs: kit.clock.now(),
          nowMs: kit.clock.now(),
        }),
      );
      kit.clock.advance(1);
    }
    const deaths: number[] = [];
    for (let run = 0; run < 4; run++) {
      const stop = new AbortController();
      const { sink } = keyedDestination();
      const openSink = async (): Promise<SinkTask> => ({
        ...sink(direct),
        async put(batch, context) {
          stop.abort();
          return sink(direct).put(batch, context);
        },
      });
      expect(await kit.run({ ...source(askedSource(upstream, 'rows')), openSink, stop: stop.signal })).toMatchObject({
        outcome: 'more',
      });
      deaths.push((await kit.task()).deaths);
    }
    expect(deaths).toEqual([1, 0, 0, 0]);
  });

  it('with FAILED waits for a restart, which starts with no deaths', async () => {
    const kit = createRunKit();
    await kit.run({ openSink: () => Promise.reject(new ConnectError('CONFIG_INVALID', 'no such table')) });
    expect(await kit.run()).toMatchObject({ outcome: 'failed', records: 0 });
    expect(await restartTask(kit.base, 'c', 0, true)).toBe(true);
    expect(await kit.run()).toMatchObject({ outcome: 'drained', records: 3 });
    expect(await kit.task()).toMatchObject({ state: 'RUNNING', failures: 0, deaths: 0 });
    expect((await kit.task()).trace).toBeUndefined();
  });
});

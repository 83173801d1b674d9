import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SinkTask } from '../../../shared/connect/connector.ts';
import { type Blame, ConnectError } from '../../../shared/connect/errors.ts';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { withRetry } from '../../../shared/runtime/retry.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { openedSince } from '../../kit/left-open.ts';
import { appendingDestination } from '../../kit/memory-connectors.ts';
import { createRunKit } from '../../kit/run-kit.ts';
import { manualClock } from '../../kit/world.ts';

const policy = (retryTimeoutMs: number) => ({ tolerance: 'all', retryTimeoutMs, retryDelayMaxMs: 10_000 }) as const;
const down = (blame: Blame = 'system', retriable = true) =>
  new ConnectError('UNAVAILABLE', 'down', { blame, retriable });

/** A sink whose put fails with `error` so many times. */
const failing = (times: number, error: Error) => {
  const { rows, sink } = appendingDestination();
  const tries: number[] = [];
  const openSink = async (): Promise<SinkTask> => ({
    ...sink(),
    async put(batch, context) {
      tries.push(batch.count);
      if (tries.length <= times) throw error;
      return sink().put(batch, context);
    },
  });
  return { rows, tries, openSink };
};

describe('a put that fails', () => {
  it('is not retried by default: the task fails, and tells whether a restart may help', async () => {
    const kit = createRunKit();
    const { tries, openSink } = failing(1, down());
    expect(await kit.run({ openSink })).toMatchObject({ outcome: 'failed', error: { code: 'UNAVAILABLE' } });
    expect(tries).toEqual([3]);
    expect(await kit.task()).toMatchObject({
      state: 'FAILED',
      failures: 1,
      retriable: true,
      trace: 'UNAVAILABLE: down',
    });
    expect(await kit.committed()).toEqual({});
    expect(kit.writes()).toEqual(['lease', 'release FAILED']);
  });

  it('is retried with growing waits up to errors.retry.timeout', async () => {
    const kit = createRunKit();
    const startMs = kit.clock.now();
    const { rows, tries, openSink } = failing(4, down());
    expect(await kit.run({ openSink, errors: policy(30_000) })).toMatchObject({ outcome: 'drained', rejected: 0 });
    expect(tries).toHaveLength(5);
    expect(rows).toHaveLength(3);
    expect(kit.clock.now() - startMs).toBeGreaterThan(4 * 150);
    expect(kit.warnings).toHaveLength(4);
  });

  it('fails the task once errors.retry.timeout is over', async () => {
    const kit = createRunKit();
    const startMs = kit.clock.now();
    const { tries, openSink } = failing(Number.POSITIVE_INFINITY, down());
    expect(await kit.run({ openSink, errors: policy(30_000) })).toMatchObject({ outcome: 'failed' });
    expect(kit.clock.now() - startMs).toBeLessThanOrEqual(30_000);
    expect(tries.length).toBeGreaterThan(5);
  });

  it.each([
    ['a bug', new TypeError('x is not a function')],
    ['a system error', down('system', false)],
  ])('with %s never reaches the dead letters, whatever errors.tolerance says (invariant 8)', async (_, error) => {
    const kit = createRunKit();
    const letters: unknown[] = [];
    const { openSink } = failing(1, error);
    const errors = { ...policy(30_000), deadLetterTopic: 'dead' };
    const appendDeadLetters = async (batch: unknown) => void letters.push(batch);
    expect(await kit.run({ openSink, errors, appendDeadLetters })).toMatchObject({ outcome: 'failed', rejected: 0 });
    expect(letters).toEqual([]);
    expect(await kit.task()).toMatchObject({ state: 'FAILED', retriable: false });
  });

  it('with an order error is parted for what comes before it, retried in source order, then fails, and is no dead letter (invariant 8)', async () => {
    const kit = createRunKit();
    const letters: unknown[] = [];
    const order = new ConnectError('RECORD_REJECTED', 'duplicate key', { blame: 'order' });
    const errors = { ...policy(5_000), deadLetterTopic: 'dead' };
    const appendDeadLetters = async (batch: unknown) => void letters.push(batch);
    const { tries, openSink } = failing(Number.POSITIVE_INFINITY, order);
    expect(await kit.run({ openSink, errors, appendDeadLetters })).toMatchObject({ outcome: 'failed', rejected: 0 });
    expect(tries.slice(0, 2), 'whole, and then what is first').toEqual([3, 1]);
    expect(new Set(tries.slice(1)), 'nothing that is behind it').toEqual(new Set([1]));
    expect(tries.length).toBeGreaterThan(3);
    expect(letters).toEqual([]);
  });

  it('is not put again by a run that slept past its lease between two tries (invariant 4)', async () => {
    const kit = createRunKit();
    const { tries, openSink } = failing(1, down());
    const sleepy = { ...kit.clock, delay: async () => kit.clock.advance(60_001) };
    expect(await kit.run({ openSink, clock: sleepy, errors: policy(30_000) })).toMatchObject({ outcome: 'superseded' });
    expect(tries, 'another run may have written it and more by now').toHaveLength(1);
  });

  it('because the dead letters can not be written fails the task: nothing is committed without its letter', async () => {
    const kit = createRunKit();
    const openSink = async (): Promise<SinkTask> => ({
      async put(_batch, { reject }) {
        await reject([{ index: 0, error: new ConnectError('RECORD_REJECTED', 'too long', { blame: 'row' }) }]);
        return { committed: false };
      },
      close: async () => {},
    });
    const appendDeadLetters = () => Promise.reject(down());
    const errors = { ...policy(0), deadLetterTopic: 'dead' };
    expect(await kit.run({ openSink, errors, appendDeadLetters })).toMatchObject({ outcome: 'failed', rejected: 0 });
    expect(await kit.committed()).toEqual({});
  });
});

describe('a state table that does not answer', () => {
  it('is the one error that a run throws', async () => {
    const broken = { ...memoryTable(), query: () => Promise.reject(down()) };
    await expect(createRunKit(broken).run()).rejects.toThrow('down');
  });
});

describe('withRetry', () => {
  it('never waits past the timeout, never after a stop, and throws the last error', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(60_000),
        fc.integer({ min: 1, max: 60_000 }),
        fc.nat(20),
        fc.option(fc.nat(20), { nil: undefined }),
        async (retryTimeoutMs, retryDelayMaxMs, failures, stopAt) => {
          const clock = manualClock();
          const startMs = clock.now();
          const stop = new AbortController();
          let calls = 0;
          const call = async () => {
            if (calls++ === stopAt) stop.abort();
            if (calls <= failures) throw down();
            return calls;
          };
          const tolerance = 'none' as const;
          const result = await withRetry(
            call,
            { tolerance, retryTimeoutMs, retryDelayMaxMs },
            clock,
            stop.signal,
            () => {},
          ).catch((error: unknown) => error);
          expect(clock.now() - startMs).toBeLessThanOrEqual(retryTimeoutMs);
          if (stopAt !== undefined && stopAt < failures)
            expect(calls, 'the call that saw the stop was the last').toBeLessThanOrEqual(stopAt + 1);
          if (result instanceof ConnectError) expect(result.message).toBe('down');
          else expect(result).toBe(failures + 1);
        },
      ),
    );
  });

  it('ends a wait when the run is stopped, with the error that was retried', async () => {
    const stop = new AbortController();
    const before = process.getActiveResourcesInfo();
    const running = withRetry(
      () => Promise.reject(down()),
      policy(3_600_000),
      systemClock,
      stop.signal,
      () => setImmediate(() => stop.abort(new Error('over'))),
    );
    await expect(running).rejects.toThrow('down');
    expect(openedSince(before), 'no timer is left').toEqual([]);
  });
});

import { beforeEach, describe, expect, it } from 'vitest';
import { keepUnread } from '../../functions/coordinator/retention.ts';
import { sweep } from '../../functions/coordinator/sweep.ts';
import { findUnread } from '../../functions/coordinator/unread.ts';
import type { SinkTask, SourceTask } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { TopicSpec } from '../../shared/connect/spec.ts';
import { memoryObjects } from '../../shared/log/objects.ts';
import { applyConnector, removeConnector } from '../../shared/management/apply.ts';
import { resetOffsets } from '../../shared/management/offsets.ts';
import { readState, readStates } from '../../shared/management/status.ts';
import { changeTarget, restartConnector } from '../../shared/management/tasks.ts';
import type { Log } from '../../shared/runtime/run.ts';
import type { Table } from '../../shared/state/table.ts';
import { removeEnded, removeEndedObjects, segmentItems } from './erratic-retention.ts';
import { appendingDestination, askedSource, type Row } from './memory-connectors.ts';
import { createPlatform, recordedFunctions, specOf } from './platform.ts';
import { upstreamOf } from './run-kit.ts';
import { seeded } from './seed.ts';
import { manualClock } from './world.ts';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** source → rows → sink and fast. Every row is a segment of its own; its pad makes it an object. */
const bench = async (table: Table, topic: Partial<TopicSpec> = {}) => {
  const clock = manualClock();
  const objects = memoryObjects();
  const platform = createPlatform({ table, objects, clock });
  const { functions, invoked } = recordedFunctions();
  const upstream = upstreamOf({ a: [] });
  platform.plugins.set('source', { source: () => askedSource(upstream, 'rows') as SourceTask<unknown> });
  const rows = { name: 'rows', queues: 1, retentionMs: dayMs, capMs: 10 * dayMs, ...topic };
  const nowMs = () => ({ nowMs: clock.now() });
  await applyConnector(table, functions, specOf({ name: 'source', kind: 'source', to: [rows] }), nowMs());
  const destinations = new Map<string, Row[]>();
  const addSink = async (name: string, sink?: () => SinkTask) => {
    const destination = appendingDestination();
    destinations.set(name, destination.rows);
    platform.plugins.set(name, { sink: sink ?? destination.sink });
    await applyConnector(table, functions, specOf({ name, kind: 'sink', from: ['rows'], maxRecords: 50 }), nowMs());
  };
  const random = seeded('retention');
  let n = 0;
  const errors: string[] = [];
  const log: Log = (level, message) => void (level === 'error' && errors.push(message));
  return {
    ...platform,
    objects,
    functions,
    invoked,
    upstream,
    addSink,
    errors,
    written: (name: string) => destinations.get(name)!.map((row) => row.n),
    all: () => Array.from({ length: n }, (_, i) => i),
    log,
    async append(pad = 'x', key = 'k') {
      upstream.get('a')!.push({ key, n: n++, pad });
      expect(await platform.invoke('source', 0)).toMatchObject({ outcome: 'drained' });
    },
    sweep: () => sweep(table, functions, clock.now(), log),
    /** Time passes: retention removes some of what has ended, in any order. */
    async retention(hours = 1) {
      clock.advance(hours * hourMs);
      await removeEnded(table, 'rows#0#0', clock.now(), () => random.integer(0, 2) > 0);
      removeEndedObjects(objects.stored, clock.now());
    },
    async drain(name: string) {
      for (let run = 0; run < 100; run++) {
        const result = await platform.invoke(name, 0);
        if (result.outcome === 'idle' || result.outcome === 'failed') return result;
      }
      throw new Error(`${name} does not come to rest`);
    },
    segments: () => segmentItems(table, 'rows#0#0'),
  };
};

const large = 'x'.repeat(40_000).replace(/x/g, () => Math.floor(Math.random() * 36).toString(36));

/** What a subscriber has not read is kept, and who fills a topic faster than it is read is held: on any table. */
export const describeUnread = (name: string, makeTable: () => Promise<Table>): void => {
  let table: Table;
  beforeEach(async () => {
    table = await makeTable();
  });

  describe(`${name}: what a subscriber has not read`, () => {
    it('is kept while the reader is paused, many times its retention: nothing is lost, nothing doubled', async () => {
      const world = await bench(table);
      await world.addSink('sink');
      await world.addSink('fast');
      for (let hour = 0; hour < 9 * 24; hour += 6) {
        if (hour === 30) await changeTarget(table, world.functions, 'sink', 'pause');
        await world.append(hour % 18 === 0 ? large : 'x');
        expect(await world.sweep()).toEqual(hour > 30 + 24 + 5 * 24 ? expect.anything() : []);
        await world.retention(6);
        for (const reader of hour < 30 ? ['sink', 'fast'] : ['fast']) await world.drain(reader);
      }
      await changeTarget(table, world.functions, 'sink', 'resume');
      expect(await world.drain('sink')).toMatchObject({ outcome: 'idle' });
      expect(world.written('sink')).toEqual(world.all());
      expect(world.written('fast')).toEqual(world.all());
      expect(await world.sweep(), 'the alarm is over').toEqual([]);
      expect(world.errors).toEqual([]);
    });

    it('is kept also for a reader who has not committed anything yet', async () => {
      const world = await bench(table);
      for (let i = 0; i < 5; i++) await world.append();
      let broken = true;
      const working = appendingDestination();
      await world.addSink('sink', () => {
        if (broken) throw new ConnectError('UNAVAILABLE', 'no such host');
        return working.sink();
      });
      await world.invoke('sink', 0);
      for (let hour = 0; hour < 4 * 24; hour += 4) {
        await world.sweep();
        await world.retention(4);
      }
      broken = false;
      await restartConnector(table, world.functions, 'sink');
      await world.drain('sink');
      expect(working.rows.map(({ n }) => n)).toEqual(world.all());
    });

    it('ends at the cap: an alarm at half of it, and then it is lost, loudly; what is left can be gone on with', async () => {
      const world = await bench(table);
      await world.addSink('sink');
      await world.append();
      await changeTarget(table, world.functions, 'sink', 'pause');
      const alarms: string[][] = [];
      for (let hour = 0; hour < 13 * 24; hour += 6) {
        await world.append();
        alarms.push([...(await world.sweep())]);
        await world.retention(6);
      }
      const first = alarms.findIndex((texts) => texts.length > 0);
      expect(first / 4, 'a day of retention, and half of ten days').toBeCloseTo(6, 0);
      expect(alarms[first]).toEqual([
        expect.stringMatching(
          /^topic rows, queue 0 of generation 0: sink has not read from 0 on, which is kept until 2026-01-12/,
        ),
      ]);
      expect(alarms.at(-1)).toEqual([
        expect.stringMatching(/what sink has not read is gone, from 0 on: go on from what is left/),
      ]);
      await changeTarget(table, world.functions, 'sink', 'resume');
      expect(await world.drain('sink')).toMatchObject({ outcome: 'failed', error: { code: 'LOST_POSITION' } });
      expect(world.written('sink')).toEqual([]);
      await changeTarget(table, world.functions, 'sink', 'stop');
      await resetOffsets(table, 'sink', 'ann', world.clock.now());
      await changeTarget(table, world.functions, 'sink', 'resume');
      await restartConnector(table, world.functions, 'sink');
      const left = (await world.segments()).filter(({ expires }) => Number(expires) * 1000 > world.clock.now());
      expect(left.length).toBeGreaterThan(30);
      expect(await world.drain('sink')).toMatchObject({ outcome: 'idle' });
      expect(world.written('sink')).toEqual(world.all().slice(-left.length));
    });

    it('does not keep anything for a reader that was removed, or that has read it', async () => {
      const world = await bench(table);
      await world.addSink('sink');
      await world.addSink('fast');
      await world.append();
      await world.drain('fast');
      await removeConnector(table, world.functions, 'sink', world.clock.now());
      for (let hour = 0; hour < 26; hour += 2) {
        expect(await world.sweep()).toEqual([]);
        expect((await world.segments()).every(({ retainedUntil }) => retainedUntil === undefined)).toBe(true);
        await world.retention(2);
      }
      for (let hour = 0; hour < 12; hour++) await world.retention();
      expect(await world.segments()).toEqual([]);
    });

    it('is not what a new reader begins with: it gets what is within the retention, as if nothing had been kept', async () => {
      const world = await bench(table);
      await world.addSink('slow');
      await changeTarget(table, world.functions, 'slow', 'pause');
      for (let hour = 0; hour < 72; hour += 3) {
        await world.append();
        await world.sweep();
        await world.retention(3);
      }
      await world.addSink('late');
      await removeConnector(table, world.functions, 'slow', world.clock.now());
      // A day later it runs for the first time: what it came in time for was kept for it, and has no holes.
      for (let hour = 0; hour < 30; hour += 3) {
        await world.sweep();
        await world.retention(3);
      }
      await world.drain('late');
      expect(world.written('late')).toEqual(world.all().slice(-world.written('late').length));
      expect(world.written('late').length).toBeGreaterThanOrEqual(7);
      expect(world.written('late').length).toBeLessThanOrEqual(8);
    });

    it('is what a reset begins with, where it is kept for this reader', async () => {
      const world = await bench(table);
      await world.addSink('sink');
      await world.append();
      await world.drain('sink');
      await changeTarget(table, world.functions, 'sink', 'stop');
      for (let hour = 0; hour < 72; hour += 3) {
        await world.append();
        await world.sweep();
        await world.retention(3);
      }
      await resetOffsets(table, 'sink', 'ann', world.clock.now());
      await changeTarget(table, world.functions, 'sink', 'resume');
      await world.drain('sink');
      expect(world.written('sink').slice(1), 'from where it stood').toEqual(world.all().slice(1));
    });

    it('ends no sooner than what came before it, when the retention is made shorter', async () => {
      const world = await bench(table, { retentionMs: 5 * dayMs });
      await world.addSink('sink');
      await world.append();
      const shorter = { name: 'rows', queues: 1, retentionMs: hourMs, capMs: 10 * dayMs };
      await applyConnector(table, world.functions, specOf({ name: 'source', kind: 'source', to: [shorter] }));
      await world.append();
      const [before, after] = await world.segments();
      expect(after!.expires).toBe(before!.expires);
      world.clock.advance(6 * dayMs);
      await world.append();
      expect((await world.segments())[2]!.expires).toBe(Math.ceil((world.clock.now() + hourMs) / 1000));
    });

    it('does not come back as an item without a body where retention was faster', async () => {
      const world = await bench(table);
      await world.addSink('sink');
      for (let i = 0; i < 4; i++) await world.append();
      world.clock.advance(20 * hourMs);
      const [, second] = await world.segments();
      const racing: Table = {
        ...table,
        async write(writes) {
          if (writes.length === 4) await table.write([{ delete: { pk: second!.pk, sk: second!.sk } }]);
          return table.write(writes);
        },
      };
      const unread = await findUnread(table, await readStates(table, world.clock.now()), () => {});
      await keepUnread(racing, unread, world.clock.now(), () => {});
      const left = await world.segments();
      expect(left.map(({ sk }) => Number(sk))).toEqual([0, 2, 3]);
      expect(
        left.every(({ expires, cap, retainedUntil }) => expires === cap && retainedUntil === second!.expires),
      ).toBe(true);
    });

    it('is kept queue by queue, what ends first before the others, and without one that can not be read', async () => {
      const world = await bench(table, { queues: 3 });
      await world.addSink('sink');
      for (const key of ['k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7']) {
        await world.append('x', key);
        world.clock.advance(hourMs);
      }
      const lists = await Promise.all([0, 1, 2].map((queue) => segmentItems(table, `rows#0#${queue}`)));
      const byEnd = lists.flat().toSorted((a, b) => Number(a.expires) - Number(b.expires));
      const ends = [...new Set(byEnd.map(({ pk }) => pk))];
      expect(ends, 'a segment in each queue').toHaveLength(3);
      world.clock.advance(15 * hourMs);
      const kept: string[] = [];
      const watched: Table = {
        ...table,
        query: (pk, query) => (pk === ends[1] ? Promise.reject(new Error('throttled')) : table.query(pk, query)),
        write: (writes) => {
          for (const write of writes)
            if ('update' in write && write.update.pk.startsWith('log#')) kept.push(write.update.pk);
          return table.write(writes);
        },
      };
      await sweep(watched, world.functions, world.clock.now(), world.log);
      expect([...new Set(kept)]).toEqual([ends[0], ends[2]]);
      expect(world.errors.join()).toMatch(/what is unread of rows#0#\d could not be read: throttled/);
    });

    it('is kept page by page, each segment written once, however many sweeps it takes', async () => {
      const world = await bench(table);
      await world.addSink('sink');
      for (let i = 0; i < 120; i++) await world.append();
      world.clock.advance(20 * hourMs);
      const written: number[] = [];
      const counted: Table = {
        ...table,
        write: (writes) => {
          if (writes.length > 1) written.push(writes.length);
          return table.write(writes);
        },
      };
      for (let minute = 0; minute < 4; minute++) {
        const unread = await findUnread(table, await readStates(table, world.clock.now()), () => {});
        await keepUnread(counted, unread, world.clock.now(), () => {}, 1);
      }
      expect(written).toEqual([100, 20]);
      expect((await world.segments()).every(({ retainedUntil }) => retainedUntil !== undefined)).toBe(true);
    });

    it('costs nothing where everybody has caught up, and one read per queue while nothing is about to end', async () => {
      const world = await bench(table);
      await world.addSink('sink');
      await world.append();
      const queries: string[] = [];
      const watched: Table = {
        ...table,
        query: (pk, query) => {
          if (pk.startsWith('log#')) queries.push(pk);
          return table.query(pk, query);
        },
        write: (writes) => Promise.reject(new Error(`a write of ${JSON.stringify(writes)}`)),
      };
      const swept = () => sweep(watched, world.functions, world.clock.now(), () => {});
      await swept();
      expect(queries).toEqual(['log#rows#0#0']);
      await world.drain('sink');
      await swept();
      expect(queries).toHaveLength(1);
    });
  });

  describe(`${name}: maxBacklog`, () => {
    const limit = { maxBacklogBytes: 1_000_000 };
    const state = async (world: Awaited<ReturnType<typeof bench>>, name = 'source') =>
      (await readState(table, name, world.clock.now()))!.row.held;

    it('holds the source while its slowest reader is too far behind, and lets it go on below half', async () => {
      const world = await bench(table, limit);
      await world.addSink('sink');
      await world.addSink('fast');
      await changeTarget(table, world.functions, 'sink', 'pause');
      for (let i = 0; i < 20; i++) await world.append(large);
      await world.drain('fast');
      await world.sweep();
      expect(await state(world), '0.8 MB').toBeUndefined();
      for (let i = 0; i < 10; i++) await world.append(large);
      await world.sweep();
      expect(await state(world)).toBe('rows');
      world.upstream.get('a')!.push({ key: 'k', n: 30 });
      expect(await world.invoke('source', 0)).toMatchObject({ outcome: 'idle' });
      // Kept by a new config; not run by a sweep.
      const to = [{ name: 'rows', queues: 1, retentionMs: dayMs, capMs: 10 * dayMs, ...limit }];
      await applyConnector(table, world.functions, specOf({ name: 'source', kind: 'source', to }));
      expect(await state(world)).toBe('rows');
      await changeTarget(table, world.functions, 'sink', 'resume');
      world.invoked();
      const stop = new AbortController();
      await world.invoke('sink', 0, undefined, {
        budget: { maxRecords: 12, maxBytes: 1e9 },
        stop: stop.signal,
        openSink: async () => {
          const sink = world.plugins.get('sink')!.sink!(undefined as never, 0, undefined as never);
          const put: typeof sink.put = (...args) => {
            stop.abort(new Error('over'));
            return sink.put(...args);
          };
          return { ...sink, put };
        },
      });
      expect(world.written('sink').length).toBeGreaterThan(0);
      await world.sweep();
      expect(await state(world), 'between half and all of it').toBe('rows');
      await world.drain('sink');
      world.invoked();
      await world.sweep();
      expect(await state(world)).toBeUndefined();
      expect(world.invoked()).toContain('source#0 sweep');
      expect(await world.invoke('source', 0)).toMatchObject({ outcome: 'drained', records: 1 });
    });

    it('ends a run in progress after the batch that it is writing', async () => {
      const world = await bench(table, limit);
      await world.addSink('sink');
      await changeTarget(table, world.functions, 'sink', 'pause');
      for (let i = 0; i < 40; i++) world.upstream.get('a')!.push({ key: 'k', n: i, pad: large });
      let batches = 0;
      const swept = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
        const result = await call();
        if (name === 'put' && ++batches === 6) await world.sweep();
        return result;
      };
      expect(await world.invoke('source', 0, { op: swept })).toMatchObject({ outcome: 'superseded', batches: 6 });
      expect(await state(world)).toBe('rows');
    });

    it('does not hold what would fill its upstream: an alarm tells', async () => {
      const world = await bench(table, limit);
      await world.addSink('sink');
      const to = [{ name: 'rows', queues: 1, retentionMs: dayMs, capMs: 10 * dayMs, ...limit }];
      await applyConnector(table, world.functions, specOf({ name: 'source', kind: 'source', to, hold: false }));
      for (let i = 0; i < 30; i++) await world.append(large);
      expect(await world.sweep()).toEqual([
        expect.stringMatching(
          /^\d+ bytes of topic rows are unread, more than its maxBacklog of 1000000: sink must catch up; source writes on/,
        ),
      ]);
      expect(await state(world)).toBeUndefined();
    });

    it('is not held any more when it can no longer be, or the limit is gone', async () => {
      const world = await bench(table, limit);
      await world.addSink('sink');
      for (let i = 0; i < 30; i++) await world.append(large);
      await world.sweep();
      expect(await state(world)).toBe('rows');
      const to = [{ name: 'rows', queues: 1, retentionMs: dayMs, capMs: 10 * dayMs }];
      await applyConnector(table, world.functions, specOf({ name: 'source', kind: 'source', to }));
      world.invoked();
      await world.sweep();
      expect(await state(world)).toBeUndefined();
      expect(world.invoked()).toContain('source#0 sweep');
    });

    it('holds a processor, and through it the source that it reads', async () => {
      const world = await bench(table, limit);
      const derived = { name: 'derived', queues: 1, retentionMs: dayMs, ...limit };
      await applyConnector(
        table,
        world.functions,
        specOf({ name: 'copy', kind: 'processor', from: ['rows'], to: [derived] }),
      );
      world.plugins.set('copy', {});
      await applyConnector(table, world.functions, specOf({ name: 'reader', kind: 'sink', from: ['derived'] }));
      const { rows, sink } = appendingDestination();
      world.plugins.set('reader', { sink });
      const copy = () => world.invoke('copy', 0);
      for (let i = 0; i < 30; i++) await world.append(large);
      await copy();
      await world.sweep();
      expect([await state(world, 'copy'), await state(world)]).toEqual(['derived', undefined]);
      for (let i = 0; i < 30; i++) await world.append(large);
      await world.sweep();
      expect([await state(world, 'copy'), await state(world)]).toEqual(['derived', 'rows']);
      for (let round = 0; round < 4; round++) {
        await world.drain('reader');
        await world.sweep();
        await copy();
      }
      expect([await state(world, 'copy'), await state(world)]).toEqual([undefined, undefined]);
      await world.drain('reader');
      expect(rows.map(({ n }) => n)).toEqual(world.all());
    });
  });
};

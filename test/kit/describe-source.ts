import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type * as z from 'zod';
import { batchBytes, sliceBatch } from '../../shared/connect/batch.ts';
import { type Poll, partitionKey } from '../../shared/connect/connector.ts';
import {
  createRunner,
  type Delivered,
  expectRecords,
  type OffsetMap,
  partitionsOf,
  recordsOf,
  type SourceFixture,
  textOf,
  withEnds,
} from './source-runner.ts';
import { until } from './until.ts';

export type { ExpectedRecord, SourceFixture } from './source-runner.ts';

/** One rule of the contract. `run` rejects where the source breaks it, and gives 'n/a' where the rule does not concern it. */
export interface SourceRule {
  readonly title: string;
  run(fixture: SourceFixture): Promise<unknown>;
}

/** Runs the contract of `SourceTask` against a real upstream: one test per rule. */
export const describeSource = <Schema extends z.ZodType, Offset>(
  name: string,
  makeFixture: () => Promise<SourceFixture<Schema, Offset>>,
): void => {
  describe(`${name}: the source contract`, () => {
    test.each(sourceRules)('$title', async ({ run }) => {
      // The rules know config and offset only as something to hand back to the source.
      const fixture = (await makeFixture()) as unknown as SourceFixture;
      try {
        await run(fixture);
      } finally {
        await fixture.cleanup?.();
      }
    });
  });
};

/** Every cut is tried up to so many records; of more, so many spread evenly. */
const maxCuts = 200;

/** More waits than any source needs for what is there already. */
const maxWaits = 50;

const samePosition = (a: Delivered, b: Delivered | undefined): boolean =>
  b !== undefined &&
  partitionKey(a.partition) === partitionKey(b.partition) &&
  JSON.stringify(a.offset) === JSON.stringify(b.offset);

/** How many of the last records share one offset: they are never separated, so a batch may have that many in place of one. */
const lastRun = (poll: Poll<unknown>): number => {
  const records = withEnds(poll);
  return records.length - records.findLastIndex((record) => !samePosition(record, records.at(-1))) - 1;
};

/** The open files, sockets and pipes of this process, where the system shows them. */
const openHandles = (): string[] =>
  existsSync('/proc/self/fd')
    ? readdirSync('/proc/self/fd').flatMap((fd) => {
        try {
          return [readlinkSync(`/proc/self/fd/${fd}`)];
        } catch {
          // The descriptor of this very listing is gone by now.
          return [];
        }
      })
    : [];

const identities = (records: readonly Delivered[]) =>
  partitionsOf(records).map((part) => part.map((record) => [textOf(record), record.partition, record.offset]));

export const sourceRules: readonly SourceRule[] = [
  {
    title: 'delivers everything once, in order',
    async run(fixture) {
      const { withTask, readAll } = createRunner(fixture);
      const { records } = await withTask((task) => readAll(task));
      expect(fixture.expected.length).toBeGreaterThanOrEqual(10);
      expectRecords(records, fixture.expected);
    },
  },
  {
    title: 'takes no more than its budget, by at most one offset',
    async run(fixture) {
      const { withTask, readAll } = createRunner(fixture);
      for (const maxRecords of [1, 2, 7]) {
        const { records } = await withTask((task) =>
          readAll(task, new Map(), { maxRecords }, (poll) =>
            expect(poll.batch.count).toBeLessThan(maxRecords + Math.max(lastRun(poll), 1)),
          ),
        );
        expectRecords(records, fixture.expected);
      }
      for (const maxBytes of [1, 200]) {
        const { records } = await withTask((task) =>
          readAll(task, new Map(), { maxBytes }, ({ batch, ...rest }) => {
            const before = batch.count - lastRun({ batch, ...rest });
            if (before > 0) expect(batchBytes(sliceBatch(batch, 0, before))).toBeLessThan(maxBytes);
          }),
        );
        expectRecords(records, fixture.expected);
      }
    },
  },
  {
    title: 'goes on after any record without a gap or a repeat',
    async run(fixture) {
      const { withTask, readAll } = createRunner(fixture);
      const { records, upTo } = await withTask((task) => readAll(task));
      const step = Math.max(1, Math.ceil(records.length / maxCuts));
      for (let cut = 1; cut < records.length; cut += step) {
        if (samePosition(records[cut - 1]!, records[cut])) continue;
        const rest = await withTask((task) => readAll(task, upTo(cut)));
        expectRecords(rest.records, records.slice(cut));
      }
    },
  },
  {
    title: 'goes on in the same task from an earlier place than its last poll',
    async run(fixture) {
      const { withTask, pollOnce, readAll, advance } = createRunner(fixture);
      await withTask(async (task) => {
        const first = recordsOf(await pollOnce(task, new Map(), { maxRecords: 8 }));
        const kept = first.slice(0, 3);
        if (samePosition(kept.at(-1)!, first[3])) return;
        const { records } = await readAll(task, advance(new Map(), kept));
        expectRecords([...kept, ...records], fixture.expected);
      });
    },
  },
  {
    title: 'gives a record the same offset however batches are cut',
    async run(fixture) {
      const { withTask, readAll } = createRunner(fixture);
      const whole = await withTask((task) => readAll(task));
      for (const limits of [{ maxRecords: 1 }, { maxRecords: 3 }, { maxBytes: 100 }]) {
        const cut = await withTask((task) => readAll(task, new Map(), limits));
        expect(identities(cut.records)).toEqual(identities(whole.records));
      }
    },
  },
  {
    title: 'keeps records that share an offset together',
    async run(fixture) {
      const { withTask, readAll } = createRunner(fixture);
      const seen = new Set<string>();
      await withTask((task) =>
        readAll(task, new Map(), { maxRecords: 1 }, (poll) => {
          const places = recordsOf(poll).map(({ partition, offset }) => JSON.stringify([partition, offset]));
          for (const [i, place] of places.entries()) {
            if (place === places[i - 1]) continue;
            expect(seen, 'offsets of records that came before').not.toContain(place);
            seen.add(place);
          }
        }),
      );
    },
  },
  {
    title: 'stands where its last record stands',
    async run(fixture) {
      const { withTask, readAll, advance } = createRunner(fixture);
      await withTask(async (task) => {
        const offsets: OffsetMap = new Map();
        await readAll(task, new Map(), { maxRecords: 4 }, (poll) => {
          const touched = new Set(recordsOf(poll).map(({ partition }) => partitionKey(partition)));
          advance(offsets, poll.offsets);
          for (const key of touched) expect([...offsets.keys()]).toContain(key);
        });
        const again = await readAll(task, offsets);
        expect(again.records).toEqual([]);
      });
    },
  },
  {
    title: 'leaves a batch alone while the next one is polled',
    async run(fixture) {
      const { withTask, pollOnce, advance } = createRunner(fixture);
      await withTask(async (task) => {
        const offsets: OffsetMap = new Map();
        let held: { poll: Poll<unknown>; before: string[] } | undefined;
        for (let caughtUp = false; !caughtUp; ) {
          const poll = await pollOnce(task, offsets, { maxRecords: 3 });
          if (held !== undefined) expect(recordsOf(held.poll).map(textOf)).toEqual(held.before);
          held = { poll, before: recordsOf(poll).map(textOf) };
          advance(offsets, poll.offsets);
          ({ caughtUp } = poll);
        }
      });
    },
  },
  {
    title: 'is empty and caught up when nothing is left, and passes nothing to find out',
    async run(fixture) {
      const { withTask, pollOnce, readAll } = createRunner(fixture);
      const { offsets } = await withTask((task) => readAll(task));
      await withTask(async (task) => {
        for (let i = 0; i < 3; i++) {
          const poll = await pollOnce(task, offsets);
          expect(poll).toMatchObject({ caughtUp: true, batch: { count: 0 } });
          expect(poll.moved ?? 0).toBe(0);
        }
        if (task.more !== undefined)
          expect(
            await task.more({ get: (p) => offsets.get(partitionKey(p))?.offset, all: () => offsets.values() }),
          ).toBe(false);
      });
    },
  },
  {
    title: 'finds what came after it was caught up',
    async run(fixture) {
      if (fixture.more === undefined) return 'n/a';
      const { withTask, readAll } = createRunner(fixture);
      return withTask(async (task) => {
        const { offsets } = await readAll(task);
        const first = await fixture.more!();
        const other = await withTask((fresh) => readAll(fresh, offsets));
        expectRecords(other.records, first);
        expectRecords((await readAll(task, offsets)).records, first);
        if (task.more !== undefined)
          expect(
            await task.more({ get: (p) => offsets.get(partitionKey(p))?.offset, all: () => offsets.values() }),
          ).toBe(true);
      });
    },
  },
  {
    title: 'is woken by what comes while it waits',
    async run(fixture) {
      const { withTask, readAll } = createRunner(fixture);
      return withTask(async (task) => {
        if (fixture.more === undefined || task.wait === undefined) return 'n/a';
        let { offsets } = await readAll(task);
        const end = new AbortController();
        // Long: it has to be woken.
        let waited = task.wait(3_600_000, end.signal);
        const added = await fixture.more();
        const came: Delivered[] = [];
        for (let waits = 0; came.length < added.length && waits < maxWaits; waits++) {
          await waited;
          const reading = await readAll(task, offsets);
          came.push(...reading.records);
          offsets = reading.offsets;
          waited = task.wait(100, end.signal);
        }
        end.abort();
        await waited.catch(() => {});
        return expectRecords(came, added);
      });
    },
  },
  {
    title: 'stops at once when its signal is aborted, and goes on later',
    async run(fixture) {
      const { withTask, pollOnce, readAll, advance } = createRunner(fixture);
      await withTask(async (task) => {
        const poll = await pollOnce(task, new Map(), { signal: AbortSignal.abort() }).catch(() => undefined);
        // What it throws ends the run; nothing of it is kept.
        if (poll === undefined) return;
        expect(poll.batch.count).toBeLessThan(fixture.expected.length);
        expect(poll.caughtUp).toBe(false);
        const rest = await readAll(task, advance(new Map(), poll.offsets));
        expectRecords([...recordsOf(poll), ...rest.records], fixture.expected);
      });
    },
  },
  {
    title: 'replays exactly',
    async run(fixture) {
      if (fixture.source.replay !== 'exact') return 'n/a';
      const { withTask, readAll } = createRunner(fixture);
      const first = await withTask((task) => readAll(task));
      const second = await withTask((task) => readAll(task));
      expect(identities(second.records)).toEqual(identities(first.records));
      if (fixture.more === undefined) return undefined;
      await fixture.more();
      const third = await withTask((task) => readAll(task));
      return expect(identities(third.records).flat()).toEqual(expect.arrayContaining(identities(first.records).flat()));
    },
  },
  {
    title: 'is LOST_POSITION when the upstream is another one',
    async run(fixture) {
      if (fixture.replace === undefined) return 'n/a';
      const { withTask, pollOnce, readAll } = createRunner(fixture);
      const { records, offsets, upTo } = await withTask((task) => readAll(task));
      const half = upTo(Math.ceil(records.length / 2));
      await fixture.replace();
      for (const from of [offsets, half])
        await withTask((task) =>
          expect(pollOnce(task, from)).rejects.toMatchObject({ code: 'LOST_POSITION', blame: 'system' }),
        );
      return undefined;
    },
  },
  {
    title: 'names in its config the topics that its records have',
    async run(fixture) {
      const { withTask, readAll } = createRunner(fixture);
      const { records } = await withTask((task) => readAll(task));
      const topics = fixture.source.topics(fixture.source.config.parse(fixture.config));
      expect([...topics].toSorted()).toEqual([...new Set(records.map(({ topic }) => topic))].toSorted());
    },
  },
  {
    title: 'splits into tasks that together read everything once',
    async run(fixture) {
      const { source, config } = fixture;
      const parsed = source.config.parse(config);
      const configs = source.tasks?.(parsed, 3) ?? [parsed];
      expect(configs.length).toBeLessThanOrEqual(3);
      expect(source.tasks?.(parsed, 3) ?? [parsed]).toEqual(configs);
      const records: Delivered[] = [];
      let offsets: OffsetMap = new Map();
      // All at once; and a task may wait for what the others do: they go round until none finds more.
      for (let before = -1; before < records.length; ) {
        before = records.length;
        const seen = offsets;
        for (const [taskId, one] of configs.entries()) {
          const { withTask, readAll } = createRunner({ ...fixture, config: one }, { taskId, tasks: configs.length });
          const read = await withTask((task) => readAll(task, seen));
          records.push(...read.records);
          const moved = [...read.offsets].filter(([key, position]) => seen.get(key) !== position);
          offsets = new Map([...offsets, ...moved]);
        }
      }
      expectRecords(records, fixture.expected);
    },
  },
  {
    title: 'closes twice as once, and leaves nothing open',
    async run(fixture) {
      const { open, pollOnce } = createRunner(fixture);
      const before = openHandles().toSorted();
      const task = await open();
      await pollOnce(task, new Map(), { maxRecords: 2 });
      await task.close();
      await task.close();
      const left = () => {
        const rest = [...before];
        return openHandles().filter((handle) => {
          const known = rest.indexOf(handle);
          if (known >= 0) rest.splice(known, 1);
          return known < 0;
        });
      };
      await until(() => left().length === 0, { timeoutMs: 5_000 });
    },
  },
];

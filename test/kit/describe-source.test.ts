import { setImmediate as immediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import * as z from 'zod';
import { batchOfGroups, type RecordGroup } from '../../shared/connect/batch.ts';
import { defineSource, type Poll, pollOf, type SourceTask } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { type SourceFixture, sourceRules } from './describe-source.ts';

const bugs = {
  'loses one': 'delivers everything once, in order',
  'takes all': 'takes no more than its budget, by at most one offset',
  'ignores maxBytes': 'takes no more than its budget, by at most one offset',
  'resumes at the record': 'goes on after any record without a gap or a repeat',
  'trusts its own memory': 'goes on in the same task from an earlier place than its last poll',
  'counts in batches': 'gives a record the same offset however batches are cut',
  'one offset for two batches': 'keeps records that share an offset together',
  'forgets where it stands': 'stands where its last record stands',
  'reuses its buffer': 'leaves a batch alone while the next one is polled',
  'never caught up': 'is empty and caught up when nothing is left, and passes nothing to find out',
  'caught up for ever': 'finds what came after it was caught up',
  'is deaf after it waited': 'is woken by what comes while it waits',
  'ignores the signal': 'stops at once when its signal is aborted, and goes on later',
  'another time': 'replays exactly',
  'takes any upstream': 'is LOST_POSITION when the upstream is another one',
  'another topic': 'names in its config the topics that its records have',
  'every task reads all': 'splits into tasks that together read everything once',
  'leaves a file open': 'closes twice as once, and leaves nothing open',
  'closes twice': 'closes twice as once, and leaves nothing open',
} as const;
type Bug = keyof typeof bugs;

const Offset = z.strictObject({ next: z.int(), upstream: z.string(), batch: z.int().optional() });
type Offset = z.output<typeof Offset>;
const Config = z.strictObject({ slice: z.int().default(-1) });

/** A source over two arrays with one planted bug, or none: the suite must name the bug, and nothing else where there is none. */
const memoryFixture = (bug?: Bug): SourceFixture<typeof Config, Offset> => {
  const has = (name: Bug) => bug === name;
  let upstream = 'first';
  let opens = 0;
  const row = (partition: number, n: number) => ({
    topic: 'rows',
    key: null,
    value: `${partition}/${n} of ${upstream}`,
  });
  const partitions = [0, 1].map((p) => Array.from({ length: 9 }, (_, n) => row(p, n)));
  const leaked: number[] = [];

  const open = async (slice: number): Promise<SourceTask<Offset>> => {
    opens++;
    const remembered = new Map<string, number>();
    const shared = Buffer.alloc(4096);
    let isDeaf = false;
    let polls = 0;
    let closed = false;
    const generation = has('another time') ? opens : 0;
    if (has('leaves a file open')) leaked.push((await import('node:fs')).openSync(import.meta.filename, 'r'));
    return {
      async poll(offsets, { maxRecords, maxBytes, signal }): Promise<Poll<Offset>> {
        if (signal.aborted && !has('ignores the signal')) return pollOf([], { caughtUp: false });
        polls++;
        const records = [];
        let bytes = 0;
        let left = 0;
        const room = () =>
          has('takes all') || (records.length < maxRecords && (bytes < maxBytes || has('ignores maxBytes')));
        for (const [p, rows] of partitions.entries()) {
          if (slice >= 0 && slice !== p && !has('every task reads all')) continue;
          const partition = { p };
          const stored = offsets.get(partition);
          if (stored !== undefined && stored.upstream !== upstream && !has('takes any upstream'))
            throw new ConnectError('LOST_POSITION', `${stored.upstream} is gone`);
          let from = has('trusts its own memory') ? (remembered.get(`${p}`) ?? stored?.next ?? 0) : (stored?.next ?? 0);
          if (has('resumes at the record') && maxRecords > 1 && from === 5) from--;
          for (; from < rows.length && room() && !isDeaf; from++) {
            if (has('loses one') && p === 1 && from === 4) continue;
            bytes += JSON.stringify(rows[from]!.value).length;
            const next = has('one offset for two batches') ? from + (from % 2 === 0 ? 2 : 1) : from + 1;
            const offset = {
              next,
              upstream,
              ...(has('counts in batches') ? { batch: polls } : {}),
              ...(generation > 0 ? { batch: generation } : {}),
            };
            records.push({ ...rows[from]!, topic: has('another topic') ? 'other' : 'rows', partition, offset });
          }
          remembered.set(`${p}`, from);
          left += rows.length - from;
        }
        const caughtUp = left === 0 || isDeaf;
        isDeaf ||= caughtUp && has('caught up for ever');
        const poll = pollOf(records, {
          caughtUp: has('never caught up') && records.length === 0 ? polls > 1 : caughtUp,
        });
        if (has('one offset for two batches'))
          return {
            ...poll,
            offsets: poll.offsets.map((o, i) => ({
              ...o,
              offset: { ...o.offset, next: remembered.get(String(o.partition.p)) ?? i },
            })),
          };
        if (has('forgets where it stands')) return { ...poll, offsets: poll.offsets.slice(0, 1) };
        return has('reuses its buffer')
          ? { ...poll, batch: batchOfGroups(poll.batch.groups.map((g) => into(shared, g))) }
          : poll;
      },
      async wait(waitMs, signal) {
        const before = partitions.flat().length;
        const untilMs = performance.now() + waitMs;
        while (partitions.flat().length === before && !signal.aborted && performance.now() < untilMs) await immediate();
        isDeaf ||= has('is deaf after it waited');
      },
      async close() {
        if (closed && has('closes twice')) throw new Error('closed twice');
        closed = true;
      },
    };
  };

  return {
    source: defineSource({
      type: 'memory',
      config: Config,
      offset: Offset,
      replay: 'exact',
      topics: () => ['rows'],
      tasks: () => [{ slice: 0 }, { slice: 1 }],
      open: ({ config }) => open(config.slice),
    }),
    config: {},
    expected: partitions.flat(),
    async more() {
      const added = [row(0, 9), row(0, 10)];
      partitions[0]!.push(...added);
      return added;
    },
    async replace() {
      upstream = 'second';
    },
    async cleanup() {
      for (const fd of leaked) (await import('node:fs')).closeSync(fd);
    },
  };
};

/** The group's text moved into one buffer that every poll uses. */
const into = (shared: Buffer, group: RecordGroup): RecordGroup => {
  const [column] = group.value.columns;
  if (column?.kind !== 'bytes') return group;
  shared.set(column.data.subarray(0, 4096));
  return { ...group, value: { ...group.value, columns: [{ ...column, data: shared }] } };
};

const brokenRules = async (bug?: Bug): Promise<string[]> => {
  const broken: string[] = [];
  for (const rule of sourceRules) {
    const fixture = memoryFixture(bug) as unknown as SourceFixture;
    await rule.run(fixture).catch(() => broken.push(rule.title));
    await fixture.cleanup?.();
  }
  return broken;
};

test('a source without a bug breaks no rule', async () => {
  expect(await brokenRules()).toEqual([]);
});

test.each(Object.entries(bugs))('a source that %s breaks: %s', async (bug, title) => {
  expect(await brokenRules(bug as Bug)).toContain(title);
});

test('every rule is broken by some bug', () => {
  expect(new Set(Object.values(bugs))).toEqual(new Set(sourceRules.map(({ title }) => title)));
});

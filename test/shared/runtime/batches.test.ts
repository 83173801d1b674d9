import { describe, expect, it } from 'vitest';
import { type Poll, pollOf, type SinkTask } from '../../../shared/connect/connector.ts';
import { ConnectError } from '../../../shared/connect/errors.ts';
import { appendingDestination, owningDestination, rowOf } from '../../kit/memory-connectors.ts';
import { createRunKit } from '../../kit/run-kit.ts';

/** Record n is in the n-th of so many partitions in turn; record `sharing` has the offset of the one before it. */
const poll = (count: number, partitions: number, sharing?: number): Poll<unknown> => {
  const records = Array.from({ length: count }, (_, n) => ({
    topic: 'rows',
    value: { n },
    partition: { name: `p${n % partitions}` },
    offset: { next: Math.floor((n === sharing ? n - 1 : n) / partitions) + 1 },
  }));
  return pollOf(records, { caughtUp: true });
};

describe('a batch', () => {
  it('of more partitions than a commit holds is cut, and all of it arrives', async () => {
    const kit = createRunKit();
    const { rows, sink } = appendingDestination();
    const source = {
      poll: async (offsets: { all(): Iterable<unknown> }) =>
        [...offsets.all()].length > 0 ? pollOf([], { caughtUp: true }) : poll(120, 60),
      close: async () => {},
    };
    expect(await kit.run({ openSource: async () => source, openSink: async () => sink() })).toMatchObject({
      outcome: 'drained',
      records: 120,
    });
    expect(rows.map(({ n }) => n)).toEqual(Array.from({ length: 120 }, (_, n) => n));
    const commits = kit.events.filter((event) => event.startsWith('commit')).map((event) => event.split(',').length);
    expect(Math.max(...commits)).toBe(26);
    expect(Object.keys(await kit.committed())).toHaveLength(60);
  });

  it('is cut to what one put can take', async () => {
    const kit = createRunKit();
    const { rows, sink } = appendingDestination();
    const puts: number[][] = [];
    const openSink = async (): Promise<SinkTask> => ({
      ...sink(),
      take: () => 3,
      async put(batch, context) {
        puts.push([...batch].map((record) => rowOf(record).n));
        return sink().put(batch, context);
      },
    });
    const source = { poll: async () => poll(7, 1, 3), more: async () => puts.length === 0, close: async () => {} };
    await kit.run({ openSource: async () => source, openSink, budget: { maxRecords: 100, maxBytes: 1 << 20 } });
    expect(puts, '2 and 3 share an offset').toEqual([
      [0, 1],
      [2, 3, 4],
      [5, 6],
    ]);
    expect(rows).toHaveLength(7);
  });
});

describe('an offset that moves without a record', () => {
  it('is committed no later than the next record', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    const adopted = { partition: { name: 'rotated' }, offset: { next: 7 } };
    const polls = [pollOf([], { caughtUp: false, offsets: [adopted] }), poll(1, 1)];
    const source = { poll: async () => polls.shift()!, more: async () => true, close: async () => {} };
    await kit.run({ openSource: async () => source, openSink: async () => sink() });
    expect(await kit.committed()).toEqual({ p0: [{ next: 1 }, 1], rotated: [{ next: 7 }, 1] });
    const commits = kit.events.filter((event) => event.startsWith('commit'));
    expect(commits[0], 'before the record').toContain('rotated');
  });
});

const mb = 1024 * 1024;

describe('a log that moves without a record (hazard C5)', () => {
  /** A quiet upstream: each poll passes so much of it, until `end`. */
  const quiet = (bytesPerPoll: number, end: number, onPoll = () => {}) => ({
    poll: async (offsets: { get(partition: { name: string }): unknown }): Promise<Poll<unknown>> => {
      onPoll();
      const from = (offsets.get({ name: 'a' }) as { next: number } | undefined)?.next ?? 0;
      const next = Math.min(from + bytesPerPoll, end);
      return pollOf([], {
        caughtUp: next === end,
        offsets: [{ partition: { name: 'a' }, offset: { next } }],
        moved: next - from,
      });
    },
    close: async () => {},
  });

  it('has its offset committed alone, after 64 MB', async () => {
    const kit = createRunKit();
    const { rows, sink } = owningDestination();
    const openSink = async () => sink();
    expect(await kit.run({ openSource: async () => quiet(100 * mb, 100 * mb), openSink })).toMatchObject({
      batches: 1,
      records: 0,
    });
    expect(rows).toEqual([]);
    expect(await kit.committed()).toEqual({ a: [{ next: 100 * mb }, 1] });
    expect(await kit.run({ openSource: async () => quiet(100 * mb, 100 * mb), openSink })).toMatchObject({
      batches: 0,
    });
  });

  it('is passed in many small polls', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    const openSink = async () => sink();
    await kit.run({ openSource: async () => quiet(mb, mb), openSink });
    await kit.run({ openSource: async () => quiet(4 * mb, 200 * mb), openSink });
    expect(kit.writes().filter((event) => event.startsWith('commit'))).toEqual([
      // Nothing was committed before: that is longer ago than ten minutes.
      `commit a ${mb}`,
      `commit a ${65 * mb}`,
      `commit a ${129 * mb}`,
      `commit a ${193 * mb}`,
    ]);
  });

  it('is passed in runs that each get less than 64 MB far', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    await kit.run({ openSource: async () => quiet(mb, mb), openSink: async () => sink() });
    for (let run = 0; run < 3; run++) {
      const stop = new AbortController();
      let polls = 0;
      const source = quiet(4 * mb, 41 * mb, () => ++polls === 4 && stop.abort());
      await kit.run({ openSource: async () => source, openSink: async () => sink(), stop: stop.signal });
    }
    expect(await kit.committed(), 'three polls a run: the fourth saw the stop').toEqual({ a: [{ next: 37 * mb }, 4] });
  });

  it('has its offset committed ten minutes after the last commit, and never while it stands still (H15)', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    let end = mb;
    const commits: number[] = [];
    // A schedule runs it every minute; for half an hour another table's changes pass, then nothing does.
    for (let minute = 0; minute < 90; minute++) {
      if (minute < 30) end += mb;
      kit.events.length = 0;
      await kit.run({ openSource: async () => quiet(end, end), openSink: async () => sink() });
      if (kit.writes().some((event) => event.startsWith('commit'))) commits.push(minute);
      kit.clock.advance(60_000);
    }
    expect(commits).toEqual([0, 10, 20, 30]);
    expect(await kit.committed()).toEqual({ a: [{ next: end }, 4] });
  });

  it('is not far behind when its upstream purges what it has passed: no LOST_POSITION on a quiet table (H15)', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    let end = 0;
    const keptBytes = 30 * mb;
    const purging = () => {
      const source = quiet(end, end);
      const poll: typeof source.poll = async (offsets) => {
        const at = (offsets.get({ name: 'a' }) as { next: number } | undefined)?.next ?? end;
        if (at < end - keptBytes) throw new ConnectError('LOST_POSITION', `${at} was purged`);
        return source.poll(offsets);
      };
      return { ...source, poll };
    };
    for (let minute = 0; minute < 500; minute++) {
      end += 2 * mb;
      const result = await kit.run({ openSource: async () => purging(), openSink: async () => sink() });
      expect(result.error).toBeUndefined();
      kit.clock.advance(60_000);
    }
  });
});

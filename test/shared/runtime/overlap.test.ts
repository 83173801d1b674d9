import { describe, expect, it } from 'vitest';
import { batchOfGroups, type RecordBatch, sliceBatch } from '../../../shared/connect/batch.ts';
import { batchOf } from '../../../shared/connect/build.ts';
import type { Poll, SinkTask, SourceTask } from '../../../shared/connect/connector.ts';
import { ConnectError } from '../../../shared/connect/errors.ts';
import type { Transform } from '../../../shared/connect/transform.ts';
import { commitOffsets } from '../../../shared/state/offsets.ts';
import { openedSince } from '../../kit/left-open.ts';
import { type ArrayOffset, appendingDestination, arraySource, owningDestination } from '../../kit/memory-connectors.ts';
import { createRunKit, identity, numbered, toldSink, toldSource, upstreamOf } from '../../kit/run-kit.ts';

const source = (made: unknown) => ({ openSource: async () => made as SourceTask<unknown> });
const partition = { name: 'a' };

describe('the next poll', () => {
  it('runs while the batch before it is put, never further ahead, and commits stay in order', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    const upstream = upstreamOf({ a: numbered(12) });
    const openSink = async () => toldSink(sink(), kit.events);
    await kit.run({ ...source(toldSource(arraySource(upstream, 'rows'), kit.events)), openSink });
    const order = kit.events.filter((event) => /^(poll$|put|written|commit)/.test(event));
    expect(order).toEqual([
      'poll',
      ...['poll', 'put 5', 'written 5', 'commit a 5'],
      ...['poll', 'put 5', 'written 5', 'commit a 10'],
      ...['put 2', 'written 2', 'commit a 12'],
    ]);
  });

  it('is under way while the put goes on: a put may wait for it', async () => {
    const kit = createRunKit();
    const inner = arraySource(upstreamOf({ a: numbered(10) }), 'rows');
    const secondPoll = Promise.withResolvers<void>();
    let polls = 0;
    const poll: typeof inner.poll = (...args) => {
      if (++polls === 2) secondPoll.resolve();
      return inner.poll(...args);
    };
    const { rows, sink } = appendingDestination();
    const openSink = async (): Promise<SinkTask> => ({
      ...sink(),
      async put(...args) {
        await secondPoll.promise;
        return sink().put(...args);
      },
    });
    expect(await kit.run({ ...source({ ...inner, poll }), openSink })).toMatchObject({ outcome: 'drained' });
    expect(rows).toHaveLength(10);
  });

  it('may use the buffers of a batch again as soon as that batch is put (ownership)', async () => {
    const kit = createRunKit();
    const rows = numbered(40);
    const { rows: written, sink } = appendingDestination();
    const slow = (): SinkTask => ({
      ...sink(),
      async put(batch, context) {
        await new Promise(setImmediate);
        return sink().put(batch, context);
      },
    });
    expect(await kit.run({ ...source(reusingSource(rows)), openSink: async () => slow() })).toMatchObject({
      outcome: 'drained',
      records: 40,
    });
    expect(written).toEqual(rows);
  });
});

describe('a sink that works ahead', () => {
  /** Tells what it is told of, and waits with each put until the next batch was there, where one comes. */
  const told = (events: string[], take?: SinkTask['take']) => {
    const { rows, sink } = appendingDestination();
    let announced = Promise.withResolvers<void>();
    const batches: RecordBatch[] = [];
    const openSink = async (): Promise<SinkTask> => ({
      ...toldSink(sink(), events),
      ...(take === undefined ? {} : { take }),
      ahead(batch) {
        events.push(`ahead ${batch.count}`);
        batches.push(batch);
        announced.resolve();
      },
      async put(batch, context) {
        events.push(`put ${batch.count}${batches.includes(batch) ? ' as told' : ''}`);
        if (take === undefined && batch.count === 5) await announced.promise;
        announced = Promise.withResolvers();
        return sink().put(batch, context);
      },
    });
    return { rows, openSink };
  };
  const of = (events: readonly string[]) => events.filter((event) => /^(ahead|put)/.test(event));

  it('is told of the next batch while it puts this one, and gets the same one then', async () => {
    const kit = createRunKit();
    const upstream = upstreamOf({ a: numbered(12) });
    const { rows, openSink } = told(kit.events);
    await kit.run({ ...source(arraySource(upstream, 'rows')), openSink });
    expect(of(kit.events)).toEqual(['ahead 5', 'put 5', 'ahead 2', 'put 5 as told', 'put 2 as told']);
    expect(rows).toEqual(upstream.get('a'));
  });

  it('gets it transformed, once', async () => {
    const kit = createRunKit();
    let applied = 0;
    const half: Transform = {
      name: 'half',
      stage: 'TRANSFORMATION',
      apply(batch) {
        applied++;
        return { batch: sliceBatch(batch, 0, 2), origin: Uint32Array.of(0, 1) };
      },
    };
    const { openSink } = told(kit.events, (batch) => batch.count);
    await kit.run({ ...source(arraySource(upstreamOf({ a: numbered(12) }), 'rows')), openSink, transforms: [half] });
    expect(of(kit.events)).toEqual(['ahead 2', 'put 2', 'ahead 2', 'put 2 as told', 'put 2 as told']);
    expect(applied).toBe(3);
  });

  it('is not told of one that this run has no time for', async () => {
    const kit = createRunKit();
    const stop = new AbortController();
    const inner = arraySource(upstreamOf({ a: numbered(12) }), 'rows');
    let polls = 0;
    const poll: typeof inner.poll = async (...args) => {
      if (++polls === 2) stop.abort();
      return inner.poll(...args);
    };
    const { openSink } = told(kit.events, (batch) => batch.count);
    expect(await kit.run({ ...source({ ...inner, poll }), openSink, stop: stop.signal })).toMatchObject({
      outcome: 'more',
      records: 5,
    });
    expect(of(kit.events)).toEqual(['put 5']);
  });

  it('is not told of a batch that comes in pieces, nor of one that its transforms refuse', async () => {
    const kit = createRunKit();
    const ends = source(arraySource(upstreamOf({ a: numbered(12) }), 'rows'));
    await kit.run({ ...ends, openSink: told(kit.events, () => 3).openSink });
    expect(of(kit.events)).not.toContain('ahead 5');
    const errors = { tolerance: 'all', retryTimeoutMs: 0, retryDelayMaxMs: 0 } as const;
    const refuse: Transform = {
      name: 'refuse',
      stage: 'TRANSFORMATION',
      apply() {
        throw new ConnectError('RECORD_REJECTED', 'no', { blame: 'row' });
      },
    };
    const { openSink } = told(kit.events, (batch) => batch.count);
    const again = source(arraySource(upstreamOf({ a: numbered(12) }), 'rows'));
    expect(
      await kit.run({ ...again, identity: { ...identity, connector: 'd' }, openSink, errors, transforms: [refuse] }),
    ).toMatchObject({ outcome: 'drained', rejected: 12 });
    expect(of(kit.events).filter((event) => event.startsWith('ahead'))).toEqual(['ahead 2']);
  });
});

describe('the memory of a batch', () => {
  /** Tells when each poll is released. */
  const released = (events: string[]): SourceTask<ArrayOffset> => {
    const inner = arraySource(upstreamOf({ a: numbered(12) }), 'rows');
    let polls = 0;
    return {
      ...inner,
      async poll(...args) {
        const n = ++polls;
        return { ...(await inner.poll(...args)), release: () => void events.push(`freed ${n}`) };
      },
    };
  };

  it('is released once all of the batch is put and committed', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    const openSink = async () => ({ ...toldSink(sink(), kit.events), take: () => 3 });
    await kit.run({ ...source(released(kit.events)), openSink });
    expect(kit.events.filter((event) => /^(freed|commit)/.test(event))).toEqual([
      ...['commit a 3', 'commit a 5', 'freed 1'],
      ...['commit a 8', 'commit a 10', 'freed 2'],
      ...['commit a 12', 'freed 3'],
    ]);
  });

  it('is not, where the put failed: something of it may still be under way', async () => {
    const kit = createRunKit();
    const openSink = async (): Promise<SinkTask> => ({
      put: async () => {
        throw new ConnectError('UNAVAILABLE', 'gone', { retriable: false });
      },
      close: async () => {},
    });
    expect(await kit.run({ ...source(released(kit.events)), openSink })).toMatchObject({ outcome: 'failed' });
    expect(kit.events.filter((event) => event.startsWith('freed'))).not.toContain('freed 1');
  });
});

describe('a commit that fails', () => {
  it('ends the run: source and sink are closed, and what was polled ahead is not kept (invariant 6)', async () => {
    const kit = createRunKit();
    const { rows, sink } = owningDestination();
    const upstream = upstreamOf({ a: numbered(20) });
    let puts = 0;
    const openSink = async (): Promise<SinkTask> => ({
      ...toldSink(sink(), kit.events),
      async put(batch, context) {
        if (++puts === 2) throw new ConnectError('FENCED', 'moved by another');
        return sink().put(batch, context);
      },
    });
    const told = toldSource(arraySource(upstream, 'rows'), kit.events);
    expect(await kit.run({ ...source(told), openSink })).toMatchObject({
      outcome: 'superseded',
      batches: 1,
      records: 5,
    });
    expect(rows).toHaveLength(5);
    expect(kit.events.slice(-3)).toEqual(['cache a 5', 'release RUNNING', 'close source']);
    expect(kit.events.filter((event) => event === 'close sink')).toHaveLength(1);
    expect(puts, 'the third batch was polled, and dropped').toBe(2);
    expect(await kit.run({ ...source(told), openSink: async () => sink() })).toMatchObject({ outcome: 'drained' });
    expect(rows).toEqual(upstream.get('a'));
  });

  it('is told from a fence by its writeId where only its answer was lost (invariant 1)', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    const losing = loseOneCommit(kit);
    const errors = { tolerance: 'none', retryTimeoutMs: 60_000, retryDelayMaxMs: 1_000 } as const;
    const result = await kit.run({ table: losing, openSink: async () => sink(), errors });
    expect(result).toMatchObject({ outcome: 'drained', records: 3 });
    expect(await kit.committed()).toEqual({ a: [{ next: 3 }, 1] });
  });

  it('is fenced whole when another run moved one of its offsets meanwhile (invariant 1)', async () => {
    const kit = createRunKit();
    const { sink } = appendingDestination();
    const openSink = async (): Promise<SinkTask> => ({
      ...sink(),
      async put(batch, context) {
        const [first] = context.offsets;
        await commitOffsets(kit.base, identity, [{ ...first!, offset: { next: 99 }, writeId: 'another' }]);
        return sink().put(batch, context);
      },
    });
    const ends = source(arraySource(upstreamOf({ a: numbered(2), b: numbered(2) }), 'rows'));
    expect(await kit.run({ ...ends, openSink })).toMatchObject({ outcome: 'superseded', batches: 0 });
    expect(await kit.committed()).toEqual({ a: [{ next: 99 }, 1] });
  });
});

describe('a run that ended', () => {
  it('leaves nothing behind: the poll in flight is waited for, no timer and no promise goes on', async () => {
    const kit = createRunKit();
    const inner = arraySource(upstreamOf({ a: numbered(20) }), 'rows');
    let polling = 0;
    const poll: typeof inner.poll = async (...args) => {
      polling++;
      await new Promise(setImmediate);
      await new Promise(setImmediate);
      polling--;
      return inner.poll(...args);
    };
    const closed: number[] = [];
    const close = async () => void closed.push(polling);
    const openSink = async (): Promise<SinkTask> => ({
      put: () => Promise.reject(new ConnectError('UNAVAILABLE', 'down', { retriable: true })),
      close: async () => {},
    });
    const before = process.getActiveResourcesInfo();
    expect(await kit.run({ ...source({ ...inner, poll, close }), openSink })).toMatchObject({ outcome: 'failed' });
    expect(closed, 'no poll was in flight when the source was closed').toEqual([0]);
    expect(openedSince(before)).toEqual([]);
  });
});

/** A source with two buffers that it fills in turns, and overwrites with rubbish in between: one per batch in flight. */
const reusingSource = (rows: ReturnType<typeof numbered>): SourceTask<ArrayOffset> => {
  const buffers = [new Uint8Array(4_096), new Uint8Array(4_096)];
  let turn = 0;
  return {
    async poll(offsets, { maxRecords }): Promise<Poll<ArrayOffset>> {
      const from = offsets.get(partition)?.next ?? 0;
      const taken = rows.slice(from, from + maxRecords);
      const made = batchOf(taken.map(({ key, n }) => ({ topic: 'rows', key, value: { key, n } })));
      const buffer = buffers[turn++ % 2]!.fill(0x23);
      return {
        batch: inBuffer(made, buffer),
        position: (index) => ({ partition, offset: { next: from + index + 1 } }),
        offsets: [{ partition, offset: { next: from + taken.length } }],
        caughtUp: from + taken.length === rows.length,
      };
    },
    close: async () => {},
  };
};

/** The same batch, its bytes columns in `buffer`. */
const inBuffer = (batch: RecordBatch, buffer: Uint8Array): RecordBatch => {
  let at = 0;
  const moved = batch.groups.map((group) => ({
    ...group,
    value: {
      ...group.value,
      columns: group.value.columns.map((column) => {
        if (column.kind !== 'bytes') return column;
        const { starts, ends, data } = column;
        const end = ends.at(-1) ?? 0;
        buffer.set(data.subarray(0, end), at);
        const shifted = { starts: starts.map((start) => start + at), ends: ends.map((one) => one + at) };
        at += end;
        return { ...column, ...shifted, data: buffer };
      }),
    },
  }));
  return batchOfGroups(moved);
};

/** The first offset commit happens, and its caller is told that the table did not answer. */
const loseOneCommit = ({ table }: ReturnType<typeof createRunKit>): typeof table => {
  let lost = false;
  return {
    ...table,
    async write(writes) {
      const result = await table.write(writes);
      const isCommit = writes.some((write) => 'put' in write && write.put.sk.includes('#OFFSET#'));
      if (!isCommit || lost) return result;
      lost = true;
      throw new ConnectError('UNAVAILABLE', 'no answer', { retriable: true });
    },
  };
};

import { describe, expect, it } from 'vitest';
import { sweep } from '../../../functions/coordinator/sweep.ts';
import { batchOf } from '../../../shared/connect/build.ts';
import { logAppender } from '../../../shared/log/append.ts';
import { memoryObjects } from '../../../shared/log/objects.ts';
import { ensureTopic } from '../../../shared/log/topics.ts';
import { applyConnector } from '../../../shared/management/apply.ts';
import { logPk, segmentSk } from '../../../shared/state/keys.ts';
import { appendingDestination } from '../../kit/memory-connectors.ts';
import { createPlatform, recordedFunctions, specOf } from '../../kit/platform.ts';

const minuteMs = 60_000;

/** A sink that waits for 64 KiB or an hour, over a topic of four queues. */
const bench = async ({ tasks = 1, bytes = 64 * 1024 } = {}) => {
  const objects = memoryObjects();
  const platform = createPlatform({ objects });
  const { table, clock } = platform;
  const { functions, invoked } = recordedFunctions();
  platform.plugins.set('lake', { sink: appendingDestination().sink });
  await ensureTopic(table, 'rows', { queues: 4 });
  const backlog = { bytes, atMostMs: 60 * minuteMs };
  const spec = specOf({
    name: 'lake',
    kind: 'sink',
    from: ['rows'],
    trigger: 'backlog',
    backlog,
    tasks,
    maxRecords: 1_000,
  });
  await applyConnector(table, functions, spec, { nowMs: clock.now() });
  invoked();
  const { append } = logAppender({ table, objects, owner: { connector: 'source', incarnation: 'i' }, now: clock.now });
  let n = 0;
  /** So many bytes of values into the queue of a key. */
  const write = (size: number, key = 'k') =>
    append(batchOf([{ topic: 'rows', key, value: { n: n++, text: 'x'.repeat(size) } }]), []);
  const swept = async () => {
    await sweep(table, functions, clock.now(), () => {});
    return invoked();
  };
  const runAll = async () => {
    for (let task = 0; task < tasks; task++) await platform.invoke('lake', task);
  };
  return { table, clock, write, swept, runAll };
};

describe('a reader that waits for a backlog', () => {
  it('is woken when so much is unread, and not before', async () => {
    const { write, swept, runAll } = await bench();
    await write(1);
    await runAll();
    for (let round = 0; round < 6; round++) {
      await write(10_000);
      expect(await swept(), `after ${round + 1} of 10 kB`).toEqual([]);
    }
    await write(10_000);
    expect(await swept()).toEqual(['lake#0 backlog']);
    await runAll();
    expect(await swept()).toEqual([]);
    await write(10_000);
    expect(await swept(), 'what was read counts no more').toEqual([]);
  });

  it('counts what is unread of a segment that it has read a part of', async () => {
    const { table, write, swept, runAll } = await bench();
    await write(1);
    await runAll();
    await write(70_000);
    expect(await swept()).toEqual(['lake#0 backlog']);
    // As if all but a hundredth of it were done.
    const items = await table.query('connector#lake');
    for (const item of items.filter(({ sk }) => sk.includes('#OFFSET#'))) {
      const { base } = JSON.parse(String(item.offset));
      const { queue } = JSON.parse(String(item.partition));
      const [segment] = await table.query(logPk('rows', 0, queue), {
        from: segmentSk(base),
        to: segmentSk(1e9),
        limit: 1,
      });
      if (segment === undefined) continue;
      await table.write([
        { update: segment, set: { count: 100 } },
        { update: { pk: `log#rows#0#${queue}`, sk: 'HEAD' }, set: { next: base + 100 } },
        { put: { ...item, offset: JSON.stringify({ base, index: 99 }) } },
      ]);
    }
    expect(await swept()).toEqual([]);
  });

  it('is woken so long after its last run at the latest, where anything is unread', async () => {
    const { clock, write, swept, runAll } = await bench();
    await write(1);
    await runAll();
    clock.advance(120 * minuteMs);
    expect(await swept(), 'nothing is unread').toEqual([]);
    await write(1);
    expect(await swept(), 'the last run is long ago').toEqual(['lake#0 backlog']);
    await runAll();
    await write(1);
    clock.advance(60 * minuteMs - 1);
    expect(await swept()).toEqual([]);
    clock.advance(1);
    expect(await swept()).toEqual(['lake#0 backlog']);
  });

  it('is woken where the clock of its last run was two hours ahead', async () => {
    const { clock, write, swept, runAll } = await bench();
    await write(1);
    await runAll();
    await write(1);
    clock.advance(-120 * minuteMs);
    expect(await swept()).toEqual(['lake#0 backlog']);
  });

  it('each task by what is in its own queues', async () => {
    const { write, swept, runAll } = await bench({ tasks: 2 });
    const keys = Array.from({ length: 8 }, (_, k) => `key ${k}`);
    for (const key of keys) await write(1, key);
    await runAll();
    await write(100_000, 'one');
    const [due, ...others] = await swept();
    expect(others).toEqual([]);
    expect(due).toMatch(/^lake#[01] backlog$/);
  });

  it('costs one read per queue that it is behind in, and none where it has read all', async () => {
    const { table, clock, write, runAll } = await bench();
    await write(1);
    await runAll();
    await write(1);
    await write(1);
    const queries: string[] = [];
    const watched: typeof table = {
      ...table,
      query: (pk, query) => {
        queries.push(`${pk} ${query?.limit}`);
        return table.query(pk, query);
      },
    };
    const { functions } = recordedFunctions();
    await sweep(watched, functions, clock.now(), () => {});
    const segments = queries.filter((one) => one.startsWith('log#'));
    expect(segments.every((one) => one.endsWith(' 1'))).toBe(true);
    // One to see how much it is, one to keep it.
    expect(segments.length).toBeLessThanOrEqual(2);
  });
});

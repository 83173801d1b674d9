import { describe, expect, test } from 'vitest';
import type { RecordInput } from '../../shared/connect/build.ts';
import { pollOf, type SinkTask, type SourceTask } from '../../shared/connect/connector.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { changesOf } from '../kit/changes.ts';
import { systems, useDatabases } from '../kit/database.ts';
import { writeTables } from '../kit/database-tasks.ts';
import { faultPlan } from '../kit/faults.ts';
import { historyOf, versionsInOrder } from '../kit/history.ts';
import { structOf } from '../kit/put-records.ts';
import { createWorld, type WorldTask } from '../kit/world.ts';

const { change } = changesOf({ name: 'string' });

/** Lanes of one topic: each with a task of its own, which reads its records in order. */
const laneOf = (lane: string, records: readonly RecordInput[]): SourceTask<unknown> => ({
  async poll(offsets, { maxRecords }) {
    const from = (offsets.get({ lane }) as { next: number } | undefined)?.next ?? 0;
    const taken = records.slice(from, from + maxRecords);
    return pollOf(
      taken.map((record, i) => ({ ...record, partition: { lane }, offset: { next: from + i + 1 } })),
      { caughtUp: from + taken.length === records.length },
    );
  },
  close: async () => {},
});

describe.each(systems)('lanes of one topic into %s', (system) => {
  const server = useDatabases([system]);

  test('rows of two lanes that swap a unique value get past each other, in batches of any size (H11)', async () => {
    await server(system).run('CREATE SCHEMA swap');
    await server(system).run(`CREATE TABLE swap.t (id int PRIMARY KEY, name varchar(20) UNIQUE);
      INSERT INTO swap.t VALUES (1, 'a'), (2, 'b')`);
    const lane = (name: string, records: readonly RecordInput[]): WorldTask => ({
      name,
      source: () => laneOf(name, records),
      sink: () => writeTables(server(system), 'swap'),
    });
    // One lets go of `a`, the other takes it and lets go of `b`, which the first one takes.
    const tasks = [
      lane('one', [change('u', 1, { name: null }), change('u', 1, { name: 'b' })]),
      lane('two', [change('u', 2, { name: 'a' })]),
    ];
    const world = createWorld(memoryTable());
    const outcomes: string[] = [];
    for (const task of [...tasks, tasks[0]!]) {
      outcomes.push((await world.run(task, faultPlan().process())).outcome);
      if (outcomes.at(-1) === 'failed') await world.restart(task);
    }
    expect(outcomes).toEqual(['failed', 'drained', 'drained']);
    expect(await server(system).rows('SELECT id, name FROM swap.t ORDER BY id')).toEqual([
      ['1', 'b'],
      ['2', 'a'],
    ]);
  });

  const versions = [1, 2, 3, 4, 5, 6, 7, 8];
  const counted = changesOf({ n: 'int32' });
  const lanes = [
    ['one', [1, 2]],
    ['two', [3, 4]],
  ] as const;

  test.each(['zombie', 'duplicate', 'crash after', 'lost answer'] as const)(
    'each key goes through its versions in order, whatever put of a lane is met by: %s',
    async (fault) => {
      const schema = `keys_${fault.replace(' ', '_')}`;
      await server(system).run(`CREATE SCHEMA ${schema}`);
      await server(system).run(`CREATE TABLE ${schema}.t (id int PRIMARY KEY, n int)`);
      await server(system).run(historyOf(system, schema));
      const tasks = lanes.map(
        ([name, ids]): WorldTask => ({
          name,
          source: () =>
            laneOf(
              name,
              versions.flatMap((n) => ids.map((id) => counted.change(n === 1 ? 'c' : 'u', id, { n }))),
            ),
          sink: () => writeTables(server(system), schema),
        }),
      );
      // Each lane, while the other one goes on beside it, at another of its puts.
      await Promise.all(
        tasks.map(async (task, i) => {
          const world = createWorld(memoryTable());
          const calm = faultPlan();
          await createWorld(memoryTable()).drain({ ...task, sink: () => nowhere }, calm);
          const puts = [...calm.names.keys()].filter((at) => calm.names[at] === 'put');
          const plan = faultPlan({
            at: puts[1 + i]!,
            fault,
            duplicate: async () => void (await world.run(task, faultPlan().process())),
          });
          await world.drain(task, plan);
          expect(plan.fired()).toBe(true);
        }),
      );
      const last = Array.from(await versionsInOrder(server(system), schema), ([id, seen]) => [Number(id), seen.at(-1)]);
      expect(last.toSorted()).toEqual(lanes.flatMap(([, ids]) => ids.map((id) => [id, 8])));
    },
  );

  test('rows without a key are written by lanes at the same time, each once', async () => {
    await server(system).run('CREATE SCHEMA appended');
    let inside = 0;
    const bothInside = Promise.withResolvers<void>();
    const task = (name: string): WorldTask => ({
      name,
      source: () =>
        laneOf(
          name,
          versions.map((n) => ({
            topic: 't',
            value: { n, name },
            valueSchema: structOf({ n: 'int32', name: 'string' }),
          })),
        ),
      sink() {
        const sink = writeTables(server(system), 'appended', { mode: 'insert' });
        return {
          ...sink,
          async put(batch, context) {
            if (++inside === 2) bothInside.resolve();
            // A lane that waited for the other one would wait for ever.
            await bothInside.promise;
            return sink.put(batch, context);
          },
        };
      },
    });
    await Promise.all(['one', 'two'].map((name) => createWorld(memoryTable()).drain(task(name), faultPlan())));
    const rows = await server(system).rows('SELECT name, n FROM appended.t ORDER BY name, n');
    expect(rows).toEqual(['one', 'two'].flatMap((name) => versions.map((n) => [name, String(n)])));
  });
});

/** A sink that takes everything: to count the operations of a run. */
const nowhere: SinkTask = { put: async () => ({ committed: false }), close: async () => {} };

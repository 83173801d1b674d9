import { expect, test } from 'vitest';
import type { RecordBatch } from '../../shared/connect/batch.ts';
import type { PutContext, SinkTask } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { logSource } from '../../shared/log/read.ts';
import { changeQueues } from '../../shared/log/topics.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { type System, useDatabases } from '../kit/database.ts';
import { captureTables, writeTables } from '../kit/database-tasks.ts';
import { faultPlan } from '../kit/faults.ts';
import { historyOf, versionsInOrder } from '../kit/history.ts';
import { createWorld, makeTopic, toLog, type WorldTask } from '../kit/world.ts';

/*
 * A captured table over the topic log, in four queues, into a table of a database by two tasks at once. What a key went through is kept at the
 * destination by triggers.
 */

const pairs: readonly (readonly [from: System, to: System])[] = [
  ['mariadb', 'postgres'],
  ['postgres', 'mysql'],
  ['mysql', 'mariadb'],
];

const server = useDatabases();

const ids = Array.from({ length: 24 }, (_, i) => i + 1);
let made = 0;

/** A source table, its topic of four queues, and two tasks that write it; `disturb` stands before each put of theirs. */
const pipelineOf = async ([from, to]: readonly [System, System], mode: 'insert' | 'upsert') => {
  const [source, destination] = [server(from), server(to)];
  const schema = `lanes_${made++}`;
  await source.run(`CREATE SCHEMA ${schema}`);
  await source.run(`CREATE TABLE ${schema}.t (id int PRIMARY KEY, n int)`);
  await destination.run(`CREATE SCHEMA copy_${schema}`);
  const world = createWorld(memoryTable());
  const topic = `p.${schema}.t`;
  await makeTopic(world.table, topic, 4);
  const capture = captureTables(source, schema, ['t']);
  const changes: WorldTask = {
    name: 'changes',
    source: () => capture.task(),
    sink: toLog(topic, 'changes', world.clock),
  };
  const lane = (task: number, disturb: (task: WorldTask) => Promise<void> = async () => {}): WorldTask => ({
    name: 'copy',
    taskId: task,
    source: (_, table, objects) => logSource({ table, objects, topics: [topic], task, tasks: 2, now: world.clock.now }),
    sink(): SinkTask {
      const sink = writeTables(destination, `copy_${schema}`, { mode });
      return {
        ...sink,
        async put(batch: RecordBatch, context: PutContext) {
          await disturb(lane(task));
          return sink.put(batch, context);
        },
      };
    },
  });
  let last = Promise.resolve();
  return {
    ...{ world, topic, source, destination, table: `${schema}.t`, copy: `copy_${schema}` },
    lane,
    // One after the other: who waits for the lease of another waits by the clock, which is that of all.
    read: () => (last = last.then(() => world.drain(changes, faultPlan()))),
    write: (task: WorldTask) => world.drain(task, faultPlan()),
  };
};

test.each(pairs)(
  'from %s over four queues into %s: each key goes through its versions in order, whatever lane sleeps past its lease',
  { timeout: 120_000 },
  async (...pair) => {
    const { world, topic, source, destination, table, copy, lane, read, write } = await pipelineOf(pair, 'upsert');
    await destination.run(`CREATE TABLE ${copy}.t (id int PRIMARY KEY, n int)`);
    await destination.run(historyOf(pair[1], copy));
    await source.run(`INSERT INTO ${table} VALUES ${ids.map((id) => `(${id}, 1)`).join()}`);
    const raise = () => source.run(`UPDATE ${table} SET n = n + 1`);
    const slept = new Set<number>();
    const sleepers: number[] = [];
    /** Wakes with 5 in its hands when others have written 6, 7 and 8. */
    const sleeper = async (task: WorldTask) => {
      if (slept.has(task.taskId!)) return;
      slept.add(task.taskId!);
      for (let n = 0; n < 3; n++) await raise();
      await read();
      world.clock.advance(60_001);
      await write(task);
    };
    for (let round = 1; round <= 3; round++) {
      slept.clear();
      await raise();
      await source.run(`DELETE FROM ${table} WHERE id = 1; INSERT INTO ${table} VALUES (1, ${1_000 * round})`);
      await read();
      if (round === 2) await changeQueues(world.table, topic, 3);
      const writer = raise().then(raise).then(read);
      await Promise.all([writer, ...[0, 1].map((task) => write(lane(task, sleeper)))]);
      sleepers.push(slept.size);
    }
    await read();
    // Of a generation that is left, one task may have waited for the other.
    for (const task of [0, 1, 0]) await write(lane(task));

    const expected = await source.rows(`SELECT id, n FROM ${table} ORDER BY id`);
    expect(await destination.rows(`SELECT id, n FROM ${copy}.t ORDER BY id`)).toEqual(expected);
    expect((await versionsInOrder(destination, copy)).size).toBe(ids.length);
    expect(sleepers, 'both in each round').toEqual([2, 2, 2]);
  },
);

test.each(pairs)(
  'rows of %s that are only added are written into %s by both tasks at the same time, each once',
  {
    timeout: 120_000,
  },
  async (...pair) => {
    const { source, destination, table, copy, lane, read, write } = await pipelineOf(pair, 'insert');
    await source.run(`INSERT INTO ${table} VALUES ${ids.map((id) => `(${id}, 1)`).join()}`);
    await read();
    let inside = 0;
    const bothInside = Promise.withResolvers<void>();
    let died = 0;
    await Promise.all(
      [0, 1].map((task) =>
        write(
          lane(task, async () => {
            if (++inside === 2) bothInside.resolve();
            // A task that waited for the other one would wait for ever.
            await bothInside.promise;
            if (++died === 4) throw new ConnectError('UNAVAILABLE', 'it was cut off', { retriable: true });
          }),
        ),
      ),
    );
    const rows = await destination.rows(`SELECT id, n FROM ${copy}.t ORDER BY id`);
    expect(rows).toEqual(await source.rows(`SELECT id, n FROM ${table} ORDER BY id`));
  },
);

import { afterEach, expect, test } from 'vitest';
import type { SinkTask } from '../../shared/connect/connector.ts';
import { memoryObjects } from '../../shared/log/objects.ts';
import { defaultErrorPolicy } from '../../shared/state/connectors.ts';
import { readTask, restartTask } from '../../shared/state/lease.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { type DatabaseServer, type System, startDatabase } from '../kit/database.ts';
import { captureTables, writeTables } from '../kit/database-tasks.ts';
import { faultPlan } from '../kit/faults.ts';
import { createWorld, manualClock, type WorldTask } from '../kit/world.ts';

const started: DatabaseServer[] = [];
const start = async (system: System) => {
  const server = await startDatabase(system);
  started.push(server);
  return server;
};
afterEach(async () => {
  for (const server of started.splice(0)) await server.stop();
});

const insert = (from: number, to: number) =>
  `INSERT INTO shop.t VALUES ${Array.from({ length: to - from }, (_, i) => `(${from + i}, 'row')`).join()}`;

test.each<readonly [System, System]>([
  ['mariadb', 'postgres'],
  ['postgres', 'mariadb'],
  ['postgres', 'mysql'],
])(
  'from %s, a %s that goes down while it is written and comes back gets all rows, and none is a dead letter',
  {
    timeout: 240_000,
  },
  async (from, to) => {
    const [source, destination] = await Promise.all([start(from), start(to)]);
    await source.run(`CREATE SCHEMA shop`);
    await source.run(`CREATE TABLE shop.t (id int PRIMARY KEY, s varchar(20)); ${insert(0, 30)}`);
    await destination.run('CREATE SCHEMA copy');
    const capture = captureTables(source, 'shop', ['t']);
    /** What happens while the next put is under way. */
    let meanwhile: (() => Promise<void>) | undefined;
    const disturbed = (sink: SinkTask): SinkTask => ({
      ...sink,
      async put(batch, context) {
        const happening = meanwhile?.();
        meanwhile = undefined;
        const [result] = await Promise.allSettled([sink.put(batch, context), happening]);
        if (result.status === 'rejected') throw result.reason;
        return result.value;
      },
    });
    const task: WorldTask = {
      name: 'c',
      source: () => capture.task(),
      sink: () => disturbed(writeTables(destination, 'copy')),
    };
    const table = memoryTable();
    const errors = { ...defaultErrorPolicy, tolerance: 'all' as const, retryTimeoutMs: 0 };
    const same = async () =>
      expect(await destination.rows('SELECT id, s FROM copy.t ORDER BY id')).toEqual(
        await source.rows('SELECT id, s FROM shop.t ORDER BY id'),
      );
    const world = createWorld(table, manualClock(), memoryObjects(), errors);
    await world.drain(task, faultPlan());
    await same();

    // Down for longer than is retried: the task fails, and says that it may be tried again. So it is until the server is back.
    await source.run(insert(30, 60));
    meanwhile = () => destination.kill9();
    for (let run = 0; run < 2; run++) {
      const result = await world.run(task, faultPlan().process());
      // The first put may have been answered before the server died.
      expect(result).toMatchObject({ outcome: 'failed', rejected: 0, error: { code: 'UNAVAILABLE', retriable: true } });
      expect(await readTask(table, 'c', 0)).toMatchObject({ state: 'FAILED', retriable: true });
      await restartTask(table, 'c', 0, true);
    }
    await destination.restart();
    await world.drain(task, faultPlan());
    await same();

    // Back within the time of retries: the run goes on by itself.
    await source.run(insert(60, 90));
    meanwhile = () => destination.kill9();
    const clock = { ...manualClock(), delay: () => destination.restart() };
    const patient = createWorld(table, clock, memoryObjects(), { ...errors, retryTimeoutMs: 60_000 });
    expect(await patient.run(task, faultPlan().process())).toMatchObject({ outcome: 'drained', rejected: 0 });
    await same();
  },
);

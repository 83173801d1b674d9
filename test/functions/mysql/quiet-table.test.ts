import { describe, expect, test } from 'vitest';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { type DatabaseServer, startDatabase } from '../../kit/database.ts';
import { captureTables, writeTables } from '../../kit/database-tasks.ts';
import { faultPlan } from '../../kit/faults.ts';
import { until } from '../../kit/until.ts';
import { createWorld, type WorldTask } from '../../kit/world.ts';

/** Everything but the file that is written now is gone. */
const purge = async (server: DatabaseServer) => {
  await server.run('FLUSH BINARY LOGS');
  await until(async () => {
    const [[file]] = (await server.rows('SHOW MASTER STATUS')) as [[string]];
    await server.run(`PURGE BINARY LOGS TO '${file}'`);
    return (await server.rows('SHOW BINARY LOGS')).length === 1;
  });
};

describe.each(['mariadb', 'mysql'] as const)('a table of %s that nobody writes', (flavour) => {
  test('keeps its position, however much of other tables is purged behind it (H15)', async () => {
    // Another server, whose own log is not the one that is purged.
    const [server, destination] = await Promise.all([startDatabase(flavour), startDatabase('postgres')]);
    try {
      await destination.run('CREATE SCHEMA copy');
      await server.run(`CREATE SCHEMA shop; CREATE TABLE shop.quiet (id int PRIMARY KEY);
        CREATE TABLE shop.busy (id int PRIMARY KEY AUTO_INCREMENT, s text); INSERT INTO shop.quiet VALUES (1)`);
      const capture = captureTables(server, 'shop', ['quiet']);
      const task: WorldTask = { name: 'c', source: () => capture.task(), sink: () => writeTables(destination, 'copy') };
      const world = createWorld(memoryTable());
      await world.drain(task, faultPlan());
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 5; i++)
          await server.run("INSERT INTO shop.busy (s) VALUES (repeat('x', 10000)); FLUSH BINARY LOGS");
        expect(await world.run(task, faultPlan().process())).toMatchObject({ outcome: 'drained', records: 0 });
        await purge(server);
      }
      await server.run('INSERT INTO shop.quiet VALUES (2)');
      await world.drain(task, faultPlan());
      expect(await destination.rows('SELECT id FROM copy.quiet ORDER BY id')).toEqual([['1'], ['2']]);
    } finally {
      await Promise.all([server.stop(), destination.stop()]);
    }
  });
});

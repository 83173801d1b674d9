import { afterAll, beforeAll, describe, test } from 'vitest';
import { readTask } from '../../shared/state/lease.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { type Database, type System, startDatabase } from '../kit/database.ts';
import { captureTables, writeTables } from '../kit/database-tasks.ts';
import { faultPlan } from '../kit/faults.ts';
import { createWorld, type WorldTask } from '../kit/world.ts';

const pairs: readonly (readonly [from: System, to: System])[] = [
  ['mariadb', 'postgres'],
  ['mysql', 'mariadb'],
  ['postgres', 'mysql'],
];
const servers = new Map<System, Database>();
beforeAll(async () => {
  for (const system of ['mariadb', 'mysql', 'postgres'] as const) servers.set(system, await startDatabase(system));
}, 120_000);
afterAll(async () => {
  for (const server of servers.values()) await server.stop();
});
let made = 0;
const setUp = async (from: System, to: System, more: object = {}) => {
  const schema = `bad_${made++}`;
  const [source, destination] = [servers.get(from)!, servers.get(to)!];
  await source.run(`CREATE SCHEMA ${schema}`);
  await source.run(from === 'postgres' ? `SET search_path = ${schema}` : `USE ${schema}`);
  await destination.run(`CREATE SCHEMA copy_${schema}`);
  const world = createWorld(memoryTable());
  return {
    schema,
    copy: `copy_${schema}`,
    source,
    destination,
    world,
    task: (tables: string[]): WorldTask => {
      const capture = captureTables(source, schema, tables);
      return {
        name: 'c',
        source: () => capture.task(),
        sink: () => writeTables(destination, `copy_${schema}`, more as never),
      };
    },
  };
};
const attempt = async (label: string, world: ReturnType<typeof createWorld>, task: WorldTask) => {
  for (let i = 0; i < 6; i++) {
    const r = await world.run(task, faultPlan().process());
    const row = await readTask(world.table, 'c', 0);
    console.log(
      label,
      r.outcome,
      r.records,
      r.rejected,
      r.error?.code,
      r.error?.retriable,
      r.error?.blame,
      r.error?.message.slice(0, 330),
      row.state,
    );
    if (r.outcome === 'idle' || (r.outcome === 'drained' && r.batches === 0)) return;
    if (r.outcome === 'failed') {
      await world.restart(task).catch(() => {});
      const { restartTask } = await import('../../shared/state/lease.ts');
      await restartTask(world.table, 'c', 0, true);
      return;
    }
  }
};
describe.each(pairs)('%s %s', (from, to) => {
  test.each(['add', 'ignore', 'fail'])(
    'types %s',
    async (evolve) => {
      const { schema, copy, source, destination, world, task } = await setUp(from, to, { evolve });
      const change = (column: string, type: string) =>
        from === 'postgres'
          ? `ALTER TABLE t ALTER ${column} TYPE ${type} USING ${column}::${type}`
          : `ALTER TABLE t MODIFY ${column} ${type}`;
      for (const [column, type] of [
        ['n', 'varchar(20)'],
        ['s', 'int'],
      ] as const) {
        await source.run(`DROP TABLE IF EXISTS t`);
      }
      await source.run(`CREATE TABLE t (id int PRIMARY KEY, n int, s varchar(20)); INSERT INTO t VALUES (1, 1, '1')`);
      const one = task(['t']);
      await attempt('snap', world, one);
      await source.run(change('s', 'int'));
      await source.run('INSERT INTO t VALUES (2, 2, 2)');
      await attempt(`${from}>${to} ${evolve} text->int`, world, one);
      await source.run(change('n', 'varchar(20)'));
      await source.run("INSERT INTO t VALUES (3, '3', 3)");
      await attempt(`${from}>${to} ${evolve} int->text`, world, one);
      await source.run("INSERT INTO t VALUES (4, 'x', 3)");
      await attempt(`${from}>${to} ${evolve} int->text x`, world, one);
      console.log(JSON.stringify(await destination.rows(`SELECT * FROM ${copy}.t`)));
    },
    60_000,
  );
  test('drop', async () => {
    const { copy, source, destination, world, task } = await setUp(from, to);
    await source.run(
      `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)`,
    );
    const one = task(['t', 'u']);
    await attempt('snap', world, one);
    await source.run('INSERT INTO t VALUES (2, 2); DROP TABLE t; INSERT INTO u VALUES (2)');
    await attempt(`${from} dropped`, world, one);
    await source.run(
      "CREATE TABLE t (id int PRIMARY KEY, s varchar(20)); INSERT INTO t VALUES (3, 'x'); INSERT INTO u VALUES (3)",
    );
    await attempt(`${from} made again`, world, one);
    console.log(
      JSON.stringify(await destination.rows(`SELECT * FROM ${copy}.t`)),
      JSON.stringify(await destination.rows(`SELECT * FROM ${copy}.u`)),
    );
  }, 60_000);
});

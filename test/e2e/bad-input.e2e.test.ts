import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { Struct } from '../../shared/connect/schema.ts';
import { memoryObjects } from '../../shared/log/objects.ts';
import type { RunResult } from '../../shared/runtime/run.ts';
import { defaultErrorPolicy } from '../../shared/state/connectors.ts';
import { restartTask } from '../../shared/state/lease.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { askDestination } from '../../shared/state/offsets.ts';
import { type System, useDatabases } from '../kit/database.ts';
import { captureTables, writeTables } from '../kit/database-tasks.ts';
import { faultPlan } from '../kit/faults.ts';
import { createWorld, manualClock, type WorldTask } from '../kit/world.ts';

/*
 * Somebody changes tables and privileges under a pipeline that runs, directly from a database to a database. What it cannot go on with stops it with a
 * message that says what to do; when that was done it goes on, and nothing is missing.
 */

const pairs: readonly (readonly [from: System, to: System])[] = [
  ['mariadb', 'postgres'],
  ['mysql', 'mariadb'],
  ['postgres', 'mysql'],
];

const server = useDatabases();

let made = 0;

const makePipeline = async (
  [from, to]: readonly [System, System],
  tables: readonly string[],
  { sink = {}, url }: { readonly sink?: Struct; readonly url?: (schema: string) => string } = {},
) => {
  const schema = `bad_${made++}`;
  const [source, destination] = [server(from), server(to)];
  await source.run(`CREATE SCHEMA ${schema}`);
  await source.run(from === 'postgres' ? `SET search_path = ${schema}` : `USE ${schema}`);
  await destination.run(`CREATE SCHEMA copy_${schema}`);
  const letters: string[] = [];
  const errors = { ...defaultErrorPolicy, tolerance: 'all' as const, deadLetterTopic: 'letters' };
  const world = createWorld(memoryTable(), manualClock(), memoryObjects(), errors, async (batch) => {
    for (const { value } of batch) letters.push(inspect(value, { depth: null }));
  });
  const capture = captureTables(url === undefined ? source : { ...source, url }, schema, tables);
  const task: WorldTask = {
    name: 'c',
    source: () => capture.task(),
    sink: () => writeTables(destination, `copy_${schema}`, sink),
  };
  return {
    ...{ schema, source, copy: `copy_${schema}`, letters },
    run: (): Promise<RunResult> => world.run(task, faultPlan().process()),
    /** As an operator does who mended what the message said. */
    restart: () => restartTask(world.table, 'c', 0, true),
    drain: () => world.drain(task, faultPlan()),
    /** `sluice offsets set` to null, of a table. */
    async readAgain(table: string) {
      const target = writeTables(destination, `copy_${schema}`);
      await target.reset!('again', [{ partition: { server: 'p', table: `${schema}.${table}` }, offset: null }]);
      await target.close();
      await askDestination(world.table, { connector: 'c', incarnation: 'i1' }, 'again');
    },
    at: destination,
    copied: (table: string, columns = '*') =>
      destination.rows(`SELECT ${columns} FROM copy_${schema}.${table} ORDER BY id`),
  };
};

describe.each(pairs)('from %s into %s', (...pair) => {
  const [from] = pair;
  const alter = (column: string, type: string) =>
    from === 'postgres' ? `ALTER ${column} TYPE ${type} USING ${column}::${type}` : `MODIFY ${column} ${type}`;

  test('a column that gets another type becomes a text, and the task goes on; evolve: evolve', async () => {
    const { source, drain, copied } = await makePipeline(pair, ['t'], { sink: { evolve: 'evolve' } });
    await source.run('CREATE TABLE t (id int PRIMARY KEY, n int, m smallint); INSERT INTO t VALUES (1, 1, 1)');
    await drain();
    await source.run(`ALTER TABLE t ${alter('n', 'varchar(20)')}`);
    await source.run(`ALTER TABLE t ${alter('m', 'bigint')}`);
    await source.run("INSERT INTO t VALUES (2, 'two', 5000000000); UPDATE t SET n = 'one' WHERE id = 1");
    await drain();
    expect(await copied('t')).toEqual([
      ['1', 'one', '1'],
      ['2', 'two', '5000000000'],
    ]);
  });

  test.each(['add', 'ignore', 'fail', 'widen-only'] as const)(
    'a column that gets another type is written where it fits, else the task stops until its column was altered; evolve: %s',
    async (evolve) => {
      const { source, at, run, restart, drain, copied } = await makePipeline(pair, ['t'], { sink: { evolve } });
      await source.run("CREATE TABLE t (id int PRIMARY KEY, n int, s varchar(20)); INSERT INTO t VALUES (1, 1, '1')");
      await drain();
      await source.run(`ALTER TABLE t ${alter('s', 'int')}`);
      await source.run('INSERT INTO t VALUES (2, 2, 2)');
      await drain();
      await source.run(`ALTER TABLE t ${alter('n', 'varchar(20)')}`);
      await source.run("INSERT INTO t VALUES (3, 'three', 3); UPDATE t SET n = 'two' WHERE id = 2");
      for (let again = 0; again < 2; again++) {
        const stopped = await run();
        expect(stopped).toMatchObject({
          outcome: 'failed',
          rejected: 0,
          error: { code: 'CONFIG_INVALID', retriable: false, blame: 'system' },
        });
        expect(await copied('t')).toHaveLength(2);
        const statement = /(ALTER TABLE [^;]+)$/.exec(stopped.error!.message)![1]!;
        expect(statement).toMatch(/copy_bad_\d+.*\bn\b.*text/);
        if (again === 1) await at.run(statement);
        await restart();
      }
      await drain();
      expect(await copied('t')).toEqual([
        ['1', '1', '1'],
        ['2', 'two', '2'],
        ['3', 'three', '3'],
      ]);
    },
  );

  test('a table that is dropped stops nobody; made again with other columns it is captured again, or the task says that it is not', async () => {
    const { schema, source, run, restart, drain, copied, readAgain } = await makePipeline(pair, ['t', 'u']);
    await source.run(`CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
      CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)`);
    await drain();
    await source.run('INSERT INTO t VALUES (2, 2); DROP TABLE t; INSERT INTO u VALUES (2)');
    await drain();
    expect(await copied('t')).toEqual([
      ['1', '1'],
      ['2', '2'],
    ]);
    expect(await copied('u')).toEqual([['1'], ['2']]);

    await source.run(`INSERT INTO u VALUES (3); CREATE TABLE t (id int PRIMARY KEY, s varchar(20));
      INSERT INTO t VALUES (2, 'new'), (3, 'new'); INSERT INTO u VALUES (4)`);
    if (from === 'postgres') {
      // Which takes a dropped table out of its publication.
      expect(await run()).toMatchObject({
        outcome: 'failed',
        error: {
          code: 'CONFIG_INVALID',
          message: expect.stringMatching(
            /lacks bad_\d+\.t, which was made again .*ALTER PUBLICATION .* ADD TABLE .* offsets set/,
          ),
        },
      });
      await source.run(`ALTER PUBLICATION slot_${schema} ADD TABLE t`);
      await readAgain('t');
      await restart();
    }
    await drain();
    expect(await copied('t', 'id, s')).toEqual([
      ['1', null],
      ['2', 'new'],
      ['3', 'new'],
    ]);
    expect(await copied('u')).toEqual([['1'], ['2'], ['3'], ['4']]);
  });

  test('a row that the destination refuses is a dead letter, read or changed, and all others are there', async () => {
    const { source, at, drain, copied, copy, letters } = await makePipeline(pair, ['t']);
    await at.run(`CREATE TABLE ${copy}.t (id int PRIMARY KEY, n numeric(2))`);
    await source.run(`CREATE TABLE t (id int PRIMARY KEY, n int);
      INSERT INTO t VALUES (1, 1), (2, 2), (3, 300), (4, 4), (5, 5), (6, 6), (7, 700)`);
    await drain();
    await source.run(`BEGIN; UPDATE t SET n = 500 WHERE id = 5; UPDATE t SET n = 30 WHERE id = 3; DELETE FROM t WHERE id = 4;
      INSERT INTO t VALUES (8, 800); INSERT INTO t VALUES (9, 9); COMMIT`);
    await drain();
    expect(await copied('t')).toEqual([1, 2, 3, 5, 6, 9].map((id) => [String(id), id === 3 ? '30' : String(id)]));
    expect(letters.map((text) => /after: {[^}]* n: (\d+)/.exec(text)?.[1]).toSorted()).toEqual([
      '300',
      '500',
      '700',
      '800',
    ]);
  });

  test('a right that is taken away stops the task with its name where it is needed, and given back it goes on', async () => {
    const reader = `reader_${made}`;
    const { schema, source, run, restart, drain, copied } = await makePipeline(pair, ['t'], {
      url: () =>
        server(from)
          .url('information_schema')
          .replace(/\/\/[^@]*@/, `//${reader}:secret@`),
    });
    const account = from === 'postgres' ? reader : `'${reader}'@'%'`;
    await source.run('CREATE TABLE t (id int PRIMARY KEY)');
    await source.run(
      from === 'postgres'
        ? `CREATE ROLE ${reader} LOGIN REPLICATION PASSWORD 'secret'; CREATE PUBLICATION slot_${schema} FOR TABLE t;
           GRANT USAGE ON SCHEMA ${schema} TO ${reader}; GRANT SELECT ON t TO ${reader}`
        : `CREATE USER ${account} IDENTIFIED BY 'secret'; GRANT SELECT ON ${schema}.* TO ${account};
           GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO ${account}`,
    );
    for (const [revoke, grant, told] of rightsOf(from, schema, account)) {
      const next = (await source.rows('SELECT id FROM t')).length + 1;
      await source.run(`INSERT INTO t VALUES (${next}); ${revoke}`);
      expect(await run()).toMatchObject(
        told === undefined
          ? { outcome: 'drained', records: 1 }
          : { outcome: 'failed', rejected: 0, error: { retriable: false, message: expect.stringMatching(told) } },
      );
      await source.run(`${grant}; INSERT INTO t VALUES (${next + 1})`);
      await restart();
      await drain();
      expect(await copied('t')).toEqual(await source.rows('SELECT id FROM t ORDER BY id'));
    }
  });
});

/** What takes a right away, what gives it back, and how it is told; changes go on without some. The first is one of reading rows, before any is read. */
const rightsOf = (
  system: System,
  schema: string,
  account: string,
): readonly (readonly [revoke: string, grant: string, told?: RegExp])[] => {
  const right = (name: string, on: string, told?: RegExp) =>
    [`REVOKE ${name} ON ${on} FROM ${account}`, `GRANT ${name} ON ${on} TO ${account}`, told] as const;
  if (system === 'postgres')
    return [
      right('SELECT', 't', /permission denied for table t.*: GRANT SELECT ON "bad_\d+"\."t" TO "reader_\d+"$/),
      right('SELECT', 't'),
      right('USAGE', `SCHEMA ${schema}`),
      [`ALTER ROLE ${account} NOREPLICATION`, `ALTER ROLE ${account} REPLICATION`, /REPLICATION/],
    ];
  const client = system === 'mariadb' ? 'BINLOG MONITOR' : 'REPLICATION CLIENT';
  return [
    right('SELECT', `${schema}.*`, /GRANT SELECT ON bad_\d+\.t/),
    right('SELECT', `${schema}.*`),
    right('REPLICATION SLAVE', '*.*', /the REPLICATION SLAVE privilege/),
    right(client, '*.*', new RegExp(`${client} privilege`)),
  ];
};

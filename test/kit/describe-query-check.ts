import { describe, expect, test } from 'vitest';
import type { QueryServer } from './query-server.ts';

/** What the check of a source by queries finds. */
export const describeQueryCheck = (name: string, server: QueryServer): void => {
  const { run } = server;
  const check = (config: object) =>
    server.source.check!({
      config: server.source.config.parse({ ...server.address(), topicPrefix: 'x', ...config }),
      ...{
        connector: 'c',
        incarnation: 'i',
        deployment: 'd',
        taskId: 0,
        tasks: 1,
        signal: new AbortController().signal,
      },
    });

  describe(`the check of queries of ${name}`, () => {
    test('finds nothing where nothing is wrong', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE t (id int PRIMARY KEY, at ${server.wallClock} NOT NULL, name varchar(9)); CREATE INDEX i ON t (at);
        CREATE VIEW v AS SELECT * FROM t; CREATE TABLE small (id int, at ${server.wallClock} NOT NULL)`);
      const tables = [`${schema}.t`, `${schema}.v`, `${schema}.small`];
      const incrementing = { mode: 'incrementing', incrementingColumn: 'id', tables: tables.slice(0, 2) };
      for (const config of [
        { mode: 'bulk', tables },
        incrementing,
        { mode: 'bulk', query: `SELECT name FROM ${schema}.t`, topic: 'q' },
      ])
        expect(await check(config)).toEqual([]);
      const timestamp = { mode: 'timestamp', timestampColumns: ['at'], columns: ['id', `${schema}.t.name`] };
      expect(await check({ ...timestamp, tables })).toEqual([]);
      expect(await check({ ...timestamp, columns: undefined, query: `SELECT * FROM ${schema}.t`, topic: 'q' })).toEqual(
        [],
      );
    });

    test('tells every problem at once, each with what mends it', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE big (n int, at ${server.wallClock} NULL, name varchar(9)); INSERT INTO big VALUES (1, NULL, 'x');
        CREATE TABLE small (n int, at ${server.wallClock} NULL, name varchar(9) NOT NULL)`);
      for (let rows = 1; rows <= 20_000; rows *= 2) await run('INSERT INTO big SELECT * FROM big');
      const tables = ['big', 'small', 'missing'].map((table) => `${schema}.${table}`);
      const [big] = tables;
      const of = (problems: readonly string[]) => problems.map((problem) => problem.replaceAll(/["`]/g, ''));
      const missing = expect.stringMatching(/^there is no table .*\.missing, or the account may not read it/);
      expect(of(await check({ mode: 'bulk', tables, excludeColumns: ['nmae', `${schema}.small.name`] }))).toEqual([
        missing,
        'columns, excludeColumns: there is no column nmae',
        expect.stringMatching(/big has no key, and more than 20000 rows.*: ALTER TABLE .*big ADD PRIMARY KEY/),
      ]);
      expect(of(await check({ mode: 'timestamp', timestampColumns: ['at'], tables }))).toEqual([
        missing,
        expect.stringMatching(/^at of .*big may be null, and rows without are never read: make it NOT NULL/),
        `at of ${big} has no index, so each look reads all of it: CREATE INDEX at_index ON ${big} (at)`,
        expect.stringMatching(/^at of .*small may be null/),
      ]);
      const lenient = { mode: 'timestamp', timestampColumns: ['at'], validateNonNull: false, tables: [tables[1]] };
      expect(await check(lenient)).toEqual([]);
      expect(of(await check({ mode: 'incrementing', incrementingColumn: 'name', tables: tables.slice(0, 2) }))).toEqual(
        [
          expect.stringMatching(/^name of .*big may be null, .*: make it NOT NULL, or set validateNonNull/),
          expect.stringMatching(/^name of .*big is no integer/),
          expect.stringMatching(/^name of .*big is not unique, .*: CREATE UNIQUE INDEX name_unique ON .*big \(name\)$/),
          expect.stringMatching(/^name of .*small is no integer/),
          expect.stringMatching(/^name of .*small is not unique/),
        ],
      );
      expect(
        of(await check({ mode: 'timestamp', timestampColumns: ['n', 'x'], keyFields: ['y'], tables: [big] })),
      ).toEqual([
        expect.stringMatching(/^timestampColumns: n of .* is no timestamp, datetime or date$/),
        expect.stringMatching(/^timestampColumns: .* has no column x, its columns are n, at, name$/),
        expect.stringMatching(/^keyFields: .* has no column y/),
      ]);
      expect(await check({ mode: 'bulk', tables: [big], where: 'nothing = 1' })).toEqual([
        expect.stringMatching(/big can't be read: .*nothing/),
      ]);
      expect(await check({ mode: 'bulk', query: 'SELECT FROM WHERE', topic: 'q' })).toEqual([
        expect.stringMatching(/syntax/i),
      ]);
    });

    test('an account that may not read is told what to grant', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY, name varchar(9)); CREATE TABLE hidden (id int PRIMARY KEY)');
      const { config, grants, end } = await server.reader(schema);
      try {
        const problems = await check({ ...config, mode: 'bulk', tables: [`${schema}.t`, `${schema}.hidden`] });
        expect(problems.map((problem) => problem.replaceAll(/["`]/g, ''))).toEqual(grants);
      } finally {
        await end();
      }
    });

    test('a server that does not let in is the one problem', async () => {
      expect(await check({ ...server.refused(), mode: 'bulk', tables: ['a.b'] })).toEqual([
        expect.stringMatching(/^cannot connect to/),
      ]);
    });
  });
};

import { describe, expect, test } from 'vitest';
import type { Struct } from '../../shared/connect/schema.ts';
import { type QueryServer, readerOf } from './query-server.ts';

/** Which tables, rows and columns are read. */
export const describeQueryTables = (name: string, server: QueryServer): void => {
  const { run } = server;
  const readAll = async (config: object) => {
    const { withTask, readAll } = readerOf(server, { mode: 'bulk', ...config });
    return (await withTask((task) => readAll(task))).records;
  };

  describe(`what queries of ${name} read`, () => {
    test('tables by pattern, but for some; views too', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE orders_1 (id int PRIMARY KEY); CREATE TABLE orders_2 (id int PRIMARY KEY); CREATE TABLE orders_old (id int);
        CREATE TABLE others (id int); CREATE VIEW orders_view AS SELECT 9 AS id;
        INSERT INTO orders_1 VALUES (1); INSERT INTO orders_2 VALUES (2); INSERT INTO orders_old VALUES (3); INSERT INTO others VALUES (4)`);
      const config = { tables: [`${schema}.orders_*`], excludeTables: [`${schema}.*_old`], topic: 'orders' };
      expect(
        (await readAll(config)).map(({ topic, partition, key, value }) => [topic, partition.table, key, value]),
      ).toEqual([
        ['orders', `${schema}.orders_1`, { id: 1 }, { id: 1 }],
        ['orders', `${schema}.orders_2`, { id: 2 }, { id: 2 }],
        ['orders', `${schema}.orders_view`, null, expect.objectContaining({})],
      ]);
    });

    test('columns and excludeColumns, of a table or of all; the key stays', async () => {
      const schema = await server.schema();
      await run(`CREATE TABLE a (id int PRIMARY KEY, x int, y int); CREATE TABLE b (id int PRIMARY KEY, x int, y int);
        INSERT INTO a VALUES (1, 2, 3); INSERT INTO b VALUES (4, 5, 6)`);
      const tables = [`${schema}.a`, `${schema}.b`];
      const read = async (config: object) => (await readAll({ tables, ...config })).map(({ value }) => value);
      expect(await read({ columns: ['x'] })).toEqual([
        { id: 1, x: 2 },
        { id: 4, x: 5 },
      ]);
      expect(await read({ excludeColumns: ['id', `${schema}.a.x`] })).toEqual([
        { id: 1, y: 3 },
        { id: 4, x: 5, y: 6 },
      ]);
      expect(await read({ columns: ['x', 'y'], excludeColumns: ['y'] })).toEqual([
        { id: 1, x: 2 },
        { id: 4, x: 5 },
      ]);
    });

    test('where, with a comment and all; names that need quotes', async () => {
      const schema = await server.schema();
      const q = (text: string) => server.quote(text);
      await run(`CREATE TABLE ${q('T.able ?')} (${q('Key?')} int PRIMARY KEY, ${q('order')} int);
        INSERT INTO ${q('T.able ?')} VALUES (1, 1), (2, 1), (3, 2)`);
      const config = { tables: [`${schema}.T.able ?`], where: `${q('order')} = 1 OR ${q('order')} = 7 -- what?` };
      const { withTask, readAll: read } = readerOf(server, { mode: 'bulk', ...config });
      const { records } = await withTask((task) => read(task, new Map(), { maxRecords: 1 }));
      expect(records.map(({ topic, value }) => [topic, value])).toEqual([
        [`shop.${schema}.T.able__`, { 'Key?': 1, order: 1 }],
        [`shop.${schema}.T.able__`, { 'Key?': 2, order: 1 }],
      ]);
    });

    test('a query, by the key that keyFields names', async () => {
      const schema = await server.schema();
      await run(
        "CREATE TABLE t (id int PRIMARY KEY, name varchar(9)); INSERT INTO t VALUES (1, 'a'), (2, 'b?'), (3, 'a')",
      );
      const query = `SELECT name, COUNT(*) AS n FROM ${schema}.t WHERE name <> '?;' GROUP BY name -- grouped\n;`;
      const records = await readAll({ query, topic: 'counts', keyFields: ['name'] });
      expect(records.map(({ topic, key, value, partition }) => [topic, key, value, partition])).toEqual([
        ['counts', { name: 'a' }, { name: 'a', n: 2n }, { server: 'shop', query: 'counts' }],
        ['counts', { name: 'b?' }, { name: 'b?', n: 1n }, { server: 'shop', query: 'counts' }],
      ]);
    });

    test('a table that is not there, and a column that is not, are told', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)');
      const tables = [`${schema}.t`];
      for (const [config, code, message] of [
        [{ tables: [`${schema}.x`, ...tables] }, 'NOT_FOUND', /there is no table .*\.x, or/],
        [{ tables, keyFields: ['m'] }, 'CONFIG_INVALID', /keyFields: .*\.t has no column m, its columns are id, n/],
        [{ tables, mode: 'timestamp', timestampColumns: ['n'] }, 'CONFIG_INVALID', /n of .*\.t is no timestamp/],
        // The server calls it an error of data.
        [{ tables, where: 'id + 9223372036854775807 > 0' }, 'CONFIG_INVALID', /out of range/],
        [{ tables, where: '1 +' }, 'CONFIG_INVALID', /syntax/i],
        [{ query: `SELECT nothing FROM ${schema}.nowhere`, topic: 'q' }, 'CONFIG_INVALID', /nowhere/],
      ] as const)
        await expect(readAll(config)).rejects.toMatchObject({
          code,
          blame: 'system',
          message: expect.stringMatching(message),
        });
    });

    test('tables are shared out among tasks; a pattern and a query are one task; in bulk all tasks read all tables', () => {
      const byNumber = { mode: 'incrementing', incrementingColumn: 'id' };
      const parse = (config: object) =>
        server.source.config.parse({ ...server.address(), topicPrefix: 'x', ...config }) as never;
      const tasksOf = (config: object, max: number) =>
        server.source.tasks!(parse(config), max).map((task) => (task as { tables?: string[] }).tables);
      expect(tasksOf({ ...byNumber, tables: ['s.a', 's.b', 's.c'] }, 2)).toEqual([['s.a', 's.c'], ['s.b']]);
      expect(tasksOf({ ...byNumber, tables: ['s.a', 's.b'] }, 5)).toEqual([['s.a'], ['s.b']]);
      expect(tasksOf({ ...byNumber, tables: ['s.*', 's.b'], topic: 't' }, 5)).toEqual([['s.*', 's.b']]);
      expect(tasksOf({ ...byNumber, query: 'SELECT 1', topic: 't' }, 5)).toEqual([undefined]);
      expect(tasksOf({ mode: 'bulk', tables: ['s.a'] }, 2)).toEqual([['s.a'], ['s.a']]);
      expect(tasksOf({ mode: 'bulk', tables: ['s.*'], topic: 't' }, 2)).toEqual([['s.*'], ['s.*']]);
      expect(tasksOf({ mode: 'bulk', query: 'SELECT 1', topic: 't' }, 5)).toEqual([undefined]);
    });

    test.each([
      [{ mode: 'bulk' }, 'give either `tables` or `query`'],
      [{ mode: 'bulk', tables: ['a.b'], query: 'x', topic: 't' }, 'give either `tables` or `query`'],
      [{ mode: 'bulk', query: 'x' }, 'say which topic'],
      [{ mode: 'bulk', tables: ['a.*'] }, 'or list the tables'],
      [{ mode: 'bulk', tables: ['a'] }, 'a table is'],
      [{ mode: 'bulk', tables: ['a.b'], incrementingColumn: 'id' }, 'belongs to the modes incrementing'],
      [{ mode: 'incrementing', tables: ['a.b'] }, 'belongs to the modes incrementing'],
      [{ mode: 'timestamp', tables: ['a.b'] }, 'belong to the modes timestamp'],
      [{ mode: 'bulk', tables: ['a.b'], timestampColumns: ['at'] }, 'belong to the modes timestamp'],
      [{ mode: 'bulk', tables: ['a.b'], timestampInitialMs: 1 }, 'belongs to the modes timestamp'],
      [{ mode: 'bulk', tables: ['a.b'], dbTimezone: "'; DROP" }, 'a time zone is'],
    ])('the config %o is refused', (config, message) => {
      const { error } = server.source.config.safeParse({ ...server.address(), topicPrefix: 'x', ...config });
      expect(error?.issues.map((issue) => issue.message).join()).toContain(message);
    });

    test('a row that can not be read is rejected by itself, at its place', async () => {
      const schema = await server.schema();
      const [type, bad, problem] = server.badValue;
      await run(
        `CREATE TABLE t (id int PRIMARY KEY, v ${type}); INSERT INTO t VALUES (1, NULL), (2, ${bad}), (3, NULL), (4, ${bad})`,
      );
      const { withTask, pollOnce } = readerOf(server, { tables: [`${schema}.t`], mode: 'bulk' });
      const { batch, rejected, offsets } = await withTask((task) => pollOnce(task, new Map(), { maxRecords: 3 }));
      expect([...batch].map(({ value }) => (value as Struct).id)).toEqual([1, 3]);
      expect(rejected).toMatchObject([
        {
          index: 1,
          error: { code: 'RECORD_REJECTED', message: expect.stringMatching(problem) },
          offset: { after: ['2'] },
        },
      ]);
      expect(JSON.parse(Buffer.from(rejected![0]!.raw!).toString())).toEqual([
        ['id', '2'],
        ['v', expect.any(String)],
      ]);
      expect(offsets).toMatchObject([{ offset: { after: ['3'] } }]);
    });
  });
};

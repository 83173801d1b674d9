import { describe, expect, test } from 'vitest';
import type { Struct, StructSchema } from '../../../shared/connect/schema.ts';
import { readerOf } from '../../kit/query-server.ts';
import { useQueryServer } from './query-server.ts';
import { plain, values } from './type-values.ts';

describe.each(['mariadb', 'mysql'] as const)('types of queries of %s', (flavour) => {
  const server = useQueryServer(flavour);
  const pollOnce = async (config: object) => {
    const { withTask, pollOnce } = readerOf(server, { mode: 'bulk', keyFields: ['id'], ...config });
    const { batch, rejected } = await withTask((task) => pollOnce(task, new Map()));
    return { records: [...batch], rejected };
  };

  test('a value is the same, whether it is read from the table or from a query, and so is its schema', async () => {
    const schema = await server.schema();
    const kept = values.filter(([, , , only = flavour]) => only === flavour);
    const columns = kept.map(([type], i) => `c${i} ${type}${type.endsWith('NULL') ? '' : ' NULL'}`);
    await server.run(`CREATE TABLE t (id int PRIMARY KEY, ${columns.join(', ')}) CHARSET utf8mb4 ROW_FORMAT=DYNAMIC;
      INSERT INTO t VALUES (1, ${kept.map(([, literal]) => literal).join(', ')}); INSERT INTO t (id) VALUES (2)`);
    const table = await pollOnce({ tables: [`${schema}.t`], topic: 't' });
    const query = await pollOnce({ query: `SELECT * FROM ${schema}.t`, topic: 't' });
    const expected = Object.fromEntries(kept.map(([, , value], i) => [`c${i}`, value]));
    const nulls = Object.fromEntries(kept.map((_, i) => [`c${i}`, null]));
    for (const { records, rejected } of [table, query]) {
      expect(rejected).toBeUndefined();
      expect(records.map(({ value }) => plain(value as Struct))).toEqual([
        plain({ id: 1, ...expected } as Struct),
        { id: 2, ...nulls },
      ]);
    }
    // What a result does not tell: that bytes are a geometry.
    const fieldsOf = ({ records }: typeof table) =>
      (records[0]!.valueSchema as StructSchema).fields.map(({ name, schema }) => [
        name,
        { ...schema, name: undefined },
      ]);
    expect(fieldsOf(query)).toEqual(fieldsOf(table));
    expect(query.records[0]!.keySchema).toEqual(table.records[0]!.keySchema);
  });

  test('what a query makes has the type that the server gives it', async () => {
    await server.schema();
    const { records } = await pollOnce({
      query:
        "SELECT 1 AS id, 1.50 AS n, 'x' AS s, NULL AS z, COUNT(*) AS c, SUM(1.5) AS sum, CAST('2024-02-29 12:00:00.5' AS datetime(3)) AS at",
      topic: 'q',
    });
    expect(records[0]!.value).toMatchObject({
      n: '1.50',
      s: 'x',
      z: null,
      c: 1n,
      sum: '1.5',
      at: '2024-02-29T12:00:00.500',
    });
  });

  test('zero dates are refused, or null', async () => {
    const schema = await server.schema();
    await server.run(
      `SET SESSION sql_mode = ''; CREATE TABLE t (id int PRIMARY KEY, at datetime); INSERT INTO t VALUES (1, '0000-00-00')`,
    );
    const tables = [`${schema}.t`];
    expect((await pollOnce({ tables })).rejected).toHaveLength(1);
    expect((await pollOnce({ tables, zeroDates: 'null' })).records.map(({ value }) => value)).toEqual([
      { id: 1, at: null },
    ]);
    await expect(pollOnce({ tables, mode: 'timestamp', timestampColumns: ['at'] })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/has 0000-00-00 00:00:00 as at, behind which nothing can be read/),
    });
  });

  test('a time zone that the server has no rules of is told', async () => {
    const schema = await server.schema();
    await server.run('CREATE TABLE t (id int PRIMARY KEY, at datetime)');
    const config = {
      tables: [`${schema}.t`],
      mode: 'timestamp',
      timestampColumns: ['at'],
      dbTimezone: 'Europe/Nowhere',
    };
    await expect(pollOnce(config)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/does not know Europe\/Nowhere: load its time zones/),
    });
  });
});

import { expect, test } from 'vitest';
import { describeQueryTables } from '../../kit/describe-query-tables.ts';
import { readerOf } from '../../kit/query-server.ts';
import { useQueryServer } from './query-server.ts';

const server = useQueryServer();
describeQueryTables('postgres', server);

test('a partitioned table is read as one by a pattern, a partition by its own name', async () => {
  const schema = await server.schema();
  await server.run(`CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (10) TO (20);
    INSERT INTO t VALUES (1), (11)`);
  const read = async (table: string) => {
    const { withTask, readAll } = readerOf(server, { tables: [`${schema}.${table}`], topic: 't', mode: 'bulk' });
    const { records } = await withTask((task) => readAll(task));
    return records.map(({ partition, key }) => [partition.table, key]);
  };
  expect(await read('*')).toEqual([
    [`${schema}.t`, { id: 1 }],
    [`${schema}.t`, { id: 11 }],
  ]);
  expect(await read('t_high')).toEqual([[`${schema}.t_high`, { id: 11 }]]);
});

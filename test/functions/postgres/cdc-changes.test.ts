import { expect, test } from 'vitest';
import { changeOf, useCdc } from './cdc-fixture.ts';

const { run, capture } = useCdc();

test('what is inserted, updated and deleted', async () => {
  await run('CREATE TABLE t (id int PRIMARY KEY, name text, n bigint)');
  const { withTask, readAll } = await capture(['t']);
  await run("INSERT INTO t VALUES (1, 'ä', 9007199254740993), (2, NULL, NULL)");
  await run("UPDATE t SET name = 'b' WHERE id = 2");
  await run('DELETE FROM t WHERE id = 1');
  const { records } = await withTask((task) => readAll(task));
  expect(records.map(changeOf)).toEqual([
    { key: { id: 1 }, op: 'c', before: null, after: { id: 1, name: 'ä', n: 9007199254740993n } },
    { key: { id: 2 }, op: 'c', before: null, after: { id: 2, name: null, n: null } },
    { key: { id: 2 }, op: 'u', before: null, after: { id: 2, name: 'b', n: null } },
    { key: { id: 1 }, op: 'd', before: { id: 1 }, after: null },
    { key: { id: 1 }, op: 'tombstone' },
  ]);
});

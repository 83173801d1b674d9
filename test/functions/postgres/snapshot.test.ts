import { expect, test } from 'vitest';
import { changeOf, useCdc } from './cdc-fixture.ts';

const { run, capture } = useCdc();

test('rows that were there come first, and then the changes since', async () => {
  await run(`CREATE TABLE t (id int PRIMARY KEY, name text);
    INSERT INTO t VALUES (1, E'a\\tb\\n\\\\N'), (2, NULL), (3, E'\\\\')`);
  const { withTask, readAll } = await capture(['t'], { snapshotMode: 'initial' });
  await run('INSERT INTO t VALUES (4, $1); UPDATE t SET name = name WHERE id = 1'.replace('$1', "''"));
  const { records, offsets } = await withTask((task) => readAll(task));
  const read = (id: number, name: string | null) => ({ key: { id }, op: 'r', before: null, after: { id, name } });
  expect(records.map(changeOf)).toEqual([read(1, 'a\tb\n\\N'), read(2, null), read(3, '\\'), read(4, '')]);
  await run('INSERT INTO t VALUES (9, NULL)');
  const rest = await withTask((task) => readAll(task, offsets));
  expect(rest.records.map(changeOf)).toEqual([{ key: { id: 9 }, op: 'c', before: null, after: { id: 9, name: null } }]);
});

import { expect, test } from 'vitest';
import { changesOf } from '../../kit/changes.ts';
import { putRecords } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

const { withSink, run, all } = useSink();
const { change, tombstone } = changesOf({ name: 'string' });

test('changes are applied as the rows they leave, in their order', async () => {
  const batch = [
    change('r', 1, { name: 'a' }),
    change('c', 2, { name: 'b' }),
    change('u', 1, { name: 'A' }, { name: 'a' }),
    change('d', 2, null, { name: 'b' }),
    tombstone(2),
    // A changed primary key.
    change('d', 1, null, { name: 'A' }),
    tombstone(1),
    change('c', 3, { name: 'A' }),
  ];
  await withSink({}, (task) => putRecords(task, batch));
  expect(await all('SELECT * FROM t')).toEqual([[3, 'A']]);
});

test('two rows that swap a unique value in one batch', async () => {
  await run("CREATE TABLE t (id integer PRIMARY KEY, name text UNIQUE); INSERT INTO t VALUES (1, 'a'), (2, 'b')");
  const batch = [
    change('u', 1, { name: null }, { name: 'a' }),
    change('u', 2, { name: 'a' }, { name: 'b' }),
    change('u', 1, { name: 'b' }, { name: null }),
  ];
  await withSink({}, (task) => putRecords(task, batch));
  expect(await all('SELECT * FROM t ORDER BY id')).toEqual([
    [1, 'b'],
    [2, 'a'],
  ]);
});

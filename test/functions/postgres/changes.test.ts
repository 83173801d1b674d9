import { expect, test } from 'vitest';
import type { RecordInput } from '../../../shared/connect/build.ts';
import { envelopeSchema, type Op } from '../../../shared/connect/envelope.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { putRecords, structOf } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

const { withSink, run, all } = useSink();

const fields = [
  { name: 'id', schema: { type: 'int32' } },
  { name: 'name', schema: { type: 'string', optional: true } },
] as const;
const valueSchema = envelopeSchema('shop.t', fields, { type: 'struct', fields: [] });

const change = (op: Op, id: number, before: Struct | null, after: Struct | null): RecordInput => ({
  topic: 't',
  key: { id },
  keySchema: structOf({ id: 'int32' }),
  value: { before, after, source: {}, transaction: null, op, ts_ms: 1n },
  valueSchema,
});
const tombstone = (id: number): RecordInput => ({ ...change('d', id, null, null), value: null });

test('changes are applied as the rows they leave, in their order', async () => {
  const batch = [
    change('r', 1, null, { id: 1, name: 'a' }),
    change('c', 2, null, { id: 2, name: 'b' }),
    change('u', 1, { id: 1, name: 'a' }, { id: 1, name: 'A' }),
    change('d', 2, { id: 2, name: 'b' }, null),
    tombstone(2),
    // A changed primary key.
    change('d', 1, { id: 1, name: 'A' }, null),
    tombstone(1),
    change('c', 3, null, { id: 3, name: 'A' }),
  ];
  await withSink({}, (task) => putRecords(task, batch));
  expect(await all('SELECT * FROM t')).toEqual([[3, 'A']]);
});

test('two rows that swap a unique value in one batch', async () => {
  await run("CREATE TABLE t (id integer PRIMARY KEY, name text UNIQUE); INSERT INTO t VALUES (1, 'a'), (2, 'b')");
  const batch = [
    change('u', 1, { id: 1, name: 'a' }, { id: 1, name: null }),
    change('u', 2, { id: 2, name: 'b' }, { id: 2, name: 'a' }),
    change('u', 1, { id: 1, name: null }, { id: 1, name: 'b' }),
  ];
  await withSink({}, (task) => putRecords(task, batch));
  expect(await all('SELECT * FROM t ORDER BY id')).toEqual([
    [1, 'b'],
    [2, 'a'],
  ]);
});

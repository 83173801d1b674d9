import { expect, test } from 'vitest';
import { batchOfGroups, type Column } from '../../../shared/connect/batch.ts';
import { batchOf, type RecordInput } from '../../../shared/connect/build.ts';
import { envelopeSchema, unwrapped } from '../../../shared/connect/envelope.ts';
import { flatColumn } from '../../../shared/connect/to-json-lines.ts';

const fields = [
  { name: 'id', schema: { type: 'int32' } },
  { name: 'note', schema: { type: 'string', optional: true } },
] as const;
const valueSchema = envelopeSchema('shop.orders', fields, {
  type: 'struct',
  fields: [{ name: 'table', schema: { type: 'string' } }],
});
const rest = { source: { table: 'orders' }, transaction: null, ts_ms: 1n };
const changes: readonly RecordInput[] = [
  { topic: 't', key: 1, value: { before: null, after: { id: 1, note: 'a' }, op: 'c', ...rest }, valueSchema },
  { topic: 't', key: 1, value: { before: { id: 1 }, after: { id: 1 }, op: 'u', ...rest }, valueSchema },
  { topic: 't', key: 1, value: { before: { id: 1, note: 'b' }, after: null, op: 'd', ...rest }, valueSchema },
  { topic: 't', key: 1, value: null, valueSchema },
];

/** As a source that reads JSON gives it. */
const asText = (column: Column): Column => flatColumn(column, changes.length);

test('a change is the row after it, a delete and its tombstone are null; what was not told is missing', () => {
  const [group] = batchOf(changes).groups;
  const text = { ...group!, value: { ...group!.value, columns: group!.value.columns.map(asText) } };
  for (const one of [group!, text]) {
    const rows = unwrapped(one);
    expect(rows.value.schema).toEqual({ type: 'struct', name: 'shop.orders.Value', fields });
    expect([...batchOfGroups([rows])].map(({ key, value }) => [key, value])).toEqual([
      [1, { id: 1, note: 'a' }],
      [1, { id: 1 }],
      [1, null],
      [1, null],
    ]);
  }
});

test('what is no change stays as it is', () => {
  const [group] = batchOf([{ topic: 't', value: { after: 1 } }]).groups;
  expect(unwrapped(group!)).toBe(group);
});

import { expect, test } from 'vitest';
import { batchOf } from '../../../shared/connect/build.ts';
import { envelopeSchema } from '../../../shared/connect/envelope.ts';
import type { StructSchema, Value } from '../../../shared/connect/schema.ts';
import unwrap from '../../../shared/transforms/unwrap.ts';

const key: StructSchema = { type: 'struct', fields: [{ name: 'id', schema: { type: 'int32' } }] };
const source: StructSchema = { type: 'struct', fields: [{ name: 'db', schema: { type: 'string' } }] };
const envelope = envelopeSchema(
  't',
  [...key.fields, { name: 's', schema: { type: 'string', optional: true } }],
  source,
);

const change = (id: number, op: string, before: Value, after: Value) => ({
  topic: 't',
  key: { id },
  keySchema: key,
  valueSchema: envelope,
  value: { before, after, source: { db: 'd' }, transaction: null, op, ts_ms: null },
});

test('that a table was emptied is left out', () => {
  const truncate = { ...change(0, 't', null, null), key: null };
  const batch = batchOf([
    change(1, 'c', null, { id: 1, s: 'a' }),
    truncate,
    truncate,
    change(2, 'd', { id: 2, s: 'b' }, null),
  ]);
  const { batch: rows, origin } = unwrap.apply(batch);
  expect([...origin!]).toEqual([0, 3]);
  expect(Array.from(rows, ({ key }) => key)).toEqual([{ id: 1 }, { id: 2 }]);
});

test('changes become rows, deletes records without value, and other records stay', () => {
  const flat = { topic: 'other', value: { after: { id: 1 } } };
  const batch = batchOf([
    change(1, 'c', null, { id: 1, s: 'a' }),
    change(2, 'u', { id: 2, s: 'b' }, { id: 2, s: null }),
    change(3, 'd', { id: 3, s: 'c' }, null),
    { ...change(3, 'd', null, null), value: null },
    flat,
  ]);
  const { batch: rows, origin } = unwrap.apply(batch);
  expect(origin).toBeUndefined();
  expect(Array.from(rows, ({ key, value }) => [key, value])).toEqual([
    [{ id: 1 }, { id: 1, s: 'a' }],
    [{ id: 2 }, { id: 2, s: null }],
    [{ id: 3 }, null],
    [{ id: 3 }, null],
    [null, flat.value],
  ]);
  expect([...rows][0]!.valueSchema).toMatchObject({ name: 't.Value', fields: [{ name: 'id' }, { name: 's' }] });
});

import type { RecordInput } from '../../shared/connect/build.ts';
import { envelopeSchema, type Op } from '../../shared/connect/envelope.ts';
import type { Field, PrimitiveType, Struct } from '../../shared/connect/schema.ts';
import { structOf } from './put-records.ts';

/** Makes changes of rows with a key `id` and these fields, in Debezium's envelope. A field that `after` lacks was not told. */
export const changesOf = (
  fields: { readonly [name: string]: PrimitiveType },
  topic = 't',
  idType: 'int32' | 'string' = 'int32',
) => {
  const optional = Object.entries(fields).map(([name, type]): Field => ({ name, schema: { type, optional: true } }));
  const valueSchema = envelopeSchema(`shop.${topic}`, [{ name: 'id', schema: { type: idType } }, ...optional], {
    type: 'struct',
    fields: [],
  });
  const keySchema = structOf({ id: idType });
  const change = (op: Op, id: number | string, after: Struct | null, before: Struct | null = null): RecordInput => ({
    topic,
    key: { id },
    keySchema,
    value: {
      before: before && { id, ...before },
      after: after && { id, ...after },
      source: {},
      transaction: null,
      op,
      ts_ms: 1n,
    },
    valueSchema,
  });
  return { change, tombstone: (id: number | string): RecordInput => ({ ...change('d', id, null), value: null }) };
};

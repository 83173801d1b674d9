import { type BytesColumn, type Column, NULL, type StructColumn } from '../../shared/connect/batch.ts';
import type { Field, Schema } from '../../shared/connect/schema.ts';

/** The same text for every row. */
export const constant = (name: string, text: string, count: number): BytesColumn => {
  const data = Buffer.from(text);
  const ends = new Uint32Array(count).fill(data.length);
  return { name, schema: { type: 'string' }, kind: 'bytes', data, starts: new Uint32Array(count), ends };
};

/** Null for every row. */
export const nothing = ({ name, schema }: Field, count: number): Column => {
  const state = new Uint8Array(count).fill(NULL);
  if (schema.type === 'struct') return { name, schema, state, kind: 'struct', columns: [] } satisfies StructColumn;
  if (schema.type === 'int64') return { name, schema, state, kind: 'int64', values: new BigInt64Array(count) };
  if (schema.type === 'int32') return { name, schema, state, kind: 'int32', values: new Int32Array(count) };
  const none = new Uint32Array(count);
  return { name, schema: schema as Schema, state, kind: 'bytes', data: new Uint8Array(), starts: none, ends: none };
};

import { type BytesColumn, type Column, NULL } from './batch.ts';
import type { Field, Schema } from './schema.ts';

/** The same text for every row. */
export const constantColumn = (name: string, schema: Schema, text: string, count: number): BytesColumn => {
  const data = Buffer.from(text);
  const ends = new Uint32Array(count).fill(data.length);
  return { name, schema, kind: 'bytes', data, starts: new Uint32Array(count), ends };
};

/** Null for every row. */
export const nullColumn = ({ name, schema }: Field, count: number): Column => {
  const state = new Uint8Array(count).fill(NULL);
  if (schema.type === 'struct') return { name, schema, state, kind: 'struct', columns: [] };
  if (schema.type === 'int64') return { name, schema, state, kind: 'int64', values: new BigInt64Array(count) };
  if (schema.type === 'int32') return { name, schema, state, kind: 'int32', values: new Int32Array(count) };
  return { ...constantColumn(name, schema, '', count), state };
};

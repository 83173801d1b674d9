import type { RecordInput } from './build.ts';
import type { ConnectRecord } from './record.ts';
import type { Schema, Value } from './schema.ts';
import { recordTransform, type Stage, type Transform } from './transform.ts';

/** A value and its schema; without one it is whatever was found, and undeclared. */
export interface SchemaAndValue {
  readonly schema?: Schema;
  readonly value: Value;
}

/** Between the bytes that a broker or a file holds and values. What it throws is a row error. */
export interface Converter {
  readonly type: string;
  /** null: a tombstone. */
  decode(bytes: Uint8Array | null): SchemaAndValue;
  encode(data: SchemaAndValue): Uint8Array | null;
}

/** A converter as a step before the transforms of a source, or after those of a sink: a record that it refuses is rejected alone. */
export const converterTransform = (
  converter: Converter,
  side: 'key' | 'value',
  way: 'decode' | 'encode',
): Transform => {
  const stage: Stage = side === 'key' ? 'KEY_CONVERTER' : 'VALUE_CONVERTER';
  const convert = (record: ConnectRecord): RecordInput => {
    const { key, value, keySchema, valueSchema } = record;
    const data = side === 'key' ? { schema: keySchema, value: key } : { schema: valueSchema, value };
    const made = way === 'decode' ? converter.decode(bytesOf(data.value)) : encoded(converter, data);
    return side === 'key'
      ? { ...record, key: made.value, value, keySchema: made.schema, valueSchema }
      : { ...record, key, value: made.value, keySchema, valueSchema: made.schema };
  };
  return recordTransform(`${converter.type} ${side} converter`, convert, stage);
};

const encoded = (
  converter: Converter,
  { schema, value }: { schema: Schema | undefined; value: Value },
): SchemaAndValue => ({
  schema: { type: 'bytes', optional: true },
  value: converter.encode({ value, ...(schema === undefined ? {} : { schema }) }),
});

const bytesOf = (value: Value): Uint8Array | null => {
  if (value === null || value instanceof Uint8Array) return value;
  if (typeof value === 'string') return Buffer.from(value);
  throw new Error(`expected bytes or text to decode, got ${typeof value}: the record has been decoded already`);
};

import { type BytesColumn, type Column, holdsJson, MISSING, type RecordGroup, type Side, VALUE } from './batch.ts';
import { parseJson } from './json.ts';
import { isStruct, type Schema, type Value } from './schema.ts';

export interface Header {
  readonly key: string;
  readonly value: Value;
}

export interface ConnectRecord {
  readonly topic: string;
  /** null: no key. */
  readonly key: Value;
  /** null: a tombstone, which deletes the key. */
  readonly value: Value;
  readonly keySchema?: Schema;
  readonly valueSchema?: Schema;
  readonly headers: readonly Header[];
  /** Milliseconds since 1970. */
  readonly timestampMs?: number;
}

const noHeaders: readonly Header[] = [];

/** A lazy view of one row: a field is decoded when it is read. */
export const recordAt = (group: RecordGroup, row: number): ConnectRecord => {
  const timestampMs = group.timestampsMs?.[row];
  return {
    topic: group.topic,
    get key() {
      return group.key === undefined ? null : sideValueAt(group.key, row);
    },
    get value() {
      return sideValueAt(group.value, row);
    },
    ...(group.key === undefined ? {} : { keySchema: group.key.schema }),
    valueSchema: group.value.schema,
    headers: group.headers?.[row] ?? noHeaders,
    ...(timestampMs === undefined || Number.isNaN(timestampMs) ? {} : { timestampMs }),
  };
};

/** The key or value of one row: a struct as an object without its missing fields. */
export const sideValueAt = (side: Side, row: number): Value => {
  if (side.nulls !== undefined && side.nulls[row] === 1) return null;
  if (!isStruct(side.schema)) return valueAt(side.columns[0]!, row);
  const struct: Record<string, Value> = {};
  for (const column of side.columns) {
    if (column.state !== undefined && column.state[row] === MISSING) continue;
    // `__proto__` is a field name like any other.
    if (column.name === '__proto__')
      Object.defineProperty(struct, column.name, { value: valueAt(column, row), enumerable: true });
    else struct[column.name] = valueAt(column, row);
  }
  return struct;
};

/** One value of a column; null where it is null or missing. */
export const valueAt = (column: Column, row: number): Value => {
  if (column.state !== undefined && column.state[row] !== VALUE) return null;
  switch (column.kind) {
    case 'int32':
    case 'int64':
    case 'float64':
      return column.values[row]!;
    case 'boolean':
      return column.values[row] === 1;
    case 'bytes':
      if (column.schema.type === 'bytes') return column.data.subarray(column.starts[row], column.ends[row]);
      return holdsJson(column.schema) ? fromJson(column.schema, textAt(column, row)) : textAt(column, row);
  }
};

/** The UTF-8 text of a bytes column at a row. */
export const textAt = (column: BytesColumn, row: number): string => {
  const { data } = column;
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString(
    'utf8',
    column.starts[row],
    column.ends[row],
  );
};

/** Nested values are stored as JSON text; typed members come back in their canonical form. */
const fromJson = (schema: Schema, text: string): Value => {
  const parsed = parseJson(text);
  return schema.type === 'any' ? parsed : retype(schema, parsed);
};

const retype = (schema: Schema, value: Value): Value => {
  if (value === null) return null;
  switch (schema.type) {
    case 'array':
      return (value as readonly Value[]).map((item) => retype(schema.items, item));
    case 'map':
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, retype(schema.values, v as Value)]));
    case 'struct': {
      const struct = value as { readonly [field: string]: Value };
      const known = schema.fields.filter((field) => Object.hasOwn(struct, field.name));
      return Object.fromEntries(known.map((field) => [field.name, retype(field.schema, struct[field.name]!)]));
    }
    case 'int64':
      return BigInt(value as number);
    case 'float32':
    case 'float64':
      return Number(value);
    case 'bytes':
      return Buffer.from(value as string, 'base64');
    case 'decimal':
      return String(value);
    default:
      return value;
  }
};

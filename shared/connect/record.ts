import { type BytesColumn, type Column, holdsJson, MISSING, type RecordGroup, type Side, VALUE } from './batch.ts';
import { bufferOf } from './buffers.ts';
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

type Read<T> = (row: number) => T;

/** The records of a group, one by one: what is the same for all of them is looked up once. */
export const recordReader = (group: RecordGroup): Read<ConnectRecord> => {
  const { topic, headers, timestampsMs } = group;
  const key = group.key === undefined ? () => null : sideReader(group.key);
  const value = sideReader(group.value);
  const schemas = {
    ...(group.key === undefined ? {} : { keySchema: group.key.schema }),
    valueSchema: group.value.schema,
  };
  return (row) => {
    const record = { topic, key: key(row), value: value(row), ...schemas, headers: headers?.[row] ?? noHeaders };
    const timestampMs = timestampsMs?.[row];
    return timestampMs === undefined || Number.isNaN(timestampMs) ? record : { ...record, timestampMs };
  };
};

/** Keys or values: a struct as an object without its missing fields. */
export const sideReader = (side: Side): Read<Value> => {
  const read = isStruct(side.schema) ? structReader(side.columns) : valueReader(side.columns[0]!);
  const { nulls } = side;
  return nulls === undefined ? read : (row) => (nulls[row] === 1 ? null : read(row));
};

const structReader = (columns: readonly Column[]): Read<Value> => {
  const fields = columns.map((column) => ({ name: column.name, state: column.state, read: valueReader(column) }));
  return (row) => {
    const struct: Record<string, Value> = {};
    for (const { name, state, read } of fields) {
      if (state !== undefined && state[row] === MISSING) continue;
      // `__proto__` is a field name like any other.
      if (name === '__proto__') Object.defineProperty(struct, name, { value: read(row), enumerable: true });
      else struct[name] = read(row);
    }
    return struct;
  };
};

/** The values of a column; null where it is null or missing. */
export const valueReader = (column: Column): Read<Value> => {
  const read = presentReader(column);
  const { state } = column;
  return state === undefined ? read : (row) => (state[row] === VALUE ? read(row) : null);
};

const presentReader = (column: Column): Read<Value> => {
  switch (column.kind) {
    case 'int32':
    case 'int64':
    case 'float64': {
      const { values } = column;
      return (row) => values[row]!;
    }
    case 'boolean': {
      const { values } = column;
      return (row) => values[row] === 1;
    }
    case 'struct':
      return structReader(column.columns);
    case 'bytes': {
      const { data, starts, ends, schema } = column;
      if (schema.type === 'bytes') return (row) => data.subarray(starts[row], ends[row]);
      if (schema.type === 'any') return anyReader(column);
      const text = textReader(column);
      return holdsJson(schema) ? (row) => retype(schema, parseJson(text(row))) : text;
    }
  }
};

/** The UTF-8 texts of a bytes column. */
export const textReader = ({ data, starts, ends }: BytesColumn): Read<string> => {
  const bytes = bufferOf(data);
  return (row) => bytes.toString('utf8', starts[row], ends[row]);
};

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const ZERO = 0x30;
const NINE = 0x39;
const LOWER_F = 0x66;
const LOWER_N = 0x6e;
const LOWER_T = 0x74;

/** JSON values as they were given. Most are texts without escapes and short integers, which need no parser. */
const anyReader = (column: BytesColumn): Read<Value> => {
  const { starts, ends } = column;
  const data = bufferOf(column.data);
  return (row) => {
    const start = starts[row]!;
    const end = ends[row]!;
    const first = data[start]!;
    if (first === QUOTE) {
      let i = start;
      while (i < end && data[i] !== BACKSLASH) i++;
      if (i === end) return data.toString('utf8', start + 1, end - 1);
    } else if (first === LOWER_T) return true;
    else if (first === LOWER_F) return false;
    else if (first === LOWER_N) return null;
    else if (end - start < 16) {
      let integer = 0;
      let i = start;
      while (i < end && data[i]! >= ZERO && data[i]! <= NINE) integer = integer * 10 + data[i++]! - ZERO;
      if (i === end) return integer;
    }
    return parseJson(data.toString('utf8', start, end));
  };
};

/** Nested values are stored as JSON text; typed members come back in their canonical form. */
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

import { type FlatColumn, VALUE } from '../connect/batch.ts';
import { bufferOf } from '../connect/buffers.ts';
import { normalizeDecimal, parseJson } from '../connect/json.ts';
import { ExactNumber, type Schema, type Value } from '../connect/schema.ts';
import { type TextOutput, writeAscii, writeBytes, writeInt32, writeInt64 } from '../connect/text-output.ts';
import { flatColumn } from '../connect/to-json-lines.ts';
import type { RowPart, VerifiedColumn } from '../connect/verify.ts';

/** Writes the canonical form of a row's value; false where it is null. */
export type WriteCanonical = (out: TextOutput, row: number) => boolean;

/**
 * Values that are one to the source become one text, however a database keeps them: numbers and booleans are their digits, a float is the
 * shortest text of its width, times lose the zeros at their end, JSON is sorted. Text and bytes are what they are. `type` is the source's,
 * for both sides: what it takes for JSON is JSON in a column of text too.
 */
export const canonicalWriter = (column: FlatColumn, type: Schema['type']): WriteCanonical => {
  const { state } = column;
  const write = valueWriter(column, type);
  if (state === undefined) return write;
  return (out, row) => state[row] === VALUE && write(out, row);
};

const valueWriter = (column: FlatColumn, type: Schema['type']): WriteCanonical => {
  const write = plainWriter(column, type);
  return (out, row) => {
    write(out, row);
    return true;
  };
};

const plainWriter = (column: FlatColumn, type: Schema['type']): ((out: TextOutput, row: number) => void) => {
  if (column.kind === 'bytes' && isPlain(type)) {
    const { starts, ends } = column;
    const data = bufferOf(column.data);
    return (out, row) => writeBytes(out, data, starts[row]!, ends[row]!);
  }
  if (type !== 'float32' && type !== 'float64') {
    if (column.kind === 'int32' || column.kind === 'boolean') {
      const { values } = column;
      return (out, row) => writeInt32(out, values[row]!);
    }
    if (column.kind === 'int64') {
      const { values } = column;
      return (out, row) => writeInt64(out, values[row]!);
    }
  }
  const read = textReader(column);
  const canonical = canonicalText(type);
  return (out, row) => {
    const text = canonical(read(row));
    const start = out.length;
    writeAscii(out, text);
    // Of characters beyond ASCII only the low byte was written.
    if (!isAscii(text)) {
      out.length = start;
      const bytes = Buffer.from(text);
      writeBytes(out, bytes, 0, bytes.length);
    }
  };
};

/** The bytes are the value. */
const isPlain = (type: Schema['type']): boolean => type === 'string' || type === 'bytes' || type === 'uuid';

const isAscii = (text: string): boolean => {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
};

const textReader = (column: FlatColumn): ((row: number) => string) => {
  if (column.kind !== 'bytes') {
    const { values } = column;
    return (row) => String(values[row]);
  }
  const { starts, ends } = column;
  const data = bufferOf(column.data);
  return (row) => data.toString('utf8', starts[row], ends[row]);
};

const canonicalText = (type: Schema['type']): ((text: string) => string) => {
  switch (type) {
    case 'float32':
      return (text) => String(Math.fround(Number(text)));
    case 'float64':
      return (text) => String(Number(text));
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'decimal':
    case 'boolean':
      return digits;
    case 'date':
    case 'time':
    case 'timestamp':
      return (text) => withoutZeros(text.replace('Z', '').replace(' ', 'T'));
    case 'any':
    case 'array':
    case 'map':
    case 'struct':
      return sorted;
    default:
      return (text) => text;
  }
};

/** 007.50 and 7.5 are one number, and so are 0, 0.00 and -0. */
const digits = (text: string): string => {
  if (text === 't' || text === 'true') return '1';
  if (text === 'f' || text === 'false') return '0';
  return withoutZeros(text.replace(/^(-?)0+(?=\d)/, '$1')).replace(/^-0$/, '0');
};

const withoutZeros = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);

/** What is no JSON is compared as it is. */
const sorted = (text: string): string => {
  try {
    return sortedJson(parseJson(text));
  } catch {
    return text;
  }
};

/** Numbers by their value: a database that keeps 1e3 may give 1000 back, and 0 for -0. */
const sortedJson = (value: Value): string => {
  if (typeof value === 'number' || typeof value === 'bigint' || value instanceof ExactNumber)
    return normalizeDecimal(String(value));
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(sortedJson).join(',')}]`;
  const fields = value as { readonly [field: string]: Value };
  return `{${Object.keys(fields)
    .sort()
    .map((field) => `${JSON.stringify(field)}:${sortedJson(fields[field]!)}`)
    .join(',')}}`;
};

/** The writers of these columns, in this order, for a part's rows. */
export const writersOf = (
  { columns, count }: RowPart,
  wanted: readonly VerifiedColumn[],
): readonly WriteCanonical[] => {
  const byName = new Map(columns.map((column) => [column.name, column]));
  // MySQL's names of columns are one whatever their case; the reader has seen that it is there.
  const byAnyCase = new Map(columns.map((column) => [column.name.toLowerCase(), column]));
  return wanted.map(({ name, type }) => {
    const column = byName.get(name) ?? byAnyCase.get(name.toLowerCase());
    if (column === undefined) throw new TypeError(`the rows have no column ${name}`);
    return canonicalWriter(flatColumn(column, count), type);
  });
};

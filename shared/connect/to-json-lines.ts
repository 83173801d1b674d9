import { type Column, type FlatColumn, holdsJson, MISSING, NULL, type RecordGroup, VALUE } from './batch.ts';
import { bufferOf } from './buffers.ts';
import { isStruct, type Schema } from './schema.ts';
import {
  createTextOutput,
  floatText,
  putInt32,
  reserve,
  type TextOutput,
  writeAscii,
  writeByte,
  writeBytes,
  written,
} from './text-output.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const BRACE_OPEN = 0x7b;
const BRACE_CLOSE = 0x7d;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;

/** How each byte is written inside a JSON string, where it is not written as it is. */
const escapes: readonly (string | undefined)[] = Array.from({ length: 256 }, (_, byte) => {
  if (byte >= SPACE && byte !== QUOTE && byte !== BACKSLASH) return undefined;
  return JSON.stringify(String.fromCharCode(byte)).slice(1, -1);
});
const needsEscape = Uint8Array.from(escapes, (escaped) => (escaped === undefined ? 0 : 1));

type WriteRow = (row: number) => void;

/**
 * Appends the values of a group as JSON lines, straight from the columns: a struct is an object of its fields in schema order
 * without the missing ones, a null value is `null`. Numbers keep their digits (int64 and decimal too), bytes are base64, NaN and
 * infinities are strings, as in `writeJson`. Values of type any, array, map and struct are copied as the text they are, except
 * that line breaks between tokens become spaces.
 */
export const toJsonLines = (group: RecordGroup, out: TextOutput): void => {
  const { schema, columns, nulls } = group.value;
  const write = isStruct(schema) ? objectWriter(columns, out) : valueWriter(columns[0]!, out);
  for (let row = 0; row < group.count; row++) {
    if (nulls?.[row] === 1) writeAscii(out, 'null');
    else write(row);
    writeByte(out, NEWLINE);
  }
};

/** A struct column as one of its JSON texts; a column of any other kind as it is. */
export const flatColumn = (column: Column, count: number): FlatColumn => {
  if (column.kind !== 'struct') return column;
  const out = createTextOutput();
  const places = new Uint32Array(count + 1);
  const write = objectWriter(column.columns, out);
  for (let row = 0; row < count; row++) {
    if (column.state === undefined || column.state[row] === VALUE) write(row);
    places[row + 1] = out.length;
  }
  const { name, schema, state } = column;
  const text = { data: written(out), starts: places.subarray(0, -1), ends: places.subarray(1) };
  return { name, schema, ...(state === undefined ? {} : { state }), kind: 'bytes', ...text };
};

const objectWriter = (columns: readonly Column[], out: TextOutput): WriteRow => {
  const fields = columns.map((column) => fieldOf(column, `,${JSON.stringify(column.name)}:`, out));
  return (row) => {
    const start = out.length;
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i]!;
      if (field.state?.[row] !== MISSING) writeField(field, row, out);
    }
    // Every field begins with a comma; the first one's place is the brace's.
    if (out.length === start) writeByte(out, BRACE_OPEN);
    else out.data[start] = BRACE_OPEN;
    writeByte(out, BRACE_CLOSE);
  };
};

const valueWriter = (column: Column, out: TextOutput): WriteRow => {
  const field = fieldOf(column, '', out);
  return (row) => {
    if (field.state?.[row] === MISSING) writeAscii(out, 'null');
    else writeField(field, row, out);
  };
};

/*
 * What most values are. They are put where they go by one function for the fields of all kinds, which takes two thirds of the time of a
 * writer for each; a value that proves to be unlike the others of its kind is left to `write`.
 */
const INTEGER = 0;
/** An int64 as two int32, the low half first, as on every machine that Node runs on. */
const LONG = 1;
const TEXT = 2;
const DECIMAL = 3;
const OTHER = 4;

interface Field {
  /** What comes before the value, in words of four bytes, the last of which may hold some too many. */
  readonly prefix: Int32Array;
  readonly prefixBytes: number;
  readonly kind: number;
  readonly state: Uint8Array | undefined;
  readonly ints: Int32Array;
  readonly data: Buffer;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** Any value of the column. */
  readonly write: WriteRow;
}

const noField = {
  kind: OTHER,
  ints: new Int32Array(0),
  data: Buffer.alloc(0),
  starts: new Uint32Array(0),
  ends: new Uint32Array(0),
};

const fieldOf = (column: Column, before: string, out: TextOutput): Field => {
  const text = Buffer.from(before);
  const prefix = new Int32Array(Math.ceil(text.length / 4));
  new Uint8Array(prefix.buffer).set(text);
  const write = anyWriter(column, out);
  const field = { ...noField, prefix, prefixBytes: text.length, state: column.state, write };
  if (column.kind === 'int32') return { ...field, kind: INTEGER, ints: column.values };
  if (column.kind === 'int64') {
    const { buffer, byteOffset, length } = column.values;
    return { ...field, kind: LONG, ints: new Int32Array(buffer, byteOffset, length * 2) };
  }
  if (column.kind !== 'bytes' || column.schema.type === 'bytes' || holdsJson(column.schema)) return field;
  const { schema, starts, ends } = column;
  return { ...field, kind: schema.type === 'decimal' ? DECIMAL : TEXT, data: bufferOf(column.data), starts, ends };
};

const anyWriter = (column: Column, out: TextOutput): WriteRow => {
  switch (column.kind) {
    case 'int32':
    case 'int64': {
      const { values } = column;
      return (row) => writeAscii(out, String(values[row]));
    }
    case 'float64': {
      const { values } = column;
      const textOf = (value: number) => (Number.isFinite(value) ? floatText(value) : `"${value}"`);
      return (row) => writeAscii(out, textOf(values[row]!));
    }
    case 'boolean': {
      const { values } = column;
      return (row) => writeAscii(out, values[row] === 1 ? 'true' : 'false');
    }
    case 'struct':
      return objectWriter(column.columns, out);
    case 'bytes': {
      const { schema, starts, ends } = column;
      const write = bytesWriter(schema, bufferOf(column.data), out);
      return (row) => write(starts[row]!, ends[row]!);
    }
  }
};

const bytesWriter = (schema: Schema, data: Buffer, out: TextOutput): ((start: number, end: number) => void) => {
  if (holdsJson(schema)) return (start, end) => writeJsonText(out, data, start, end);
  if (schema.type === 'decimal') return (start, end) => writeDecimal(out, data, start, end);
  if (schema.type === 'bytes') return (start, end) => writeAscii(out, `"${data.toString('base64', start, end)}"`);
  return (start, end) => writeEscaped(out, data, start, end);
};

/** More than what a value in place may have beside its text: quotes, or the digits of an integer, and the rest of a word. */
const besideText = 16;

const writeField = (field: Field, row: number, out: TextOutput): void => {
  const { prefix, kind, state } = field;
  const isNull = state !== undefined && state[row] === NULL;
  const hasText = !isNull && (kind === TEXT || kind === DECIMAL);
  reserve(out, field.prefixBytes + besideText + (hasText ? field.ends[row]! - field.starts[row]! : 0));
  const { words } = out;
  for (let word = 0, at = out.length; word < prefix.length; word++, at += 4) words.setInt32(at, prefix[word]!, true);
  out.length += field.prefixBytes;
  if (isNull) {
    writeAscii(out, 'null');
    return;
  }
  const end = putValue(field, row, out.data, out.length);
  if (end === UNPUT) field.write(row);
  else out.length = end;
};

/** It is to be written by `write`. */
const UNPUT = -1;

/** Returns the index behind the value, or UNPUT. There is room for it. */
const putValue = ({ kind, ints, data, starts, ends }: Field, row: number, target: Buffer, at: number): number => {
  switch (kind) {
    case INTEGER:
      return putInt32(target, at, ints[row]!);
    case LONG: {
      const low = ints[row * 2]!;
      return ints[row * 2 + 1] === low >> 31 ? putInt32(target, at, low) : UNPUT;
    }
    case TEXT:
      return putText(data, starts[row]!, ends[row]!, target, at);
    case DECIMAL:
      return putDecimal(data, starts[row]!, ends[row]!, target, at);
    default:
      return UNPUT;
  }
};

const putText = (data: Buffer, start: number, end: number, target: Buffer, at: number): number => {
  target[at++] = QUOTE;
  for (let i = start; i < end; i++) {
    const byte = data[i]!;
    if (needsEscape[byte] === 1) return UNPUT;
    target[at++] = byte;
  }
  target[at++] = QUOTE;
  return at;
};

/** Not what is no number (a NaN), nor one that begins with a superfluous zero. */
const putDecimal = (data: Buffer, start: number, end: number, target: Buffer, at: number): number => {
  const first = data[start] === MINUS ? start + 1 : start;
  if (first >= end || !isDigit(data[first]!)) return UNPUT;
  if (data[first] === ZERO && first + 1 < end && isDigit(data[first + 1]!)) return UNPUT;
  for (let i = start; i < end; i++) target[at++] = data[i]!;
  return at;
};

const isDigit = (byte: number): boolean => byte >= ZERO && byte <= NINE;

/** JSON strings hold no raw line break, so each one is between tokens: a space there changes nothing. */
const writeJsonText = (out: TextOutput, data: Uint8Array, start: number, end: number): void => {
  reserve(out, end - start);
  const target = out.data;
  let at = out.length;
  for (let i = start; i < end; i++) {
    const byte = data[i]!;
    target[at++] = byte === NEWLINE || byte === RETURN ? SPACE : byte;
  }
  out.length = at;
};

/** Exact digits as a JSON number, which begins with no superfluous zero. What is no number is a string. */
const writeDecimal = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  const negative = data[start] === MINUS;
  let first = negative ? start + 1 : start;
  if (first >= end || !isDigit(data[first]!)) {
    writeEscaped(out, data, start, end);
    return;
  }
  while (first + 1 < end && data[first] === ZERO && isDigit(data[first + 1]!)) first++;
  if (negative) writeByte(out, MINUS);
  writeBytes(out, data, first, end);
};

const writeEscaped = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  let clean = start;
  writeByte(out, QUOTE);
  for (let i = start; i < end; i++) {
    const escaped = escapes[data[i]!];
    if (escaped === undefined) continue;
    writeBytes(out, data, clean, i);
    writeAscii(out, escaped);
    clean = i + 1;
  }
  writeBytes(out, data, clean, end);
  writeByte(out, QUOTE);
};

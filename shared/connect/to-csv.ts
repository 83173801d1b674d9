import { type BytesColumn, type FlatColumn, type RecordGroup, type Side, VALUE } from './batch.ts';
import { bufferOf } from './buffers.ts';
import { isStruct } from './schema.ts';
import {
  floatText,
  reserve,
  type TextOutput,
  writeAscii,
  writeByte,
  writeBytes,
  writeInt32,
  writeInt64,
} from './text-output.ts';
import { flatColumn } from './to-json-lines.ts';

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
/** Of JSON's `null`. */
const SMALL_N = 0x6e;

const needsQuotes = new Uint8Array(256);
for (const byte of [QUOTE, COMMA, NEWLINE, RETURN]) needsQuotes[byte] = 1;

type WriteRow = (row: number) => void;

/** The name of the one column of a value that is no struct. */
export const plainColumn = 'value';

export const csvColumnNames = (value: Side): readonly string[] =>
  isStruct(value.schema) ? value.columns.map((column) => column.name) : [plainColumn];

/** Appends the header line: the names of the columns, in the order that `toCsv` is given. */
export const csvHeader = (names: readonly string[], out: TextOutput): void => {
  for (const [index, name] of names.entries()) {
    if (index > 0) writeByte(out, COMMA);
    const bytes = Buffer.from(name);
    writeField(out, bytes, 0, bytes.length);
  }
  writeByte(out, NEWLINE);
};

/**
 * Appends the values of a group as CSV (RFC 4180 with LF), one field per name. Null and missing are empty, the empty string is
 * `""`. An undeclared JSON string is its text; every other nested value is its JSON text; bytes are base64.
 */
export const toCsv = (group: RecordGroup, names: readonly string[], out: TextOutput): void => {
  const { value } = group;
  const own = csvColumnNames(value);
  const fields = names.map((name) => {
    const at = own.indexOf(name);
    return at === -1 ? undefined : fieldWriter(flatColumn(value.columns[at]!, group.count), out);
  });
  for (let row = 0; row < group.count; row++) {
    const isNull = value.nulls?.[row] === 1;
    for (let i = 0; i < fields.length; i++) {
      if (i > 0) writeByte(out, COMMA);
      if (!isNull) fields[i]?.(row);
    }
    writeByte(out, NEWLINE);
  }
};

const fieldWriter = (column: FlatColumn, out: TextOutput): WriteRow => {
  const write = valueWriter(column, out);
  const { state } = column;
  if (state === undefined) return write;
  return (row) => {
    if (state[row] === VALUE) write(row);
  };
};

const valueWriter = (column: FlatColumn, out: TextOutput): WriteRow => {
  switch (column.kind) {
    case 'int32': {
      const { values } = column;
      return (row) => writeInt32(out, values[row]!);
    }
    case 'int64': {
      const { values } = column;
      return (row) => writeInt64(out, values[row]!);
    }
    case 'float64': {
      const { values } = column;
      return (row) => writeAscii(out, floatText(values[row]!));
    }
    case 'boolean': {
      const { values } = column;
      return (row) => writeAscii(out, values[row] === 1 ? 'true' : 'false');
    }
    case 'bytes':
      return bytesWriter(column, out);
  }
};

const bytesWriter = (column: BytesColumn, out: TextOutput): WriteRow => {
  const { starts, ends, schema } = column;
  const data = bufferOf(column.data);
  if (schema.type === 'bytes')
    return (row) => {
      if (starts[row] === ends[row]) writeAscii(out, '""');
      else writeAscii(out, data.toString('base64', starts[row], ends[row]));
    };
  if (schema.type === 'any') return (row) => writeAny(out, data, starts[row]!, ends[row]!);
  return (row) => writeField(out, data, starts[row]!, ends[row]!);
};

/** A JSON value of unknown type: a string is its text, null is empty, all else is its JSON text. */
const writeAny = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  if (data[start] === QUOTE) {
    writeJsonString(out, data, start, end);
    return;
  }
  if (data[start] !== SMALL_N) writeField(out, data, start, end);
};

const writeJsonString = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  if (hasByte(data, BACKSLASH, start, end)) {
    const text = Buffer.from(JSON.parse(data.toString('utf8', start, end)) as string);
    writeField(out, text, 0, text.length);
  } else writeField(out, data, start + 1, end - 1);
};

const hasByte = (data: Uint8Array, byte: number, start: number, end: number): boolean => {
  for (let i = start; i < end; i++) if (data[i] === byte) return true;
  return false;
};

const writeField = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  if (start === end) {
    writeAscii(out, '""');
    return;
  }
  reserve(out, end - start);
  const target = out.data;
  let at = out.length;
  for (let i = start; i < end; i++) {
    const byte = data[i]!;
    if (needsQuotes[byte] === 1) {
      writeQuoted(out, data, start, end);
      return;
    }
    target[at++] = byte;
  }
  out.length = at;
};

const writeQuoted = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  let clean = start;
  writeByte(out, QUOTE);
  for (let i = start; i < end; i++) {
    if (data[i] !== QUOTE) continue;
    // The quote itself is copied with the next stretch: once here, once there.
    writeBytes(out, data, clean, i + 1);
    clean = i;
  }
  writeBytes(out, data, clean, end);
  writeByte(out, QUOTE);
};

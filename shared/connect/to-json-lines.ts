import { type BytesColumn, type Column, holdsJson, MISSING, NULL, type RecordGroup } from './batch.ts';
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
  const write = isStruct(schema) ? objectWriter(columns, out) : valueOrNull(columns[0]!, out);
  for (let row = 0; row < group.count; row++) {
    if (nulls?.[row] === 1) writeAscii(out, 'null');
    else write(row);
    writeByte(out, NEWLINE);
  }
};

const objectWriter = (columns: readonly Column[], out: TextOutput): WriteRow => {
  const fields = columns.map((column) => fieldWriter(column, out));
  return (row) => {
    const start = out.length;
    for (let i = 0; i < fields.length; i++) fields[i]!(row);
    // Every field begins with a comma; the first one's place is the brace's.
    if (out.length === start) writeByte(out, BRACE_OPEN);
    else out.data[start] = BRACE_OPEN;
    writeByte(out, BRACE_CLOSE);
  };
};

const fieldWriter = (column: Column, out: TextOutput): WriteRow => {
  const name = Buffer.from(`,${JSON.stringify(column.name)}:`);
  const write = valueWriter(column, out);
  const { state } = column;
  if (state === undefined)
    return (row) => {
      writeBytes(out, name, 0, name.length);
      write(row);
    };
  return (row) => {
    if (state[row] === MISSING) return;
    writeBytes(out, name, 0, name.length);
    if (state[row] === NULL) writeAscii(out, 'null');
    else write(row);
  };
};

const valueOrNull = (column: Column, out: TextOutput): WriteRow => {
  const write = valueWriter(column, out);
  const { state } = column;
  if (state === undefined) return write;
  return (row) => (state[row] ? writeAscii(out, 'null') : write(row));
};

const valueWriter = (column: Column, out: TextOutput): WriteRow => {
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
      return (row) => {
        const value = values[row]!;
        writeAscii(out, Number.isFinite(value) ? floatText(value) : `"${value}"`);
      };
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
  if (holdsJson(schema)) return (row) => writeJsonText(out, data, starts[row]!, ends[row]!);
  if (schema.type === 'decimal') return (row) => writeDecimal(out, data, starts[row]!, ends[row]!);
  if (schema.type === 'bytes') return (row) => writeAscii(out, `"${data.toString('base64', starts[row], ends[row])}"`);
  return (row) => writeString(out, data, starts[row]!, ends[row]!);
};

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

/** Exact digits as a JSON number, which begins with no superfluous zero. What is no number (a NaN) is a string. */
const writeDecimal = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  const negative = data[start] === MINUS;
  let first = negative ? start + 1 : start;
  if (first >= end || !isDigit(data[first]!)) {
    writeString(out, data, start, end);
    return;
  }
  while (first + 1 < end && data[first] === ZERO && isDigit(data[first + 1]!)) first++;
  if (negative) writeByte(out, MINUS);
  writeBytes(out, data, first, end);
};

const isDigit = (byte: number): boolean => byte >= ZERO && byte <= NINE;

const writeString = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  reserve(out, end - start + 2);
  const target = out.data;
  let at = out.length;
  target[at++] = QUOTE;
  for (let i = start; i < end; i++) {
    const byte = data[i]!;
    if (needsEscape[byte] === 1) {
      writeEscaped(out, data, start, end);
      return;
    }
    target[at++] = byte;
  }
  target[at++] = QUOTE;
  out.length = at;
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

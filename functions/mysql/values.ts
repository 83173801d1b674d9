import type { BytesColumn } from '../../shared/connect/batch.ts';
import { bufferOf } from '../../shared/connect/buffers.ts';
import {
  floatText,
  reserve,
  type TextOutput,
  writeAscii,
  writeByte,
  writeBytes,
  writeInt32,
  writeInt64,
} from '../../shared/connect/text-output.ts';
import { type CopyField, hasValue, holdsAny, type WriteRow } from '../../shared/connect/to-copy-text.ts';

const QUOTE = 0x27;
const BACKSLASH = 0x5c;
const LETTER_Z = 0x5a;

/** A column of the rows, and what the table's column makes of it. */
export interface ValueField extends CopyField {
  /** It goes to a column of text, where a number is its digits and a timestamp keeps its Z. */
  readonly isText: boolean;
}

/**
 * Writes the values of a field as SQL literals, straight from its column. Whatever is not a number made here is quoted: no source can
 * slip a statement in.
 */
export const valueWriter = (field: ValueField, from: number, to: number, out: TextOutput): WriteRow => {
  const write = presentWriter(field, from, to, out);
  if (field.column.state === undefined && field.nulls === undefined) return write;
  return (row) => {
    if (hasValue(field, row)) write(row);
    else writeAscii(out, 'NULL');
  };
};

const presentWriter = (field: ValueField, from: number, to: number, out: TextOutput): WriteRow => {
  const { column, isText } = field;
  switch (column.kind) {
    case 'int32': {
      const { values } = column;
      return quotedIf(isText, (row) => writeInt32(out, values[row]!), out);
    }
    case 'int64': {
      const { values } = column;
      return quotedIf(isText, (row) => writeInt64(out, values[row]!), out);
    }
    case 'float64': {
      const { values } = column;
      return quotedIf(true, (row) => writeAscii(out, floatText(values[row]!)), out);
    }
    case 'boolean': {
      const { values } = column;
      return (row) => writeAscii(out, values[row] === 1 ? '1' : '0');
    }
    case 'bytes': {
      const write = bytesWriter(field, column, from, to, out);
      if (column.schema.type !== 'bytes') return quotedIf(true, write, out);
      return (row) => {
        writeAscii(out, '_binary');
        writeByte(out, QUOTE);
        write(row);
        writeByte(out, QUOTE);
      };
    }
  }
};

const quotedIf = (quoted: boolean, write: WriteRow, out: TextOutput): WriteRow => {
  if (!quoted) return write;
  return (row) => {
    writeByte(out, QUOTE);
    write(row);
    writeByte(out, QUOTE);
  };
};

const bytesWriter = (field: ValueField, column: BytesColumn, from: number, to: number, out: TextOutput): WriteRow => {
  const { starts, schema } = column;
  // A wall clock in UTC: the Z is no part of MySQL's own form.
  const ends = schema.type === 'timestamp' && !field.isText ? withoutZ(column, from, to) : column.ends;
  const data = bufferOf(column.data);
  if (!holdsAny([QUOTE, BACKSLASH], field, column, from, to))
    return (row) => writeBytes(out, data, starts[row]!, ends[row]!);
  return (row) => {
    const end = ends[row]!;
    let at = starts[row]!;
    reserve(out, (end - at) * 2);
    const target = out.data;
    let length = out.length;
    for (; at < end; at++) {
      const byte = data[at]!;
      if (byte === QUOTE || byte === BACKSLASH) target[length++] = BACKSLASH;
      target[length++] = byte;
    }
    out.length = length;
  };
};

const withoutZ = ({ data, starts, ends }: BytesColumn, from: number, to: number): Uint32Array => {
  const shorter = ends.slice();
  for (let row = from; row < to; row++)
    if (ends[row]! > starts[row]! && data[ends[row]! - 1] === LETTER_Z) shorter[row] = ends[row]! - 1;
  return shorter;
};

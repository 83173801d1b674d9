import { type BytesColumn, type Column, VALUE } from './batch.ts';
import { floatText, reserve, type TextOutput, writeAscii, writeByte, writeInt32, writeInt64 } from './text-output.ts';

const TAB = 0x09;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const BACKSLASH = 0x5c;
const SMALL_F = 0x66;
const SMALL_N = 0x6e;
const SMALL_R = 0x72;
const SMALL_T = 0x74;
const SMALL_X = 0x78;

const hexDigits = Buffer.from('0123456789abcdef');

/** A column of the output, and the nulls of the side it belongs to. */
export interface CopyField {
  readonly column: Column;
  readonly nulls?: Uint8Array | undefined;
}

type WriteRow = (row: number) => void;

/**
 * Appends rows [from, to) in the text format of PostgreSQL's COPY: one line per row, one field per column, `\N` where it is null or
 * missing. Every canonical text is PostgreSQL's own input text, so bytes go over as they are, but for the four that COPY escapes.
 */
export const toCopyText = (fields: readonly CopyField[], from: number, to: number, out: TextOutput): void => {
  const writers = fields.map((field) => fieldWriter(field, out));
  for (let row = from; row < to; row++) {
    for (let i = 0; i < writers.length; i++) {
      if (i > 0) writeByte(out, TAB);
      writers[i]!(row);
    }
    writeByte(out, NEWLINE);
  }
};

const fieldWriter = ({ column, nulls }: CopyField, out: TextOutput): WriteRow => {
  const write = valueWriter(column, out);
  const { state } = column;
  if (state === undefined && nulls === undefined) return write;
  return (row) => {
    if ((state === undefined || state[row] === VALUE) && (nulls === undefined || nulls[row] === 0)) write(row);
    else writeAscii(out, '\\N');
  };
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
      return (row) => writeAscii(out, floatText(values[row]!));
    }
    case 'boolean': {
      const { values } = column;
      return (row) => writeByte(out, values[row] === 1 ? SMALL_T : SMALL_F);
    }
    case 'bytes':
      return column.schema.type === 'bytes' ? hexWriter(column, out) : textWriter(column, out);
  }
};

const escapeOf = new Uint8Array(256);
for (const [byte, letter] of [
  [TAB, SMALL_T],
  [NEWLINE, SMALL_N],
  [RETURN, SMALL_R],
  [BACKSLASH, BACKSLASH],
] as const)
  escapeOf[byte] = letter;

const textWriter = ({ data, starts, ends }: BytesColumn, out: TextOutput): WriteRow => {
  return (row) => {
    const end = ends[row]!;
    let from = starts[row]!;
    reserve(out, (end - from) * 2);
    const target = out.data;
    let at = out.length;
    for (; from < end; from++) {
      const byte = data[from]!;
      const letter = escapeOf[byte]!;
      if (letter === 0) target[at++] = byte;
      else {
        target[at++] = BACKSLASH;
        target[at++] = letter;
      }
    }
    out.length = at;
  };
};

/** bytea's hex form, `\x…`, whose backslash COPY wants doubled. */
const hexWriter = ({ data, starts, ends }: BytesColumn, out: TextOutput): WriteRow => {
  return (row) => {
    const end = ends[row]!;
    let from = starts[row]!;
    reserve(out, (end - from) * 2 + 3);
    const target = out.data;
    let at = out.length;
    target[at++] = BACKSLASH;
    target[at++] = BACKSLASH;
    target[at++] = SMALL_X;
    for (; from < end; from++) {
      const byte = data[from]!;
      target[at++] = hexDigits[byte >> 4]!;
      target[at++] = hexDigits[byte & 15]!;
    }
    out.length = at;
  };
};

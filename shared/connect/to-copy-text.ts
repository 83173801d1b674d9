import { type BytesColumn, type FlatColumn, VALUE } from './batch.ts';
import { bufferOf } from './buffers.ts';
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
  readonly column: FlatColumn;
  readonly nulls?: Uint8Array | undefined;
}

export type WriteRow = (row: number) => void;

/**
 * Appends rows [from, to) in the text format of PostgreSQL's COPY: one line per row, one field per column, `\N` where it is null or
 * missing. Every canonical text is PostgreSQL's own input text, so bytes go over as they are, but for the four that COPY escapes.
 */
export const toCopyText = (fields: readonly CopyField[], from: number, to: number, out: TextOutput): void => {
  const writers = fields.map((field) => fieldWriter(field, from, to, out));
  for (let row = from; row < to; row++) {
    for (let i = 0; i < writers.length; i++) {
      if (i > 0) writeByte(out, TAB);
      writers[i]!(row);
    }
    writeByte(out, NEWLINE);
  }
};

const fieldWriter = (field: CopyField, from: number, to: number, out: TextOutput): WriteRow => {
  const write = valueWriter(field, from, to, out);
  const { nulls, column } = field;
  if (column.state === undefined && nulls === undefined) return write;
  return (row) => {
    if (hasValue(field, row)) write(row);
    else writeAscii(out, '\\N');
  };
};

/** Whether a row is neither null nor missing. */
export const hasValue = ({ column: { state }, nulls }: CopyField, row: number): boolean =>
  (state === undefined || state[row] === VALUE) && (nulls === undefined || nulls[row] === 0);

const valueWriter = (field: CopyField, from: number, to: number, out: TextOutput): WriteRow => {
  const { column } = field;
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
    case 'bytes': {
      if (column.schema.type === 'bytes') return hexWriter(column, out);
      if (holdsAny(escaped, field, column, from, to)) return escapingWriter(column, out);
      const { starts, ends } = column;
      const data = bufferOf(column.data);
      return (row) => writeBytes(out, data, starts[row]!, ends[row]!);
    }
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

const escaped = [TAB, NEWLINE, RETURN, BACKSLASH];

/**
 * Whether some of rows [from, to) may hold one of these bytes. Most don't, and one native search over the range they lie in
 * costs a hundredth of a look at every byte; not so where they lie scattered among other data.
 */
export const holdsAny = (
  bytes: readonly number[],
  field: CopyField,
  { data, starts, ends }: BytesColumn,
  from: number,
  to: number,
): boolean => {
  let low = data.length;
  let high = 0;
  let total = 0;
  for (let row = from; row < to; row++) {
    if (!hasValue(field, row)) continue;
    low = Math.min(low, starts[row]!);
    high = Math.max(high, ends[row]!);
    total += ends[row]! - starts[row]!;
  }
  if (high <= low) return false;
  if (high - low > total * 2) return true;
  const range = data.subarray(low, high);
  return bytes.some((byte) => range.includes(byte));
};

const escapingWriter = ({ data, starts, ends }: BytesColumn, out: TextOutput): WriteRow => {
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

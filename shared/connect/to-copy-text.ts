import { type BytesColumn, type FlatColumn, VALUE } from './batch.ts';
import { bufferOf } from './buffers.ts';
import { floatText, putAscii, putBytes, putInt32, putInt64, reserve, type TextOutput } from './text-output.ts';

const TAB = 0x09;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const BACKSLASH = 0x5c;
const LARGE_N = 0x4e;
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

/** Puts a row's text where there is room for it, and returns the index behind it. */
type PutRow = (target: Buffer, at: number, row: number) => number;

/** How a column's rows are put, and the most bytes that all of them take. */
interface Putter {
  readonly put: PutRow;
  readonly mostBytes: number;
}

/**
 * Appends rows [from, to) in the text format of PostgreSQL's COPY: one line per row, one field per column, `\N` where it is null or
 * missing. Every canonical text is PostgreSQL's own input text, so bytes go over as they are, but for the four that COPY escapes.
 */
export const toCopyText = (fields: readonly CopyField[], from: number, to: number, out: TextOutput): void => {
  const putters = fields.map((field) => putterOf(field, from, to));
  // Room for all of it at once: to ask for each value costs as much as the value.
  const separators = Math.max(1, fields.length) * (to - from);
  reserve(
    out,
    putters.reduce((sum, { mostBytes }) => sum + mostBytes, separators),
  );
  const puts = putters.map(({ put }) => put);
  const target = out.data;
  let at = out.length;
  for (let row = from; row < to; row++) {
    for (let i = 0; i < puts.length; i++) {
      if (i > 0) target[at++] = TAB;
      at = puts[i]!(target, at, row);
    }
    target[at++] = NEWLINE;
  }
  out.length = at;
};

const putterOf = (field: CopyField, from: number, to: number): Putter => {
  const { put, mostBytes } = valuePutter(field, from, to);
  const { nulls, column } = field;
  if (column.state === undefined && nulls === undefined) return { put, mostBytes };
  return {
    mostBytes: mostBytes + 2 * (to - from),
    put(target, at, row) {
      if (hasValue(field, row)) return put(target, at, row);
      target[at] = BACKSLASH;
      target[at + 1] = LARGE_N;
      return at + 2;
    },
  };
};

/** Whether a row is neither null nor missing. */
export const hasValue = ({ column: { state }, nulls }: CopyField, row: number): boolean =>
  (state === undefined || state[row] === VALUE) && (nulls === undefined || nulls[row] === 0);

const valuePutter = (field: CopyField, from: number, to: number): Putter => {
  const { column } = field;
  const count = to - from;
  switch (column.kind) {
    case 'int32': {
      const { values } = column;
      return { mostBytes: 11 * count, put: (target, at, row) => putInt32(target, at, values[row]!) };
    }
    case 'int64': {
      const { values } = column;
      return { mostBytes: 20 * count, put: (target, at, row) => putInt64(target, at, values, row) };
    }
    case 'float64': {
      const { values } = column;
      return { mostBytes: 25 * count, put: (target, at, row) => putAscii(target, at, floatText(values[row]!)) };
    }
    case 'boolean': {
      const { values } = column;
      return {
        mostBytes: count,
        put(target, at, row) {
          target[at] = values[row] === 1 ? SMALL_T : SMALL_F;
          return at + 1;
        },
      };
    }
    case 'bytes': {
      const { schema, starts, ends } = column;
      const extent = extentOf(field, column, from, to);
      if (schema.type === 'bytes') return { mostBytes: 3 * count + 2 * extent.bytes, put: hexPutter(column) };
      if (mayHold(escaped, column, extent)) return { mostBytes: 2 * extent.bytes, put: escapingPutter(column) };
      const data = bufferOf(column.data);
      return {
        mostBytes: extent.bytes,
        put: (target, at, row) => putBytes(target, at, data, starts[row]!, ends[row]!),
      };
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

/** Where the texts of some rows lie, and how many bytes they are. */
interface Extent {
  readonly low: number;
  readonly high: number;
  readonly bytes: number;
}

const extentOf = (field: CopyField, { data, starts, ends }: BytesColumn, from: number, to: number): Extent => {
  let low = data.length;
  let high = 0;
  let bytes = 0;
  for (let row = from; row < to; row++) {
    if (!hasValue(field, row)) continue;
    low = Math.min(low, starts[row]!);
    high = Math.max(high, ends[row]!);
    bytes += ends[row]! - starts[row]!;
  }
  return { low, high, bytes };
};

/** Whether some of rows [from, to) may hold one of these bytes. */
export const holdsAny = (
  bytes: readonly number[],
  field: CopyField,
  column: BytesColumn,
  from: number,
  to: number,
): boolean => mayHold(bytes, column, extentOf(field, column, from, to));

/**
 * Most don't, and one native search over the range they lie in costs a hundredth of a look at every byte; not so where they lie
 * scattered among other data.
 */
const mayHold = (wanted: readonly number[], { data }: BytesColumn, { low, high, bytes }: Extent): boolean => {
  if (high <= low) return false;
  if (high - low > bytes * 2) return true;
  const range = data.subarray(low, high);
  return wanted.some((byte) => range.includes(byte));
};

const escapingPutter =
  ({ data, starts, ends }: BytesColumn): PutRow =>
  (target, at, row) => {
    const end = ends[row]!;
    for (let from = starts[row]!; from < end; from++) {
      const byte = data[from]!;
      const letter = escapeOf[byte]!;
      if (letter === 0) target[at++] = byte;
      else {
        target[at++] = BACKSLASH;
        target[at++] = letter;
      }
    }
    return at;
  };

/** bytea's hex form, `\x…`, whose backslash COPY wants doubled. */
const hexPutter =
  ({ data, starts, ends }: BytesColumn): PutRow =>
  (target, at, row) => {
    const end = ends[row]!;
    target[at++] = BACKSLASH;
    target[at++] = BACKSLASH;
    target[at++] = SMALL_X;
    for (let from = starts[row]!; from < end; from++) {
      const byte = data[from]!;
      target[at++] = hexDigits[byte >> 4]!;
      target[at++] = hexDigits[byte & 15]!;
    }
    return at;
  };

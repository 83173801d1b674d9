import { type BytesColumn, type Column, MISSING, NULL, VALUE } from '../../shared/connect/batch.ts';
import { writeJson } from '../../shared/connect/json.ts';
import type { Schema } from '../../shared/connect/schema.ts';
import { NULL_VALUE, type Slots } from './pgoutput.ts';
import { arrayValue, problemOf, type Reading, type ValueType } from './value-type.ts';

/** Where the texts of a column are: row i's at `slots[i * stride + at]` and the place after it, in `page`. */
export interface Texts {
  readonly page: Buffer;
  readonly slots: Slots;
  readonly stride: number;
  readonly at: number;
  readonly count: number;
}

type Bad = (row: number, problem: string) => void;

/** The texts as a column. `bad` is told the rows whose value the schema cannot hold; the column has them as MISSING. */
export const valueColumn = (name: string, schema: Schema, { reading }: ValueType, texts: Texts, bad: Bad): Column => {
  const state = checked(reading, texts, stateOf(texts), bad);
  const common = { name, schema };
  const done = (column: object): Column =>
    ({ ...common, ...(state.every((one) => one === VALUE) ? {} : { state }), ...column }) as Column;
  if (typeof reading === 'object') return done({ kind: 'bytes', ...arrays(reading, texts, state, bad) });
  switch (reading) {
    case 'integer':
      return done({ kind: 'int32', values: integers(texts, state) });
    case 'int64':
      return done({ kind: 'int64', values: longs(texts, state) });
    case 'float':
      return done({ kind: 'float64', values: floats(texts, state) });
    case 'boolean':
      return done({ kind: 'boolean', values: booleans(texts, state) });
    case 'bytes':
      return done({ kind: 'bytes', ...bytes(texts, state) });
    case 'json':
      return done({ kind: 'bytes', ...places(texts, state, onOneLine) });
    case 'timestamp':
      return done({ kind: 'bytes', ...places(texts, state, withT) });
    case 'timestamptz':
      return done({ kind: 'bytes', ...places(texts, state, inUtc) });
    default:
      return done({ kind: 'bytes', ...places(texts, state) });
  }
};

const stateOf = ({ slots, stride, at, count }: Texts): Uint8Array => {
  const state = new Uint8Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start < 0) state[row] = start === NULL_VALUE ? NULL : MISSING;
  }
  return state;
};

const mayBeBad = new Set<Reading>(['decimal', 'date', 'timestamp', 'timestamptz']);

const checked = (reading: Reading, texts: Texts, state: Uint8Array, bad: Bad): Uint8Array => {
  if (!mayBeBad.has(reading)) return state;
  const { page, slots, stride, at, count } = texts;
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    if (state[row] !== VALUE) continue;
    const start = slots[slot]!;
    const end = slots[slot + 1]!;
    const problem = problemOf(reading, page[end - 1]!, page[start]!);
    if (problem === undefined) continue;
    bad(row, `${page.toString('utf8', start, Math.min(end, start + 80))}: ${problem}`);
    state[row] = MISSING;
  }
  return state;
};

/** Texts where they are. `mend` makes one canonical without moving it, as often as it is called, and answers where it ends. */
const places = (
  { page, slots, stride, at, count }: Texts,
  state: Uint8Array,
  mend?: (page: Buffer, start: number, end: number) => number,
): Pick<BytesColumn, 'data' | 'starts' | 'ends'> => {
  const starts = new Uint32Array(count);
  const ends = new Uint32Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    if (state[row] !== VALUE) continue;
    const start = slots[slot]!;
    starts[row] = start;
    ends[row] = mend === undefined ? slots[slot + 1]! : mend(page, start, slots[slot + 1]!);
  }
  return { data: page, starts, ends };
};

const SPACE = 0x20;
const LETTER_T = 0x54;
const LETTER_Z = 0x5a;

const withT = (page: Buffer, start: number, end: number): number => {
  // yyyy-mm-dd is 10 long, with years of more digits more.
  let at = start + 10;
  while (at < end && page[at] !== SPACE && page[at] !== LETTER_T) at++;
  page[at] = LETTER_T;
  return end;
};

/** The session's time zone is UTC: it ends in +00. */
const inUtc = (page: Buffer, start: number, end: number): number => {
  withT(page, start, end);
  page[end - 3] = LETTER_Z;
  return end - 2;
};

/** Where a text ends that may have been mended; as it is then PostgreSQL reads it too. */
export const textEnd = (reading: Reading, page: Buffer, start: number, end: number): number =>
  reading === 'timestamptz' && end - start > 3 && page[end - 3] === LETTER_Z ? end - 2 : end;

/** Between the tokens of `json` stands what its writer put there. In strings a line end is escaped. */
const onOneLine = (page: Buffer, start: number, end: number): number => {
  for (let at = start; at < end; at++) if (page[at]! < SPACE) page[at] = SPACE;
  return end;
};

const MINUS = 0x2d;
const ZERO = 0x30;

/** Up to 15 digits, which a double holds exactly. */
const integerAt = (page: Buffer, start: number, end: number): number => {
  let at = page[start] === MINUS ? start + 1 : start;
  let value = 0;
  while (at < end) value = value * 10 + page[at++]! - ZERO;
  return page[start] === MINUS ? -value : value;
};

const integers = ({ page, slots, stride, at, count }: Texts, state: Uint8Array): Int32Array => {
  const values = new Int32Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride)
    if (state[row] === VALUE) values[row] = integerAt(page, slots[slot]!, slots[slot + 1]!);
  return values;
};

const longs = ({ page, slots, stride, at, count }: Texts, state: Uint8Array): BigInt64Array => {
  const values = new BigInt64Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    if (state[row] !== VALUE) continue;
    const start = slots[slot]!;
    const end = slots[slot + 1]!;
    values[row] = BigInt(end - start <= 15 ? integerAt(page, start, end) : page.toString('latin1', start, end));
  }
  return values;
};

const floats = ({ page, slots, stride, at, count }: Texts, state: Uint8Array): Float64Array => {
  const values = new Float64Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride)
    if (state[row] === VALUE) values[row] = Number(page.toString('latin1', slots[slot]!, slots[slot + 1]!));
  return values;
};

const LETTER_TRUE = 0x74;

const booleans = ({ page, slots, stride, at, count }: Texts, state: Uint8Array): Uint8Array => {
  const values = new Uint8Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride)
    if (state[row] === VALUE && page[slots[slot]!] === LETTER_TRUE) values[row] = 1;
  return values;
};

/** Where values of other lengths than their texts go: memory of the column's own. */
const packed = (
  count: number,
  lengthOf: (row: number) => number,
  write: (data: Buffer, row: number, at: number) => void,
) => {
  const starts = new Uint32Array(count);
  const ends = new Uint32Array(count);
  let length = 0;
  for (let row = 0; row < count; row++) {
    starts[row] = length;
    length += lengthOf(row);
    ends[row] = length;
  }
  const data = Buffer.allocUnsafeSlow(length);
  for (let row = 0; row < count; row++) if (starts[row]! < ends[row]!) write(data, row, starts[row]!);
  return { data, starts, ends };
};

/** `\x` and two hex digits a byte. */
const bytes = ({ page, slots, stride, at, count }: Texts, state: Uint8Array) =>
  packed(
    count,
    (row) => (state[row] === VALUE ? (slots[row * stride + at + 1]! - slots[row * stride + at]! - 2) / 2 : 0),
    (data, row, to) => {
      const slot = row * stride + at;
      data.write(page.toString('latin1', slots[slot]! + 2, slots[slot + 1]!), to, 'hex');
    },
  );

const arrays = (
  reading: Extract<Reading, object>,
  { page, slots, stride, at, count }: Texts,
  state: Uint8Array,
  bad: Bad,
) => {
  const texts: Buffer[] = [];
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    if (state[row] !== VALUE) continue;
    try {
      texts[row] = Buffer.from(writeJson(arrayValue(reading, page.toString('utf8', slots[slot], slots[slot + 1]))));
    } catch (error) {
      bad(row, (error as Error).message);
      state[row] = MISSING;
    }
  }
  return packed(
    count,
    (row) => texts[row]?.length ?? 0,
    (data, row, to) => texts[row]!.copy(data, to),
  );
};

import { type BytesColumn, type Column, MISSING, NULL, VALUE } from '../../shared/connect/batch.ts';
import { columnOf } from '../../shared/connect/build.ts';
import { rowError } from '../../shared/connect/errors.ts';
import { misfit } from '../../shared/connect/fit.ts';
import type { Schema, Value } from '../../shared/connect/schema.ts';
import {
  dateTimeWriter,
  decimalWriter,
  timestampWriter,
  timeWriter,
  type WriteText,
  writeDate,
  writeUint64,
} from './image-text.ts';
import type { ImageColumn, Labels } from './image-type.ts';
import { jsonText } from './json-image.ts';
import { type LoggedColumn, NULL_VALUE, type Slots } from './row-image.ts';

/** Where the values of a column are: row i's at `slots[i * stride + at]` and the place after it, in `data`. */
export interface Images {
  readonly data: Buffer;
  readonly slots: Slots;
  readonly stride: number;
  readonly at: number;
  readonly count: number;
  /** No row is without a value. */
  readonly isWhole: boolean;
}

/** The values of a column from their bytes in the binlog, their lengths included, each as the library makes it. */
export type ReadValues = (column: LoggedColumn, values: readonly Uint8Array[]) => readonly unknown[];

type Bad = (row: number, problem: string) => void;

/** The values as a column. `bad` is told the rows whose value the schema cannot hold; the column has them as MISSING. */
export const valueColumn = (
  schema: Schema,
  column: ImageColumn,
  images: Images,
  read: ReadValues,
  bad: Bad,
): Column => {
  const { name, reading } = column;
  const state = stateOf(images);
  const done = (made: object): Column =>
    ({ name, schema, ...(state.includes(NULL) || state.includes(MISSING) ? { state } : {}), ...made }) as Column;
  const texts = (most: number, write: WriteText): Column => {
    const odd = (row: number) => oddValue(schema, column, images, row, read, bad);
    return done({ kind: 'bytes', ...written(images, state, most, write, odd) });
  };
  switch (reading.form) {
    case 'integer':
      return done({ kind: 'int32', values: integers(images, reading.bytes, reading.isSigned) });
    case 'year':
      return done({ kind: 'int32', values: years(images) });
    case 'uint32':
      return done({ kind: 'int64', values: longs(images, 4) });
    case 'int64':
      return done({ kind: 'int64', values: longs(images, 8) });
    case 'float':
    case 'double':
      return done({ kind: 'float64', values: floats(images, reading.form) });
    case 'boolean':
      return done({ kind: 'boolean', values: booleans(images) });
    case 'uint64':
      return texts(20, writeUint64);
    case 'decimal':
      return texts(reading.precision + 3, decimalWriter(reading.precision, reading.scale));
    case 'date':
      return texts(10, writeDate);
    case 'datetime':
      return texts(26, dateTimeWriter(reading.decimals));
    case 'timestamp':
      return texts(27, timestampWriter(reading.decimals));
    case 'time':
      return texts(15, timeWriter(reading.decimals));
    case 'bytes':
      return done({ kind: 'bytes', ...padded(places(images), reading.width ?? 0, state) });
    case 'utf8':
      return done({ kind: 'bytes', ...places(images) });
    case 'latin1':
      return done({ kind: 'bytes', ...(isAscii(images) ? places(images) : encoded(images, latin1Text)) });
    case 'ascii': {
      if (isAscii(images)) return done({ kind: 'bytes', ...places(images) });
      const { doubtful } = reading;
      return valuesColumn(
        schema,
        { ...column, type: { ...column.type, read: sureReader(doubtful) } },
        images,
        state,
        read,
        bad,
      );
    }
    case 'some':
      refuseTexts(column, reading.unread, images, state, bad);
      return done({ kind: 'bytes', ...places(images) });
    case 'json':
      return done({ kind: 'bytes', ...encoded(images, jsonText) });
    case 'label':
      return done({ kind: 'bytes', ...labels(images, reading.labels) });
    case 'value':
      return valuesColumn(schema, column, images, state, read, bad);
  }
};

const stateOf = ({ slots, stride, at, count, isWhole }: Images): Uint8Array => {
  const state = new Uint8Array(count);
  if (isWhole) return state;
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start < 0) state[row] = start === NULL_VALUE ? NULL : MISSING;
  }
  return state;
};

const integers = ({ data, slots, stride, at, count }: Images, bytes: number, isSigned: boolean): Int32Array => {
  const values = new Int32Array(count);
  const unused = isSigned ? 32 - 8 * bytes : 0;
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start < 0) continue;
    let value = data[start]!;
    if (bytes > 1) value |= data[start + 1]! << 8;
    if (bytes > 2) value |= data[start + 2]! << 16;
    if (bytes > 3) value |= data[start + 3]! << 24;
    values[row] = (value << unused) >> unused;
  }
  return values;
};

/** From 1901 on; 0 is the year 0. */
const years = ({ data, slots, stride, at, count }: Images): Int32Array => {
  const values = new Int32Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start >= 0 && data[start] !== 0) values[row] = 1900 + data[start]!;
  }
  return values;
};

/** The bytes of the log are those of memory: little-endian, as every processor is that Node runs on. */
const longs = ({ data, slots, stride, at, count }: Images, bytes: 4 | 8): BigInt64Array => {
  const values = new BigInt64Array(count);
  const halves = new Int32Array(values.buffer);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start < 0) continue;
    halves[2 * row] = wordAt(data, start);
    if (bytes === 8) halves[2 * row + 1] = wordAt(data, start + 4);
  }
  return values;
};

const wordAt = (data: Uint8Array, at: number): number =>
  data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24);

const floats = ({ data, slots, stride, at, count }: Images, form: 'float' | 'double'): Float64Array => {
  const values = new Float64Array(count);
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start >= 0) values[row] = form === 'float' ? view.getFloat32(start, true) : view.getFloat64(start, true);
  }
  return values;
};

const booleans = ({ data, slots, stride, at, count }: Images): Uint8Array => {
  const values = new Uint8Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start >= 0) values[row] = data[start]!;
  }
  return values;
};

type Texts = Pick<BytesColumn, 'data' | 'starts' | 'ends'>;

/** Values where they are. */
const places = ({ data, slots, stride, at, count }: Images): Texts => {
  const starts = new Uint32Array(count);
  const ends = new Uint32Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start < 0) continue;
    starts[row] = start;
    ends[row] = slots[slot + 1]!;
  }
  return { data, starts, ends };
};

/** With zero bytes behind what is shorter. */
const padded = (texts: Texts, width: number, state: Uint8Array): Texts => {
  const { data, starts, ends } = texts;
  if (starts.every((start, row) => state[row] !== VALUE || ends[row]! - start >= width)) return texts;
  const longer = Buffer.alloc(starts.length * width);
  for (const [row, start] of starts.entries()) {
    longer.set(data.subarray(start, ends[row]!), row * width);
    starts[row] = row * width;
    ends[row] = (row + 1) * width;
  }
  return { data: longer, starts, ends };
};

const isAscii = ({ data, slots, stride, at, count }: Images): boolean => {
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const end = slots[slot + 1]!;
    if (slots[slot]! >= 0) for (let i = slots[slot]!; i < end; i++) if (data[i]! > 0x7f) return false;
  }
  return true;
};

/** MySQL's latin1 is what the web calls windows-1252: all of its 256 bytes are characters. */
const windows1252 = new TextDecoder('windows-1252');
const latin1Text = (data: Buffer, start: number, end: number): string => windows1252.decode(data.subarray(start, end));

const inexact =
  'its character set has characters that are not read from the binlog exactly: ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4';

const sureReader = (doubtful: RegExp) => (value: unknown) => {
  if (typeof value !== 'string' || !doubtful.test(value)) return value as Value;
  throw rowError(inexact);
};

const refuseTexts = (
  { name }: ImageColumn,
  unread: RegExp,
  { data, slots, stride, at, count }: Images,
  state: Uint8Array,
  bad: Bad,
): void => {
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    if (state[row] !== VALUE || !unread.test(data.toString('latin1', slots[slot], slots[slot + 1]))) continue;
    bad(row, `column ${name}: ${inexact}`);
    state[row] = MISSING;
  }
};

/** As UTF-8, value by value. */
const encoded = (
  { data, slots, stride, at, count }: Images,
  textOf: (data: Buffer, start: number, end: number) => string,
): Texts => {
  const bounds = new Uint32Array(count + 1);
  const texts: string[] = [];
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    const text = start < 0 ? '' : textOf(data, start, slots[slot + 1]!);
    texts.push(text);
    bounds[row + 1] = bounds[row]! + Buffer.byteLength(text);
  }
  return { data: Buffer.from(texts.join('')), starts: bounds.subarray(0, -1), ends: bounds.subarray(1) };
};

const labels = ({ data, slots, stride, at, count }: Images, { data: text, ends: places }: Labels): Texts => {
  const starts = new Uint32Array(count);
  const ends = new Uint32Array(count);
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start < 0) continue;
    const label = slots[slot + 1]! - start === 1 ? data[start]! : data[start]! | (data[start + 1]! << 8);
    if (label === 0 || label >= places.length) continue;
    starts[row] = places[label - 1]!;
    ends[row] = places[label]!;
  }
  // A copy: whoever frees the batch frees it.
  return { data: Buffer.from(text), starts, ends };
};

/** Texts of at most so many bytes, one behind the other. `odd` gives what `write` has no text of. */
const written = (
  { data, slots, stride, at, count }: Images,
  state: Uint8Array,
  most: number,
  write: WriteText,
  odd: (row: number) => Value | undefined,
): Texts => {
  const out = Buffer.allocUnsafeSlow(count * most);
  // One array holds where each begins and, from its second element on, where each ends: they are contiguous.
  const bounds = new Uint32Array(count + 1);
  let length = 0;
  for (let row = 0, slot = at; row < count; row++, slot += stride) {
    const start = slots[slot]!;
    if (start >= 0) {
      const end = write(data, start, out, length);
      if (end >= 0) length = end;
      else {
        const value = odd(row);
        if (typeof value === 'string') length += out.write(value, length, 'latin1');
        else state[row] = value === null ? NULL : MISSING;
      }
    }
    bounds[row + 1] = length;
  }
  return { data: out.subarray(0, length), starts: bounds.subarray(0, -1), ends: bounds.subarray(1) };
};

const imageOf = ({ width }: ImageColumn, { data, slots, stride, at }: Images, row: number): Uint8Array => {
  const slot = row * stride + at;
  return data.subarray(slots[slot]! + Math.min(width, 0), slots[slot + 1]);
};

/** Null where the type makes null of it, undefined where it is told to `bad`. */
const oddValue = (
  schema: Schema,
  column: ImageColumn,
  images: Images,
  row: number,
  read: ReadValues,
  bad: Bad,
): Value | undefined => canonical(schema, column, read(column.logged, [imageOf(column, images, row)])[0], row, bad);

const canonical = (
  schema: Schema,
  { name, type }: ImageColumn,
  read: unknown,
  row: number,
  bad: Bad,
): Value | undefined => {
  try {
    const value = type.read(read);
    const problem = misfit(schema, value, '');
    if (problem === undefined) return value;
    bad(row, `column ${name}${problem}`);
  } catch (error) {
    bad(row, `column ${name}: ${(error as Error).message}`);
  }
  return undefined;
};

/** Value by value. */
const valuesColumn = (
  schema: Schema,
  column: ImageColumn,
  images: Images,
  state: Uint8Array,
  read: ReadValues,
  bad: Bad,
): Column => {
  const rows = [...state.keys()].filter((row) => state[row] === VALUE);
  const raw = read(
    column.logged,
    rows.map((row) => imageOf(column, images, row)),
  );
  const values: (Value | undefined)[] = Array.from(state, (one) => (one === NULL ? null : undefined));
  for (const [i, row] of rows.entries()) values[row] = canonical(schema, column, raw[i], row, bad);
  return columnOf(column.name, schema, values);
};

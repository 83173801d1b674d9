import { VALUE } from '../../shared/connect/batch.ts';
import { DOT, isDigit, MINUS, NINE, ZERO } from './ascii.ts';
import { type TextCells, textAt } from './convert.ts';

type Refuse = (row: number) => void;

const integerRange = { int8: [-128, 127], int16: [-32768, 32767], int32: [-2147483648, 2147483647] } as const;

/** So many digits are exact in a double. */
const exactDigits = 15;

/** The integer of up to 15 digits in data[from, to); NaN for any other text. */
const shortInteger = (data: Uint8Array, from: number, to: number): number => {
  let i = from;
  const negative = data[i] === MINUS;
  if (negative) i++;
  if (i === to || to - i > exactDigits) return Number.NaN;
  let value = 0;
  for (; i < to; i++) {
    const byte = data[i]!;
    if (byte < ZERO || byte > NINE) return Number.NaN;
    value = value * 10 + byte - ZERO;
  }
  return negative ? -value : value;
};

const wholeNumber = /^(-?\d+)(?:\.0*)?$/;

/** An integer of any length, also one written 5.0. */
const longInteger = (cells: TextCells, row: number): bigint | undefined => {
  const digits = wholeNumber.exec(textAt(cells, row))?.[1];
  return digits === undefined ? undefined : BigInt(digits);
};

export const convertInt = (cells: TextCells, type: keyof typeof integerRange, refuse: Refuse): Int32Array => {
  const { count, starts, ends, states } = cells;
  const { data } = cells.arena;
  const [min, max] = integerRange[type];
  const values = new Int32Array(count);
  for (let row = 0; row < count; row++) {
    if (states[row] !== VALUE) continue;
    let value = shortInteger(data, starts[row]!, ends[row]!);
    if (Number.isNaN(value)) value = Number(longInteger(cells, row) ?? Number.NaN);
    if (value >= min && value <= max) values[row] = value;
    else refuse(row);
  }
  return values;
};

export const convertInt64 = (cells: TextCells, refuse: Refuse): BigInt64Array => {
  const { count, starts, ends, states } = cells;
  const { data } = cells.arena;
  const values = new BigInt64Array(count);
  // Two halves per value, low one first on every machine that Node runs on: no bigint is made for a short number.
  const halves = new Int32Array(values.buffer);
  for (let row = 0; row < count; row++) {
    if (states[row] !== VALUE) continue;
    const value = shortInteger(data, starts[row]!, ends[row]!);
    if (!Number.isNaN(value)) {
      halves[row * 2] = value % 0x100000000;
      halves[row * 2 + 1] = Math.floor(value / 0x100000000);
      continue;
    }
    const long = longInteger(cells, row);
    if (long !== undefined && BigInt.asIntN(64, long) === long) values[row] = long;
    else refuse(row);
  }
  return values;
};

const powersOfTen = Array.from({ length: 16 }, (_, i) => 10 ** i);

/**
 * A decimal of up to 15 digits without exponent: both the digits and the power of ten are exact doubles, so their quotient is the
 * nearest double, as Number() gives it. NaN for any other text.
 */
const shortDecimal = (data: Uint8Array, from: number, to: number): number => {
  let i = from;
  const negative = data[i] === MINUS;
  if (negative) i++;
  if (to - i > exactDigits + 1) return Number.NaN;
  let digits = 0;
  let point = -1;
  const first = i;
  for (; i < to; i++) {
    const byte = data[i]!;
    if (byte >= ZERO && byte <= NINE) digits = digits * 10 + byte - ZERO;
    else if (byte === DOT && point < 0) point = i;
    else return Number.NaN;
  }
  const whole = (point < 0 ? to : point) - first;
  const fraction = point < 0 ? 0 : to - point - 1;
  if (whole === 0 || (point >= 0 && fraction === 0) || whole + fraction > exactDigits) return Number.NaN;
  const value = digits / powersOfTen[fraction]!;
  return negative ? -value : value;
};

const floatText = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
const notFinite = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
]);

/** The value of a float text; undefined where it is none, or too large or too small for the type. */
const longFloat = (text: string, round: (value: number) => number): number | undefined => {
  if (notFinite.has(text)) return notFinite.get(text);
  if (!floatText.test(text)) return undefined;
  const value = round(Number(text));
  const vanished = value === 0 && /[1-9]/.test(text.split(/e/i)[0]!);
  return Number.isFinite(value) && !vanished ? value : undefined;
};

export const convertFloat = (cells: TextCells, type: 'float32' | 'float64', refuse: Refuse): Float64Array => {
  const { count, starts, ends, states } = cells;
  const { data } = cells.arena;
  const round = type === 'float32' ? Math.fround : (value: number) => value;
  const values = new Float64Array(count);
  for (let row = 0; row < count; row++) {
    if (states[row] !== VALUE) continue;
    const short = shortDecimal(data, starts[row]!, ends[row]!);
    const value = Number.isNaN(short) ? longFloat(textAt(cells, row), round) : round(short);
    if (value === undefined) refuse(row);
    else values[row] = value;
  }
  return values;
};

const isWord = (data: Uint8Array, from: number, to: number, word: string): boolean => {
  if (to - from !== word.length) return false;
  for (let i = 0; i < word.length; i++) if ((data[from + i]! | 0x20) !== word.charCodeAt(i)) return false;
  return true;
};

/** `true` and `false`, in any case. */
export const convertBoolean = (cells: TextCells, refuse: Refuse): Uint8Array => {
  const { count, starts, ends, states } = cells;
  const { data } = cells.arena;
  const values = new Uint8Array(count);
  for (let row = 0; row < count; row++) {
    if (states[row] !== VALUE) continue;
    if (isWord(data, starts[row]!, ends[row]!, 'true')) values[row] = 1;
    else if (!isWord(data, starts[row]!, ends[row]!, 'false')) refuse(row);
  }
  return values;
};

/** Whether data[from, to) is a decimal without exponent that has room in precision and scale. */
export const isDecimal = (
  data: Uint8Array,
  from: number,
  to: number,
  precision: number | undefined,
  scale: number,
): boolean => {
  let i = data[from] === MINUS ? from + 1 : from;
  const first = i;
  while (i < to && isDigit(data[i])) i++;
  if (i === first) return false;
  const point = i;
  if (i < to && data[i] === DOT) while (++i < to && isDigit(data[i]));
  if (i < to || (point < to && i === point + 1)) return false;
  if (precision === undefined) return true;
  let whole = first;
  while (whole < point && data[whole] === ZERO) whole++;
  return point - whole <= precision - scale && Math.max(to - point - 1, 0) <= scale;
};

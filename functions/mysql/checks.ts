import { type BytesColumn, holdsJson } from '../../shared/connect/batch.ts';
import { bufferOf } from '../../shared/connect/buffers.ts';
import type { Schema } from '../../shared/connect/schema.ts';
import type { Check } from '../../shared/sql/layout.ts';
import { timeChange } from '../../shared/sql/time.ts';
import { type ColumnType, countsSpaces } from './types.ts';

const SPACE = 0x20;
const ZERO = 0x30;
const NINE = 0x39;
const DOT = 0x2e;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** What MySQL would change in silence, whatever the column. */
export const silentChange = (schema: Schema): Check | undefined => {
  if (schema.type !== 'float32' && schema.type !== 'float64') return timeChange(schema, 'MySQL');
  return (column, row) => {
    if (column.kind !== 'float64' || Number.isFinite(column.values[row]!)) return undefined;
    return `MySQL has no ${column.values[row]}`;
  };
};

/** What this very column would change in silence. */
export const columnCheck = (type: ColumnType, schema: Schema, isKey: boolean): Check | undefined => {
  if (schema.type === 'decimal' && type.base === 'decimal') return onBytes((at) => roundedDecimal(at, type.scale!));
  if (holdsJson(schema) && type.base === 'json') return onBytes(roundedNumber);
  if (schema.type !== 'string') return undefined;
  if (type.base === 'char') return onBytes(endingSpace('a column of type char drops the spaces at the end'));
  if (isKey && !countsSpaces(type.collation))
    return onBytes(endingSpace(`${type.collation} takes a key with spaces at its end for the one without`));
  return onBytes((at) => cutSpaces(at, type));
};

/** The bytes of a value. */
interface Span {
  readonly data: Buffer;
  readonly start: number;
  readonly end: number;
}

const onBytes = (check: (span: Span) => string | undefined): Check => {
  let seen: BytesColumn | undefined;
  let data: Buffer;
  return (column, row) => {
    if (column.kind !== 'bytes') return undefined;
    if (column !== seen) {
      seen = column;
      data = bufferOf(column.data);
    }
    return check({ data, start: column.starts[row]!, end: column.ends[row]! });
  };
};

const endsInSpace = ({ data, start, end }: Span) => end > start && data[end - 1] === SPACE;

const endingSpace = (problem: string) => (span: Span) => (endsInSpace(span) ? problem : undefined);

/** What is too long is refused, but for spaces at the end, which are cut off. */
const cutSpaces = (span: Span, { base, name, capacity }: ColumnType): string | undefined => {
  const { data, start, end } = span;
  if (end - start <= (capacity ?? 0) || !endsInSpace(span)) return undefined;
  if (base === 'varchar' && data.toString('utf8', start, end).length <= capacity!) return undefined;
  return `${name} would cut off the spaces at its end`;
};

const isDigit = (byte: number | undefined) => byte !== undefined && byte >= ZERO && byte <= NINE;

const roundedDecimal = ({ data, start, end }: Span, scale: number): string | undefined => {
  const dot = data.subarray(start, end).indexOf(DOT);
  if (dot === -1) return undefined;
  for (let at = start + dot + 1 + scale; at < end; at++)
    if (data[at] !== ZERO) return `the column keeps ${scale} digits after the point, this has more`;
  return undefined;
};

/** So many digits of any number are kept by a double. */
const SURE_DIGITS = 15;

/** MySQL's JSON has integers of 64 bits and doubles: more digits than that are rounded. */
const roundedNumber = ({ data, start, end }: Span): string | undefined => {
  for (let at = start; at < end; at++) {
    const byte = data[at]!;
    if (byte === QUOTE) {
      for (at++; data[at] !== QUOTE && at < end; at++) if (data[at] === BACKSLASH) at++;
    } else if (isDigit(byte)) {
      const first = at;
      while (at < end && (isDigit(data[at]) || data[at] === DOT || isExponent(data, at))) at++;
      if (at - first <= SURE_DIGITS) continue;
      const number = data.toString('latin1', first, at);
      if (!isKept(number, data[first - 1] === MINUS)) return `MySQL's JSON would round ${number}`;
    }
  }
  return undefined;
};

const MINUS = 0x2d;
const PLUS = 0x2b;
const SMALL_E = 0x65;
const LARGE_E = 0x45;

const isLetterE = (byte: number | undefined) => byte === SMALL_E || byte === LARGE_E;
const isExponent = (data: Buffer, at: number) =>
  isLetterE(data[at]) || ((data[at] === MINUS || data[at] === PLUS) && isLetterE(data[at - 1]));

const isKept = (number: string, isNegative: boolean): boolean => {
  if (/^\d+$/.test(number)) return BigInt(number) <= (isNegative ? 2n ** 63n : 2n ** 64n - 1n) || sameDigits(number);
  return sameDigits(number);
};

/** Whether the shortest text of the double is the same number. */
const sameDigits = (number: string): boolean => significant(number) === significant(String(Number(number)));

/** Digits and magnitude, so that 1.50e1 and 15 are the same. */
const significant = (number: string): string => {
  const [, whole = '', fraction = '', exponent = '0'] = /^(\d+)\.?(\d*)(?:[eE]([+-]?\d+))?$/.exec(number) ?? [];
  const digits = `${whole}${fraction}`.replace(/^0+/, '');
  const kept = digits.replace(/0+$/, '');
  return kept === '' ? '0' : `${kept}e${Number(exponent) - fraction.length + digits.length - kept.length}`;
};

import { type BytesColumn, holdsJson } from '../../shared/connect/batch.ts';
import { bufferOf } from '../../shared/connect/buffers.ts';
import type { Schema } from '../../shared/connect/schema.ts';
import type { Check } from '../../shared/sql/layout.ts';
import { timeChange } from '../../shared/sql/time.ts';
import { type ColumnType, countsSpaces } from './types.ts';

const MINUS = 0x2d;
const SPACE = 0x20;
const ZERO = 0x30;
const NINE = 0x39;
const DOT = 0x2e;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** What MySQL would change in silence, whatever the column. */
export const silentChange = (schema: Schema): Check | undefined => {
  if (schema.type === 'date' || schema.type === 'timestamp') return dateChange(timeChange(schema, 'MySQL')!);
  if (schema.type !== 'float32' && schema.type !== 'float64') return timeChange(schema, 'MySQL');
  return (column, row) => {
    if (column.kind !== 'float64' || Number.isFinite(column.values[row]!)) return undefined;
    return `MySQL has no ${column.values[row]}`;
  };
};

const YEAR_DIGITS = 4;

/** MySQL reads `12024-02-29` as another day. */
const dateChange =
  (others: Check): Check =>
  (column, row) => {
    const problem = others(column, row);
    if (problem !== undefined || column.kind !== 'bytes') return problem;
    return column.data[column.starts[row]! + YEAR_DIGITS] === MINUS ? undefined : "MySQL's years have four digits";
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

/** A number of so many bytes without an exponent is certainly kept. */
const SURE_BYTES = 15;

/** The numbers of MySQL's JSON are integers of 64 bits, else doubles, which it reads with an error in the last digits. */
const roundedNumber = ({ data, start, end }: Span): string | undefined => {
  for (let at = start; at < end; at++) {
    if (data[at] === QUOTE) at = endOfString(data, at, end);
    if (!isDigit(data[at])) continue;
    const first = at;
    while (at < end && isOfNumber(data[at]!)) at++;
    const number = data.toString('latin1', first, at);
    if ((number.length > SURE_BYTES || /e/i.test(number)) && !isKept(number, data[first - 1] === MINUS))
      return `a column of type json would round ${number}: make it longtext`;
  }
  return undefined;
};

const endOfString = (data: Buffer, from: number, end: number): number => {
  let at = from + 1;
  while (at < end && data[at] !== QUOTE) at += data[at] === BACKSLASH ? 2 : 1;
  return at;
};

const numberBytes = new Set(Buffer.from('0123456789.eE+-'));
const isOfNumber = (byte: number) => numberBytes.has(byte);

/** Powers of ten that a double holds exactly. */
const EXACT_POWERS = 22;

const isKept = (number: string, isNegative: boolean): boolean => {
  if (/^\d+$/.test(number)) return BigInt(number) <= (isNegative ? 2n ** 63n : 2n ** 64n - 1n);
  const [, whole = '', fraction = '', exponent = '0'] = /^(\d+)\.?(\d*)(?:[eE]([+-]?\d+))?$/.exec(number) ?? [];
  const power = Number(exponent) - fraction.length;
  return Number(`${whole}${fraction}`) <= Number.MAX_SAFE_INTEGER && Math.abs(power) <= EXACT_POWERS;
};

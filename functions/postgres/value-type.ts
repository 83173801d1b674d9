import { parseJson } from '../../shared/connect/json.ts';
import type { Schema, Value } from '../../shared/connect/schema.ts';
import { arrayItems } from './array-text.ts';

/** How the text of a value is read. */
export type Reading =
  | 'text'
  | 'integer'
  | 'int64'
  | 'float'
  | 'boolean'
  | 'bytes'
  | 'decimal'
  | 'date'
  | 'timestamp'
  | 'timestamptz'
  | 'json'
  | { readonly items: ValueType; readonly delimiter: string };

/** What a type's values become. */
export interface ValueType {
  readonly schema: Schema;
  readonly reading: Reading;
}

/** A type as the catalog has it, a domain as what it is made of. */
export interface CatalogType {
  readonly oid: number;
  /** The type's own, below any domains. */
  readonly base: number;
  /** The modifier that a domain gives it; -1: none. */
  readonly modifier: number;
  /** Of an array, the type of its items; else 0. */
  readonly items: number;
  readonly delimiter: string;
}

const textual: ValueType = { schema: { type: 'string' }, reading: 'text' };
const integer = (type: 'int16' | 'int32'): ValueType => ({ schema: { type }, reading: 'integer' });
const float = (type: 'float32' | 'float64'): ValueType => ({ schema: { type }, reading: 'float' });

/** By pg_type.oid, which is the same on every server. Every other type is a string, as PostgreSQL writes it. */
const builtIn: ReadonlyMap<number, ValueType> = new Map<number, ValueType>([
  [16, { schema: { type: 'boolean' }, reading: 'boolean' }],
  [17, { schema: { type: 'bytes' }, reading: 'bytes' }],
  [20, { schema: { type: 'int64' }, reading: 'int64' }],
  [21, integer('int16')],
  [23, integer('int32')],
  // oid: 32 bits without a sign.
  [26, { schema: { type: 'int64' }, reading: 'int64' }],
  [114, { schema: { type: 'any' }, reading: 'json' }],
  [3802, { schema: { type: 'any' }, reading: 'json' }],
  [700, float('float32')],
  [701, float('float64')],
  [1082, { schema: { type: 'date' }, reading: 'date' }],
  [1083, { schema: { type: 'time' }, reading: 'text' }],
  [1114, { schema: { type: 'timestamp', local: true }, reading: 'timestamp' }],
  [1184, { schema: { type: 'timestamp' }, reading: 'timestamptz' }],
  [2950, { schema: { type: 'uuid' }, reading: 'text' }],
]);
const NUMERIC = 1700;
/** Texts, which need no look into the catalog: name, text, xml, cidr, inet, bpchar, varchar, bit, varbit, interval, timetz. */
const textTypes = new Set([19, 25, 142, 650, 869, 1042, 1043, 1560, 1562, 1186, 1266]);

/** Whether the type says by itself what its values become. */
export const isKnown = (oid: number): boolean => builtIn.has(oid) || oid === NUMERIC || textTypes.has(oid);

/** What values of a column become; `catalog` has what `isKnown` does not. */
export const valueTypeOf = (
  oid: number,
  modifier: number,
  catalog: (oid: number) => CatalogType | undefined,
): ValueType => {
  if (oid === NUMERIC) return { schema: decimalSchema(modifier), reading: 'decimal' };
  if (isKnown(oid)) return builtIn.get(oid) ?? textual;
  const type = catalog(oid);
  if (type === undefined) return textual;
  const inner = type.modifier === -1 ? modifier : type.modifier;
  if (type.items === 0) return type.base === oid ? textual : valueTypeOf(type.base, inner, catalog);
  const items = valueTypeOf(type.items, inner, catalog);
  const schema: Schema = { type: 'array', items: { ...items.schema, optional: true } };
  return { schema, reading: { items, delimiter: type.delimiter } };
};

/** A scale below zero, or above the precision, has no canonical form. */
const decimalSchema = (modifier: number): Schema => {
  const precision = ((modifier - 4) >> 16) & 0xffff;
  const scale = (((modifier - 4) & 0x7ff) ^ 0x400) - 0x400;
  return modifier === -1 || scale < 0 || scale > precision
    ? { type: 'decimal' }
    : { type: 'decimal', precision, scale };
};

/** Why a text is none of its type's canonical values; undefined where it is one. */
export const problemOf = (reading: Reading, last: number, first: number): string | undefined => {
  switch (reading) {
    case 'decimal':
      return isDigit(last) ? undefined : 'a decimal has digits only';
    case 'date':
    case 'timestamp':
    case 'timestamptz':
      return isDigit(first) && isDigit(last) ? undefined : 'it has no place in the calendar of years 1 to 999999';
    default:
      return undefined;
  }
};

const isDigit = (byte: number): boolean => byte >= 0x30 && byte <= 0x39;

/** An item of an array, from its text. Throws where the canonical type has no such value. */
const itemValue = ({ schema, reading }: ValueType, text: string): Value => {
  if (typeof reading === 'object') return arrayValue(reading, text);
  const problem = problemOf(reading, text.charCodeAt(text.length - 1), text.charCodeAt(0));
  if (problem !== undefined) throw new RangeError(`${schema.type} ${text}: ${problem}`);
  switch (reading) {
    case 'integer':
    case 'float':
      return Number(text);
    case 'int64':
      return BigInt(text);
    case 'boolean':
      return text === 't';
    case 'bytes':
      return Buffer.from(text.slice(2), 'hex');
    case 'json':
      return parseJson(text);
    case 'timestamp':
      return text.replace(' ', 'T');
    case 'timestamptz':
      return `${text.slice(0, -3).replace(' ', 'T')}Z`;
    default:
      return text;
  }
};

/** Throws where a list cannot hold it. */
export const arrayValue = (
  { items, delimiter }: Extract<Reading, { readonly items: ValueType }>,
  text: string,
): Value => {
  const found = arrayItems(text, delimiter);
  if (found === undefined)
    throw new RangeError('an array of several dimensions, or one that does not begin at 1, is no list');
  return found.map((item) => (item === null ? null : itemValue(items, item)));
};

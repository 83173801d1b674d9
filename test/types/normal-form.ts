import type { Schema } from '../../shared/connect/schema.ts';
import { decimalParts, printed } from '../kit/canonical-values.ts';

/**
 * A value in the form that two systems must agree on, from the text that either of them writes. Zeros that say nothing go, and so does the sign of a
 * zero.
 */
export const normalForm = (schema: Schema, text: string): string => {
  switch (schema.type) {
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
      return text.replace(/\.0+$/, '').replace(/^(-?)0+(?=\d)/, '$1');
    case 'float32':
      return String(Math.fround(Number(text)));
    case 'float64':
      return String(Number(text));
    case 'boolean':
      return String(['1', 't', 'true'].includes(text));
    case 'bytes':
      return text.toLowerCase();
    case 'decimal':
      return decimalParts(text).replace(/^-\.$/, '.');
    case 'time':
      return printed(text);
    case 'timestamp':
      return printed(text.replace(' ', 'T').replace(/(Z|\+00(:00)?)$/, ''));
    case 'any':
    case 'map':
    case 'struct':
      return JSON.stringify(sorted(parse(text)));
    case 'array':
      return JSON.stringify((parse(text) as unknown[]).map((item) => itemForm(schema.items, item)));
    default:
      return text;
  }
};

const itemForm = (schema: Schema, item: unknown): unknown => {
  if (item === null || schema.type === 'any') return sorted(item);
  const text = item instanceof Exact ? item.digits : String(item);
  // PostgreSQL's own JSON has bytes in hexadecimal digits, ours in base64.
  if (schema.type === 'bytes')
    return text.startsWith('\\x') ? text.slice(2) : Buffer.from(text, 'base64').toString('hex');
  return normalForm(schema, text);
};

/** A number of JSON, none of whose digits is lost. */
class Exact {
  readonly digits: string;
  constructor(digits: string) {
    this.digits = digits;
  }
  toJSON() {
    const [, sign = '', whole = '', fraction = '', power = '0'] = /^(-?)(\d+)\.?(\d*)(?:[eE]([+-]?\d+))?$/.exec(
      this.digits,
    )!;
    const digits = `${whole}${fraction}`.replace(/^0+/, '').replace(/0+$/, '');
    if (digits === '') return 'number 0';
    const zeros = `${whole}${fraction}`.length - `${whole}${fraction}`.replace(/0+$/, '').length;
    return `number ${sign}${digits}e${Number(power) - fraction.length + zeros}`;
  }
}

const parse = (text: string): unknown =>
  (
    JSON.parse as (
      text: string,
      revive: (key: string, value: unknown, context: { source: string }) => unknown,
    ) => unknown
  )(text, (_, value, { source }) => (typeof value === 'number' ? new Exact(source) : value));

/** Objects with their names in order: jsonb and MySQL's json sort them. */
const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object' || value instanceof Exact) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, one]) => [name, sorted(one)]),
  );
};

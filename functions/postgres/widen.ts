import type { Schema } from '../../shared/connect/schema.ts';
import { bothDigits, type Digits, digitsOf, holdsDigits, unbounded } from '../../shared/sql/evolve.ts';
import { type ColumnType, columnType, modifierDigits, takes } from './types.ts';

/**
 * The type that holds what a column has and what the records carry; undefined: it stays as it is. `isEvolved`: a column of another kind
 * becomes a text, where its values have one that says all of them. The length of a text is told by no record, so none is changed.
 */
export const widened = (type: ColumnType, schema: Schema, isEvolved: boolean): string | undefined => {
  // A domain is somebody's decision.
  if (type.name.replace(/\(.*?\)/, '') !== type.base) return undefined;
  const wider = widerNumber(type, schema) ?? widerTime(type, schema);
  if (wider !== undefined || !isEvolved || takes(type, schema)) return wider;
  const isText = texts.includes(type.base) || type.category === 'E';
  return isText && takes(asText, schema) ? 'text' : undefined;
};

const asText: ColumnType = { name: 'text', base: 'text', category: 'S', modifier: -1 };

/** Types of which a text is as good as the value. */
const texts = [
  ...['smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision'],
  ...['boolean', 'uuid', 'date', 'time without time zone'],
];

const integers: { readonly [base: string]: number } = { smallint: 5, integer: 10, bigint: 19 };

const digitsOfColumn = ({ base, modifier }: ColumnType): Digits | undefined => {
  if (base in integers) return { whole: integers[base]!, scale: 0 };
  if (base !== 'numeric') return undefined;
  return modifier === -1 ? unbounded : modifierDigits(modifier);
};

const widerNumber = (type: ColumnType, schema: Schema): string | undefined => {
  const want = digitsOf(schema);
  if (want === undefined)
    return schema.type === 'float32' || schema.type === 'float64' ? floating(type, schema) : undefined;
  // An integer of 32 bits is exact in a double, not in a real.
  if (type.base === 'real')
    return want.scale === 0 && want.whole > 5 && want.whole <= 10 ? 'double precision' : undefined;
  const have = digitsOfColumn(type);
  if (have === undefined) return undefined;
  if (holdsDigits(have, want) && takes(type, schema)) return undefined;
  if (type.base !== 'numeric' && schema.type !== 'decimal') return columnType(schema);
  const both = bothDigits(have, want);
  return Number.isFinite(both.whole) ? `numeric(${both.whole + both.scale},${both.scale})` : 'numeric';
};

/** For a number with a floating point. */
const floating = (type: ColumnType, { type: kind }: Schema): string | undefined => {
  if (type.base === 'real') return kind === 'float64' ? 'double precision' : undefined;
  if (type.base === 'smallint' || type.base === 'integer') return 'double precision';
  if (type.base === 'bigint' || (type.base === 'numeric' && type.modifier !== -1)) return 'numeric';
  return undefined;
};

const widerTime = (type: ColumnType, schema: Schema): string | undefined =>
  type.base.startsWith('time') && type.modifier >= 0 && type.modifier < 6 && takes({ ...type, modifier: 6 }, schema)
    ? type.base
    : undefined;

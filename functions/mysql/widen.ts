import type { Schema } from '../../shared/connect/schema.ts';
import { bothDigits, type Digits, digitsOf, holdsDigits } from '../../shared/sql/evolve.ts';
import { type ColumnType, columnType, decimalFits, takes } from './types.ts';

/**
 * The type that holds what a column has and what the records carry; undefined: it stays as it is. `isEvolved`: a column of another kind
 * becomes a text, where its values have one that says all of them. The length of a text is told by no record, so none is changed.
 */
export const widened = (type: ColumnType, schema: Schema, isEvolved: boolean): string | undefined => {
  const wider = widerNumber(type, schema) ?? widerTime(type, schema);
  if (wider !== undefined || !isEvolved || takes(type, schema)) return wider;
  const text = columnType({ type: 'string' } as Schema);
  return texts.includes(type.base) && takes({ ...type, base: 'longtext' }, schema) ? text : undefined;
};

/** Types of which a text is as good as the value; a float shows six of its digits. */
const texts = [
  ...['tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal', 'double'],
  ...['date', 'time', 'year', 'enum', 'set', 'uuid'],
];

const integers: { readonly [base: string]: number } = { tinyint: 3, smallint: 5, mediumint: 7, int: 10, bigint: 19 };

const digitsOfColumn = ({ base, name }: ColumnType): Digits | undefined => {
  // Numbers without a sign have other bounds, and are somebody's decision.
  if (name.includes('unsigned')) return undefined;
  if (base in integers) return { whole: integers[base]!, scale: 0 };
  const [, precision, scale] = /^decimal\((\d+),(\d+)\)/.exec(name) ?? [];
  return precision === undefined ? undefined : { whole: Number(precision) - Number(scale), scale: Number(scale) };
};

const widerNumber = (type: ColumnType, schema: Schema): string | undefined => {
  const want = digitsOf(schema);
  if (want === undefined)
    return schema.type === 'float32' || schema.type === 'float64' ? floating(type, schema) : undefined;
  const have = digitsOfColumn(type);
  if (have === undefined) return undefined;
  if (holdsDigits(have, want) && takes(type, schema)) return undefined;
  if (type.base !== 'decimal' && schema.type !== 'decimal') return columnType(schema);
  const { whole, scale } = bothDigits(have, want);
  return decimalFits(whole + scale, scale) ? `decimal(${whole + scale},${scale})` : undefined;
};

/** For a number with a floating point. A type with a scale rounds. */
const floating = (type: ColumnType, { type: kind }: Schema): string | undefined => {
  if (type.base === 'float') return kind === 'float64' || type.scale !== null ? 'double' : undefined;
  if (type.base === 'double') return type.scale !== null ? 'double' : undefined;
  const isExact = type.base in integers && (digitsOfColumn(type)?.whole ?? Number.POSITIVE_INFINITY) <= 10;
  return isExact ? 'double' : undefined;
};

const widerTime = (type: ColumnType, schema: Schema): string | undefined =>
  type.fraction !== null && type.fraction < 6 && takes({ ...type, fraction: 6 }, schema) && !takes(type, schema)
    ? `${type.base}(6)`
    : undefined;

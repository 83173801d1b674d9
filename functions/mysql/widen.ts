import type { Schema } from '../../shared/connect/schema.ts';
import { bothDigits, type Digits, digitsOf } from '../../shared/sql/evolve.ts';
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
  const have = digitsOfColumn(type);
  if (schema.type === 'float32' || schema.type === 'float64') {
    const isShort = type.base === 'float' || type.base === 'double' ? type.scale !== null : (have?.whole ?? 19) <= 10;
    if (type.base === 'float' && schema.type === 'float64') return 'double';
    return isShort && type.base !== 'decimal' ? 'double' : undefined;
  }
  const want = digitsOf(schema);
  if (have === undefined || want === undefined) return undefined;
  const both = bothDigits(have, want);
  const isWide = both.whole === have.whole && both.scale === have.scale;
  if (isWide && takes(type, schema)) return undefined;
  if (type.base !== 'decimal' && schema.type !== 'decimal') return columnType(schema);
  const precision = both.whole + both.scale;
  return decimalFits(precision, both.scale) ? `decimal(${precision},${both.scale})` : undefined;
};

const widerTime = (type: ColumnType, schema: Schema): string | undefined =>
  type.fraction !== null && type.fraction < 6 && takes({ ...type, fraction: 6 }, schema) && !takes(type, schema)
    ? `${type.base}(6)`
    : undefined;

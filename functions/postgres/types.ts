import { bufferOf } from '../../shared/connect/buffers.ts';
import { describeSchema, type Schema } from '../../shared/connect/schema.ts';
import type { Check } from '../../shared/sql/layout.ts';
import { timeChange } from '../../shared/sql/time.ts';

/** The column type that holds every value of a schema. */
export const columnType = (schema: Schema): string => {
  switch (schema.type) {
    case 'int8':
    case 'int16':
      return 'smallint';
    case 'int32':
      return 'integer';
    case 'int64':
      return 'bigint';
    case 'float32':
      return 'real';
    case 'float64':
      return 'double precision';
    case 'boolean':
      return 'boolean';
    case 'string':
      return 'text';
    case 'bytes':
      return 'bytea';
    case 'decimal':
      return schema.precision === undefined ? 'numeric' : `numeric(${schema.precision},${schema.scale ?? 0})`;
    case 'date':
      return 'date';
    case 'time':
      return 'time';
    case 'timestamp':
      return schema.local ? 'timestamp' : 'timestamptz';
    case 'uuid':
      return 'uuid';
    case 'any':
    case 'array':
    case 'map':
    case 'struct':
      return 'jsonb';
  }
};

/** Types of text that cut what is longer in silence. */
const cutting = ['name', '"char"'];

/** The type of a column that exists. */
export interface ColumnType {
  /** As PostgreSQL writes it: `numeric(5,2)`, `character varying(3)`. */
  readonly name: string;
  /** Without its modifier, and a domain's underlying type. */
  readonly base: string;
  /** pg_type.typcategory: S is text, E an enum. */
  readonly category: string;
  /** pg_attribute.atttypmod; -1: none. */
  readonly modifier: number;
}

const integers = ['smallint', 'integer', 'bigint'];

/** Types, besides text, that take a canonical type's values. */
const takers: { readonly [type in Schema['type']]: readonly string[] } = {
  int8: [...integers, 'numeric', 'real', 'double precision'],
  int16: [...integers, 'numeric', 'real', 'double precision'],
  int32: [...integers, 'numeric', 'double precision'],
  int64: [...integers, 'numeric'],
  float32: ['real', 'double precision', 'numeric'],
  float64: ['double precision', 'numeric'],
  boolean: ['boolean'],
  string: ['uuid'],
  bytes: ['bytea'],
  decimal: ['numeric'],
  date: ['date'],
  time: ['time without time zone'],
  timestamp: ['timestamp with time zone', 'timestamp without time zone'],
  uuid: ['uuid'],
  any: ['jsonb', 'json'],
  array: ['jsonb', 'json'],
  map: ['jsonb', 'json'],
  struct: ['jsonb', 'json'],
};

/**
 * Whether a column that exists takes the values of a schema: each one arrives as it is, or PostgreSQL refuses it, which is a row
 * error. A column that would round or shift a value in silence takes none.
 */
export const takes = (type: ColumnType, schema: Schema): boolean => {
  if (cutting.includes(type.base)) return false;
  if (type.category === 'S') return !takers[schema.type].includes('jsonb') && schema.type !== 'bytes';
  if (type.category === 'E') return schema.type === 'string';
  if (!takers[schema.type].includes(type.base)) return false;
  // A wall clock in a column with a zone would be shifted by the session's.
  if (schema.type === 'timestamp' && schema.local && type.base.endsWith('with time zone')) return false;
  if (type.modifier === -1) return true;
  if (type.base === 'numeric') return scaleOf(type.modifier) >= digitsAfterPoint(schema);
  return !type.base.startsWith('time') || type.modifier >= 6;
};

/** The digits of a numeric by its modifier. */
export const modifierDigits = (modifier: number): { readonly whole: number; readonly scale: number } => {
  const scale = scaleOf(modifier);
  return { whole: ((modifier - 4) >> 16) - scale, scale };
};

/** The scale of a numeric's modifier: its low 11 bits, signed, after an offset of 4. */
const scaleOf = (modifier: number): number => (((modifier - 4) & 0x7ff) ^ 0x400) - 0x400;

const digitsAfterPoint = (schema: Schema): number => {
  switch (schema.type) {
    case 'decimal':
      return schema.precision === undefined ? Number.POSITIVE_INFINITY : (schema.scale ?? 0);
    case 'float32':
    case 'float64':
      return Number.POSITIVE_INFINITY;
    default:
      return 0;
  }
};

export const silentChange = (schema: Schema) => timeChange(schema, 'PostgreSQL');

const SPACE = 0x20;
/** What a modifier has more than the characters that it allows. */
const MODIFIER_OFFSET = 4;

/** What this very column would change in silence: spaces at the end, of which SQL says that they may go. */
export const columnCheck = ({ base, name, modifier }: ColumnType, schema: Schema): Check | undefined => {
  const isPadded = base === 'character';
  if (schema.type !== 'string' || !(isPadded || (base === 'character varying' && modifier !== -1))) return undefined;
  return (column, row) => {
    if (column.kind !== 'bytes') return undefined;
    const { data, starts, ends } = column;
    const [start, end] = [starts[row]!, ends[row]!];
    if (start === end || data[end - 1] !== SPACE) return undefined;
    if (isPadded) return `${name} drops the spaces at the end`;
    const text = bufferOf(data).toString('utf8', start, end);
    return [...text].length > modifier - MODIFIER_OFFSET ? `${name} would cut off the spaces at its end` : undefined;
  };
};

/** What to say of a column that does not take a schema's values. */
export const describeMisfit = (type: ColumnType, schema: Schema): string =>
  `is ${type.name}, the records carry ${describeSchema({ ...schema, optional: false } as Schema)}, which needs ${columnType(schema)}`;

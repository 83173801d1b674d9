import { describeSchema, type Schema } from '../../shared/connect/schema.ts';

/** The largest that a decimal of MySQL can be. */
const MAX_DIGITS = 65;
const MAX_SCALE = 30;

export const decimalFits = (precision: number, scale: number): boolean =>
  precision <= MAX_DIGITS && scale >= 0 && scale <= Math.min(precision, MAX_SCALE);

const text = (type: string, charset = 'utf8mb4') => `${type} CHARACTER SET ${charset}`;

/** The column type that holds every value of a schema, or refuses it aloud. */
export const columnType = (schema: Schema): string => {
  switch (schema.type) {
    case 'int8':
      return 'tinyint';
    case 'int16':
      return 'smallint';
    case 'int32':
      return 'int';
    case 'int64':
      return 'bigint';
    // A float's own type shows six digits of it.
    case 'float32':
    case 'float64':
      return 'double';
    case 'boolean':
      return 'tinyint(1)';
    // JSON too: MySQL's own type rounds numbers and sorts keys, MariaDB's is this with a check.
    case 'string':
    case 'any':
    case 'array':
    case 'map':
    case 'struct':
      return text('longtext');
    case 'bytes':
      return 'longblob';
    case 'decimal': {
      const { precision = MAX_DIGITS, scale = schema.precision === undefined ? MAX_SCALE : 0 } = schema;
      return decimalFits(precision, scale) ? `decimal(${precision},${scale})` : `decimal(${MAX_DIGITS},${MAX_SCALE})`;
    }
    case 'date':
      return 'date';
    case 'time':
      return 'time(6)';
    case 'timestamp':
      return 'datetime(6)';
    case 'uuid':
      return text('char(36)', 'ascii');
  }
};

/** Bytes that InnoDB has for a key. */
const KEY_BYTES = 3072;
const BYTES_PER_CHARACTER = 4;

/** The types of a primary key's columns: text and bytes are as long as there is room for. */
export const keyTypes = (schemas: readonly Schema[], collation: string): readonly string[] => {
  const isLong = ({ type }: Schema) => type === 'string' || type === 'bytes';
  const fixed = schemas.reduce((sum, schema) => sum + (isLong(schema) ? 0 : keyBytes(schema)), 0);
  const room = Math.floor((KEY_BYTES - fixed) / Math.max(schemas.filter(isLong).length, 1));
  return schemas.map((schema) => {
    if (schema.type === 'bytes') return `varbinary(${room})`;
    if (schema.type !== 'string') return columnType(schema);
    return `${text(`varchar(${Math.floor(room / BYTES_PER_CHARACTER)})`)} COLLATE ${collation}`;
  });
};

const keyBytes = ({ type }: Schema): number => (type === 'uuid' || type === 'decimal' ? 36 : 8);

/** A column that exists, as information_schema has it. */
export interface ColumnType {
  /** `decimal(5,2)`, `varchar(3)`. */
  readonly name: string;
  readonly base: string;
  /** Characters of char and varchar, bytes of other texts. */
  readonly capacity: number | null;
  readonly collation: string | null;
  readonly scale: number | null;
  /** Digits of a second's fraction. */
  readonly fraction: number | null;
  readonly nullable: boolean;
}

const integers = ['tinyint', 'smallint', 'mediumint', 'int', 'bigint'];
const texts = ['char', 'varchar', 'tinytext', 'text', 'mediumtext', 'longtext'];
const small = [...integers, 'decimal', 'double', ...texts];
const json = ['json', 'varchar', 'tinytext', 'text', 'mediumtext', 'longtext'];

const takers: { readonly [type in Schema['type']]: readonly string[] } = {
  int8: small,
  int16: small,
  int32: small,
  int64: [...integers, 'decimal', ...texts],
  float32: ['double', 'float', ...texts],
  float64: ['double', ...texts],
  boolean: [...integers, 'bit'],
  string: texts,
  bytes: ['varbinary', 'tinyblob', 'blob', 'mediumblob', 'longblob'],
  decimal: ['decimal', ...texts],
  date: ['date', ...texts],
  time: ['time', ...texts],
  timestamp: ['datetime', 'timestamp', ...texts],
  uuid: ['uuid', ...texts],
  any: json,
  array: json,
  map: json,
  struct: json,
};

export const isText = ({ base }: ColumnType): boolean => texts.includes(base);

/**
 * Whether a column that exists takes the values of a schema: each one arrives as it is, or it is refused, by MySQL or by a check, which
 * is a row error. A column that would round or shift most values in silence takes none.
 */
export const takes = (type: ColumnType, schema: Schema): boolean => {
  if (!takers[schema.type].includes(type.base)) return false;
  if (isText(type)) return true;
  // A wall clock in a column with a zone would be shifted by the session's.
  if (schema.type === 'timestamp' && schema.local && type.base === 'timestamp') return false;
  if (schema.type === 'time' || schema.type === 'timestamp') return type.fraction === 6;
  // double(10,2) rounds.
  if (schema.type === 'float32' || schema.type === 'float64') return type.scale === null;
  return schema.type !== 'decimal' || type.scale! >= (schema.precision === undefined ? 0 : (schema.scale ?? 0));
};

/** Why a column cannot be part of a key for the values of a schema; undefined where it can. */
export const keyMisfit = (type: ColumnType, schema: Schema): string | undefined => {
  if (type.base === 'float') return 'is a float, which is not equal to itself';
  if (type.nullable) return 'may be null';
  if (schema.type !== 'string' || isBinary(type.collation)) return undefined;
  return `compares by ${type.collation}, which takes different keys for one`;
};

const isBinary = (collation: string | null): boolean => collation === null || /(^|_)bin(ary)?$/.test(collation);

/** Whether spaces at the end count for equality. */
export const countsSpaces = (collation: string | null): boolean => /_nopad_|_0900_/.test(collation ?? '');

/** What to say of a column that does not take a schema's values. */
export const describeMisfit = (type: ColumnType, schema: Schema): string =>
  `is ${type.name}, the records carry ${describeSchema({ ...schema, optional: false } as Schema)}, which needs ${columnType(schema)}`;

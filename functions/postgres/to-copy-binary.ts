import { type BytesColumn, type FlatColumn, holdsJson } from '../../shared/connect/batch.ts';
import { bufferOf } from '../../shared/connect/buffers.ts';
import type { Schema } from '../../shared/connect/schema.ts';
import { putBytes, reserve, type TextOutput } from '../../shared/connect/text-output.ts';
import { type CopyField, hasValue } from '../../shared/connect/to-copy-text.ts';
import { binaryDate, binaryNumeric, binaryTime, binaryTimestamp, binaryUuid, putInt32 } from './binary-values.ts';
import type { ColumnType } from './types.ts';

/** A column of the output, and the column of the table that it goes to. */
export interface BinaryField extends CopyField {
  readonly type: ColumnType;
}

/** A value that the binary form has no place for, or that may be none: its text is for the server to judge. */
export class UnusualValue extends Error {}

/** Puts a row's value where there is room for it, without its length, and returns the index behind it; -1: it is unusual. */
export type PutValue = (target: Buffer, at: number, row: number) => number;

const integers: readonly Schema['type'][] = ['int8', 'int16', 'int32', 'int64'];
const texts: readonly Schema['type'][] = ['string', 'decimal', 'date', 'time', 'timestamp', 'uuid'];
const json: readonly Schema['type'][] = ['any', 'array', 'map', 'struct'];

/** The canonical types that are written in binary, by the type of the table's column: where the server's texts mean the same. */
const forms: { readonly [base: string]: readonly Schema['type'][] } = {
  smallint: integers,
  integer: integers,
  bigint: integers,
  real: ['float32'],
  'double precision': ['float32', 'float64'],
  boolean: ['boolean'],
  numeric: ['decimal'],
  text: texts,
  'character varying': texts,
  character: texts,
  bytea: ['bytes'],
  date: ['date'],
  'time without time zone': ['time'],
  'timestamp without time zone': ['timestamp'],
  'timestamp with time zone': ['timestamp'],
  uuid: ['uuid'],
  json,
  jsonb: json,
};

export const hasBinary = ({ base }: ColumnType, schema: Schema): boolean => forms[base]?.includes(schema.type) ?? false;

const NULL_LENGTH = -1;

/** "PGCOPY\n\377\r\n\0", no flags, no extension. */
export const copyHeader = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
export const copyTrailer = Buffer.from([0xff, 0xff]);

/**
 * Appends rows [from, to) in the binary format of PostgreSQL's COPY, which takes the server a third less time than their texts
 * (https://www.postgresql.org/docs/current/sql-copy.html, each type's form as its `recv` function reads it). Throws UnusualValue.
 */
export const toCopyBinary = (fields: readonly BinaryField[], from: number, to: number, out: TextOutput): void => {
  const putters = fields.map((field) => putterOf(field, from, to));
  const perRow = 2 + 4 * fields.length;
  reserve(
    out,
    putters.reduce((sum, { mostBytes }) => sum + mostBytes, perRow * (to - from)),
  );
  const target = out.data;
  let at = out.length;
  for (let row = from; row < to; row++) {
    target[at++] = fields.length >> 8;
    target[at++] = fields.length & 0xff;
    for (let i = 0; i < fields.length; i++) {
      const start = at + 4;
      const { put, isOptional } = putters[i]!;
      if (isOptional && !hasValue(fields[i]!, row)) {
        at = putInt32(target, at, NULL_LENGTH);
        continue;
      }
      const end = put(target, start, row);
      if (end < 0) throw new UnusualValue(`column ${fields[i]!.column.name} has a value that is written as text`);
      putInt32(target, at, end - start);
      at = end;
    }
  }
  out.length = at;
};

interface Putter {
  readonly put: PutValue;
  readonly mostBytes: number;
  /** Whether some row may have no value. */
  readonly isOptional: boolean;
}

const putterOf = (field: BinaryField, from: number, to: number): Putter => {
  const { column, type, nulls } = field;
  const isOptional = column.state !== undefined || nulls !== undefined;
  if (column.kind === 'bytes') return { isOptional, ...bytesPutter(field, column, from, to) };
  return { isOptional, put: numberPutter(column, type.base), mostBytes: 8 * (to - from) };
};

const numberPutter = (column: Exclude<FlatColumn, BytesColumn>, base: string): PutValue => {
  switch (column.kind) {
    case 'boolean': {
      const { values } = column;
      return (target, at, row) => {
        target[at] = values[row]!;
        return at + 1;
      };
    }
    case 'float64': {
      const { values } = column;
      if (base !== 'real') return (target, at, row) => target.writeDoubleBE(values[row]!, at);
      return (target, at, row) => {
        const value = values[row]!;
        return Object.is(Math.fround(value), value) ? target.writeFloatBE(value, at) : -1;
      };
    }
    case 'int32': {
      const { values } = column;
      return integerPutter(
        base,
        (row) => values[row]!,
        (row) => values[row]! >> 31,
      );
    }
    case 'int64': {
      // Little-endian, as every processor is that Node runs on.
      const { buffer, byteOffset, length } = column.values;
      const halves = new Int32Array(buffer, byteOffset, 2 * length);
      return integerPutter(
        base,
        (row) => halves[2 * row]!,
        (row) => halves[2 * row + 1]!,
      );
    }
  }
};

/** `low` and `high`: the halves of a row's value. What is too large for the column is for the server to refuse. */
const integerPutter = (base: string, low: (row: number) => number, high: (row: number) => number): PutValue => {
  if (base === 'bigint') return (target, at, row) => putInt32(target, putInt32(target, at, high(row)), low(row));
  if (base === 'integer')
    return (target, at, row) => (high(row) === low(row) >> 31 ? putInt32(target, at, low(row)) : -1);
  return (target, at, row) => {
    const value = low(row);
    if (high(row) !== value >> 31 || (value << 16) >> 16 !== value) return -1;
    target[at] = value >> 8;
    target[at + 1] = value;
    return at + 2;
  };
};

const bytesPutter = (field: BinaryField, column: BytesColumn, from: number, to: number): Omit<Putter, 'isOptional'> => {
  const { schema, starts, ends } = column;
  const { base } = field.type;
  const data = bufferOf(column.data);
  const count = to - from;
  const fixed = fixedForms[base];
  if (fixed !== undefined)
    return { mostBytes: 16 * count, put: (target, at, row) => fixed(data, starts[row]!, ends[row]!, target, at) };
  let bytes = 0;
  for (let row = from; row < to; row++) if (hasValue(field, row)) bytes += ends[row]! - starts[row]!;
  if (base === 'numeric')
    return {
      // A group of four digits takes two bytes, and one may be begun on either side of the point.
      mostBytes: bytes + 12 * count,
      put: (target, at, row) => binaryNumeric(data, starts[row]!, ends[row]!, target, at),
    };
  const put: PutValue = (target, at, row) => putBytes(target, at, data, starts[row]!, ends[row]!);
  if (base !== 'jsonb' || !holdsJson(schema)) return { mostBytes: bytes, put };
  return {
    mostBytes: bytes + count,
    put(target, at, row) {
      target[at] = jsonbVersion;
      return put(target, at + 1, row);
    },
  };
};

const jsonbVersion = 1;

const fixedForms: { readonly [base: string]: typeof binaryDate } = {
  date: binaryDate,
  'time without time zone': binaryTime,
  'timestamp without time zone': binaryTimestamp,
  'timestamp with time zone': binaryTimestamp,
  uuid: binaryUuid,
};

import type { SchemaElement } from 'hyparquet-writer';
import { type BytesColumn, type Column, type FlatColumn, holdsJson, VALUE } from '../../shared/connect/batch.ts';
import { ConnectError, rowError } from '../../shared/connect/errors.ts';
import type { Schema } from '../../shared/connect/schema.ts';
import { flatColumn } from '../../shared/connect/to-json-lines.ts';
import { daysOf, microsOfTime, microsOfTimestamp, unscaled } from './parquet-text.ts';

/** What engines read as DECIMAL; a wider one, or one without precision, is a string of its digits. */
const maxPrecision = 38;

const isDecimal = ({ type, precision, scale = 0 }: DecimalSchema): boolean =>
  type === 'decimal' && precision !== undefined && precision <= maxPrecision && scale >= 0 && scale <= precision;

type DecimalSchema = { readonly type: string; readonly precision?: number; readonly scale?: number };

/**
 * The Parquet column of a canonical type. Always optional, so that the files of a topic have one schema whether or not a batch
 * had nulls; a missing field is null. Nested and undeclared values are JSON text.
 */
export const parquetElement = (name: string, schema: Schema): SchemaElement => {
  const column = { name, repetition_type: 'OPTIONAL' } as const;
  switch (schema.type) {
    case 'int8':
    case 'int16':
    case 'int32':
      return { ...column, type: 'INT32' };
    case 'int64':
      return { ...column, type: 'INT64' };
    case 'float32':
      return { ...column, type: 'FLOAT' };
    case 'float64':
      return { ...column, type: 'DOUBLE' };
    case 'boolean':
      return { ...column, type: 'BOOLEAN' };
    case 'bytes':
      return { ...column, type: 'BYTE_ARRAY' };
    case 'date':
      return { ...column, type: 'INT32', converted_type: 'DATE', logical_type: { type: 'DATE' } };
    case 'time':
      return { ...column, type: 'INT64', logical_type: { type: 'TIME', isAdjustedToUTC: false, unit: 'MICROS' } };
    case 'timestamp': {
      const isAdjustedToUTC = !schema.local;
      const logical_type = { type: 'TIMESTAMP', isAdjustedToUTC, unit: 'MICROS' } as const;
      // The older annotation means UTC.
      return {
        ...column,
        type: 'INT64',
        logical_type,
        ...(isAdjustedToUTC ? { converted_type: 'TIMESTAMP_MICROS' } : {}),
      };
    }
    case 'decimal':
      if (isDecimal(schema)) return { ...column, ...decimalElement(schema.precision!, schema.scale ?? 0) };
      break;
    case 'any':
    case 'array':
    case 'map':
    case 'struct':
      // Without the older annotation, at which the library would parse and write the text anew.
      return { ...column, type: 'BYTE_ARRAY', logical_type: { type: 'JSON' } };
  }
  return { ...column, type: 'BYTE_ARRAY', converted_type: 'UTF8', logical_type: { type: 'STRING' } };
};

const decimalElement = (precision: number, scale: number): Omit<SchemaElement, 'name'> => ({
  ...(precision <= 9
    ? { type: 'INT32' }
    : precision <= 18
      ? { type: 'INT64' }
      : { type: 'FIXED_LEN_BYTE_ARRAY', type_length: bytesOfPrecision(precision) }),
  converted_type: 'DECIMAL',
  precision,
  scale,
  logical_type: { type: 'DECIMAL', precision, scale },
});

/** The fewest bytes whose signed integers hold so many digits. */
const bytesOfPrecision = (precision: number): number => Math.ceil((precision * Math.log2(10) + 1) / 8);

/** The values of a column as Parquet holds them, null where there is none. What it can't hold exactly is put into `bad`. */
export const parquetValues = (column: Column, count: number, bad: Map<number, ConnectError>): unknown[] => {
  const read = valueReader(flatColumn(column, count));
  const { state } = column;
  const values = new Array<unknown>(count);
  for (let row = 0; row < count; row++) {
    values[row] = null;
    if (state !== undefined && state[row] !== VALUE) continue;
    try {
      values[row] = read(row);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      bad.set(row, rowError(`field ${column.name}: ${error.message}`));
    }
  }
  return values;
};

type Read = (row: number) => unknown;

const valueReader = (column: FlatColumn): Read => {
  switch (column.kind) {
    case 'int32':
    case 'int64': {
      const { values } = column;
      return (row) => values[row];
    }
    case 'float64': {
      const { values } = column;
      if (column.schema.type === 'float64') return (row) => values[row];
      return (row) => {
        const value = values[row]!;
        if (Number.isFinite(value) && !Number.isFinite(Math.fround(value)))
          throw rowError(`${value} is beyond a 32-bit float: declare it float64`);
        return value;
      };
    }
    case 'boolean': {
      const { values } = column;
      return (row) => values[row] === 1;
    }
    case 'bytes':
      return bytesReader(column);
  }
};

const bytesReader = (column: BytesColumn): Read => {
  const { data, starts, ends, schema } = column;
  const memory = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const parsed = (parse: (text: string) => unknown): Read => {
    return (row) => parse(memory.toString('latin1', starts[row], ends[row]));
  };
  const bytes: Read = (row) => new Uint8Array(data.buffer, data.byteOffset + starts[row]!, ends[row]! - starts[row]!);
  switch (schema.type) {
    case 'date':
      return parsed(daysOf);
    case 'time':
      return parsed(microsOfTime);
    case 'timestamp':
      return parsed(microsOfTimestamp);
    case 'decimal':
      return isDecimal(schema) ? parsed(unscaled(schema.precision!, schema.scale ?? 0)) : bytes;
    default:
      return holdsJson(schema) ? (row) => (isJsonNull(data, starts[row]!, ends[row]!) ? null : bytes(row)) : bytes;
  }
};

const isJsonNull = (data: Uint8Array, start: number, end: number) => data[start] === 0x6e && end - start === 4;

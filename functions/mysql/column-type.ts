import { rowError } from '../../shared/connect/errors.ts';
import { parseJson } from '../../shared/connect/json.ts';
import type { PrimitiveSchema, Value } from '../../shared/connect/schema.ts';

/** What becomes of `0000-00-00` and dates with a zero month or day, which no other system has. */
export type ZeroDate = 'refuse' | 'null';

/** A column of MySQL or MariaDB as a canonical type. */
export interface ColumnType {
  /** Never optional: whoever uses it knows whether it is. */
  readonly schema: PrimitiveSchema;
  /** The canonical form of a value that is not null, as the text protocol or the binlog reader gives it; throws a row error. */
  read(value: unknown): Value;
}

/**
 * The canonical type of a column by its COLUMN_TYPE as information_schema writes it (`int(11) unsigned`, `decimal(12,2)`), which the
 * binlog's own metadata is turned into as well. Each value arrives as it is or is refused. A type that is not known is text.
 */
export const columnTypeOf = (columnType: string, onZeroDate: ZeroDate = 'refuse'): ColumnType => {
  const [, base = '', parameters = ''] =
    /^([a-z0-9 ]+?)\s*(?:\(([^)]*)\))?(?:\s|$)/.exec(columnType.toLowerCase()) ?? [];
  const unsigned = columnType.toLowerCase().includes('unsigned');
  switch (base) {
    case 'tinyint':
      return { schema: { type: unsigned ? 'int16' : 'int8' }, read: Number };
    case 'smallint':
      return { schema: { type: unsigned ? 'int32' : 'int16' }, read: Number };
    case 'mediumint':
      return { schema: { type: 'int32' }, read: Number };
    case 'year':
      return { schema: { type: 'int16' }, read: Number };
    case 'int':
    case 'integer':
      return unsigned
        ? { schema: { type: 'int64' }, read: (value) => BigInt(value as string) }
        : { schema: { type: 'int32' }, read: Number };
    case 'bigint':
      return unsigned
        ? { schema: { type: 'decimal', precision: 20, scale: 0 }, read: String }
        : { schema: { type: 'int64' }, read: (value) => BigInt(value as string) };
    case 'float':
      return { schema: { type: 'float32' }, read: (value) => Math.fround(Number(value)) };
    case 'double':
    case 'real':
      return { schema: { type: 'float64' }, read: Number };
    case 'decimal':
    case 'numeric': {
      const [precision = 10, scale = 0] = parameters.split(',').map(Number);
      return { schema: { type: 'decimal', precision, scale }, read: String };
    }
    case 'bit':
      return parameters === '1' || parameters === ''
        ? { schema: { type: 'boolean' }, read: (value) => (value as Uint8Array).at(-1) === 1 }
        : { schema: { type: 'bytes', name: 'io.debezium.data.Bits' }, read: bytes };
    case 'binary':
    case 'varbinary':
    case 'tinyblob':
    case 'blob':
    case 'mediumblob':
    case 'longblob':
    case 'vector':
      return { schema: { type: 'bytes' }, read: bytes };
    case 'date':
      return { schema: { type: 'date' }, read: dateReader(onZeroDate) };
    case 'datetime':
      return { schema: { type: 'timestamp', local: true }, read: timestampReader(onZeroDate, '') };
    case 'timestamp':
      return { schema: { type: 'timestamp' }, read: timestampReader(onZeroDate, 'Z') };
    case 'time':
      return { schema: { type: 'time' }, read: readTime };
    case 'json':
      return { schema: { type: 'any' }, read: readJson };
    case 'inet6':
      return { schema: { type: 'string' }, read: readInet6 };
    case 'uuid':
      return { schema: { type: 'uuid' }, read: (value) => String(value).toLowerCase() };
    default:
      return isGeometry(base) ? { schema: { type: 'bytes', name: 'geometry' }, read: bytes } : text;
  }
};

const geometries =
  /^(geometry|point|linestring|polygon|multipoint|multilinestring|multipolygon|geomcollection|geometrycollection)$/;

/** Geometries are bytes as MySQL stores them: four of the SRID, then WKB. */
export const isGeometry = (base: string): boolean => geometries.test(base);

/** Also enum and set: their labels. The binlog has no label for the empty value that a wrong one became. */
const text: ColumnType = { schema: { type: 'string' }, read: (value) => (value === undefined ? '' : String(value)) };

/** As MariaDB writes it: also a single group of zeros is left out, where no longer run is, and only with 96 of them before it is it an IPv4 address. */
const readInet6 = (value: unknown): Value => {
  const address = String(value);
  const small = /^::0\.0\.(\d+)\.(\d+)$/.exec(address);
  if (small !== null) return `::${(Number(small[1]) * 256 + Number(small[2])).toString(16)}`;
  return address.includes('::') ? address : address.replace(/(^|:)0(:|$)/, '::');
};

const bytes = (value: unknown): Value =>
  typeof value === 'string' ? Buffer.from(value, 'latin1') : (value as Uint8Array);

const isZeroDate = (text: string): boolean =>
  text.startsWith('0000-') || text.slice(5, 7) === '00' || text.slice(8, 10) === '00';

const refuseZeroDate = (text: string): never => {
  throw rowError(`${text} is no date: mend the row, or set zeroDates to null`);
};

const dateReader = (onZeroDate: ZeroDate) => (value: unknown) => {
  const date = String(value);
  if (!isZeroDate(date)) return date;
  return onZeroDate === 'null' ? null : refuseZeroDate(date);
};

const timestampReader = (onZeroDate: ZeroDate, zone: '' | 'Z') => (value: unknown) => {
  const timestamp = String(value);
  if (!isZeroDate(timestamp)) return `${timestamp.replace(' ', 'T')}${zone}`;
  return onZeroDate === 'null' ? null : refuseZeroDate(timestamp);
};

/** MySQL's time is a duration of up to 838 hours; as a time of day it is at least 0 and less than 24. */
const readTime = (value: unknown): Value => {
  const time = String(value);
  if (/^([01]\d|2[0-3]):/.test(time)) return time;
  throw rowError(`${time} is no time of day: as a duration, leave the column out or read it as text`);
};

const readJson = (value: unknown): Value => parseJson(String(value));

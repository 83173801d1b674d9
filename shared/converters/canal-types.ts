import { rowError } from '../connect/errors.ts';
import { parseJson, writeJson } from '../connect/json.ts';
import type { PrimitiveSchema, Schema, Value } from '../connect/schema.ts';

/** A column as Canal tells it: its type as MySQL writes it, and as java.sql.Types numbers it. */
export interface CanalType {
  readonly mysqlType: string;
  readonly sqlType: number;
}

const jdbc = {
  ...{ bit: -7, tinyint: -6, smallint: 5, integer: 4, bigint: -5, real: 7, double: 8, decimal: 3 },
  ...{ varchar: 12, longvarchar: -1, clob: 2005, date: 91, time: 92, timestamp: 93, blob: 2004 },
};

export const canalTypeOf = (schema: Schema): CanalType => {
  switch (schema.type) {
    case 'int8':
      return { mysqlType: 'tinyint', sqlType: jdbc.tinyint };
    case 'int16':
      return { mysqlType: 'smallint', sqlType: jdbc.smallint };
    case 'int32':
      return { mysqlType: 'int', sqlType: jdbc.integer };
    case 'int64':
      return { mysqlType: 'bigint', sqlType: jdbc.bigint };
    case 'float32':
      return { mysqlType: 'float', sqlType: jdbc.real };
    case 'float64':
      return { mysqlType: 'double', sqlType: jdbc.double };
    case 'boolean':
      return { mysqlType: 'bit(1)', sqlType: jdbc.bit };
    case 'string':
      return { mysqlType: 'longtext', sqlType: jdbc.clob };
    case 'bytes':
      return { mysqlType: 'longblob', sqlType: jdbc.blob };
    case 'decimal': {
      const { precision, scale = 0 } = schema;
      return {
        mysqlType: precision === undefined ? 'decimal' : `decimal(${precision},${scale})`,
        sqlType: jdbc.decimal,
      };
    }
    case 'date':
      return { mysqlType: 'date', sqlType: jdbc.date };
    case 'time':
      return { mysqlType: 'time(6)', sqlType: jdbc.time };
    case 'timestamp':
      return { mysqlType: schema.local ? 'datetime(6)' : 'timestamp(6)', sqlType: jdbc.timestamp };
    case 'uuid':
      return { mysqlType: 'uuid', sqlType: jdbc.varchar };
    default:
      return { mysqlType: 'json', sqlType: jdbc.longvarchar };
  }
};

/** A type that is not known is text. Whole numbers without a sign take the next larger type. */
export const schemaOfCanal = (mysqlType: string): PrimitiveSchema => {
  const [, base = '', parameters = ''] = /^([a-z]+)\s*(?:\(([^)]*)\))?/i.exec(mysqlType) ?? [];
  const unsigned = /unsigned/i.test(mysqlType);
  switch (base.toLowerCase()) {
    case 'tinyint':
      return { type: unsigned ? 'int16' : 'int8' };
    case 'smallint':
      return { type: unsigned ? 'int32' : 'int16' };
    case 'year':
      return { type: 'int16' };
    case 'mediumint':
      return { type: 'int32' };
    case 'int':
    case 'integer':
      return { type: unsigned ? 'int64' : 'int32' };
    case 'bigint':
      return unsigned ? { type: 'decimal', precision: 20, scale: 0 } : { type: 'int64' };
    case 'float':
      return { type: 'float32' };
    case 'double':
    case 'real':
      return { type: 'float64' };
    case 'decimal':
    case 'numeric': {
      if (parameters === '') return { type: 'decimal' };
      const [precision = 10, scale = 0] = parameters.split(',').map(Number);
      return { type: 'decimal', precision, scale };
    }
    case 'bit':
      return parameters === '1' || parameters === ''
        ? { type: 'boolean' }
        : { type: 'decimal', precision: 20, scale: 0 };
    case 'binary':
    case 'varbinary':
    case 'tinyblob':
    case 'blob':
    case 'mediumblob':
    case 'longblob':
      return { type: 'bytes' };
    case 'date':
    case 'time':
    case 'uuid':
      return { type: base.toLowerCase() as 'date' | 'time' | 'uuid' };
    case 'datetime':
      return { type: 'timestamp', local: true };
    case 'timestamp':
      return { type: 'timestamp' };
    case 'json':
      return { type: 'any' };
    default:
      return { type: 'string' };
  }
};

/** Canal has every value as text: bytes as characters up to U+00FF, instants without a zone, which is UTC here. */
export const canalText = (schema: Schema, value: Value): string | null => {
  if (value === null) return null;
  switch (schema.type) {
    case 'boolean':
      return value === true ? '1' : '0';
    case 'bytes':
      return Buffer.from(value as Uint8Array).toString('latin1');
    case 'timestamp':
      return String(value).replace('T', ' ').replace('Z', '');
    case 'any':
    case 'array':
    case 'map':
    case 'struct':
      return writeJson(value);
    default:
      return String(value);
  }
};

export const valueOfCanal = (schema: PrimitiveSchema, text: Value): Value => {
  if (text === null) return null;
  const told = String(text);
  switch (schema.type) {
    case 'int8':
    case 'int16':
    case 'int32':
    case 'float32':
    case 'float64':
      return Number(told);
    case 'int64':
      if (!/^-?\d+$/.test(told)) throw rowError(`expected a whole number, got ${told.slice(0, 80)}`);
      return BigInt(told);
    case 'boolean':
      return told === '1' || told === 'true';
    case 'bytes':
      return Buffer.from(told, 'latin1');
    case 'timestamp':
      return `${told.replace(' ', 'T')}${schema.local ? '' : 'Z'}`;
    case 'any':
      return parseJson(told);
    default:
      return told;
  }
};

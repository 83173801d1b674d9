import { rowError } from '../connect/errors.ts';
import { isPlainObject } from '../connect/fit.ts';
import { parseJson, writeJson } from '../connect/json.ts';
import type { PrimitiveType, Schema, Struct, Value } from '../connect/schema.ts';

/**
 * The JSON form of Kafka Connect's schemas and values. A logical type is a name on a primitive: Kafka Connect's own where it holds every
 * value, else Debezium's, so that nothing is rounded.
 */
const names = {
  decimal: 'org.apache.kafka.connect.data.Decimal',
  variableDecimal: 'io.debezium.data.VariableScaleDecimal',
  date: 'org.apache.kafka.connect.data.Date',
  time: 'io.debezium.time.NanoTime',
  timestamp: 'io.debezium.time.ZonedTimestamp',
  localTimestamp: 'io.debezium.time.IsoTimestamp',
  uuid: 'io.debezium.data.Uuid',
  any: 'io.debezium.data.Json',
} as const;

const plain: Readonly<Partial<Record<PrimitiveType, string>>> = {
  int8: 'int8',
  int16: 'int16',
  int32: 'int32',
  int64: 'int64',
  float32: 'float',
  float64: 'double',
  boolean: 'boolean',
  string: 'string',
  bytes: 'bytes',
};
const plainOf = Object.fromEntries(Object.entries(plain).map(([ours, theirs]) => [theirs, ours as PrimitiveType]));

export const toConnectSchema = (schema: Schema): Struct => {
  const optional = { optional: schema.optional ?? schema.type === 'any' };
  const named: { readonly [key: string]: Value } = schema.name === undefined ? {} : { name: schema.name };
  switch (schema.type) {
    case 'array':
      return { type: 'array', items: toConnectSchema(schema.items), ...optional, ...named };
    case 'map':
      return {
        type: 'map',
        keys: { type: 'string', optional: false },
        values: toConnectSchema(schema.values),
        ...optional,
        ...named,
      };
    case 'struct': {
      const fields = schema.fields.map((field) => ({ field: field.name, ...toConnectSchema(field.schema) }));
      return { type: 'struct', fields, ...optional, ...named };
    }
    case 'decimal': {
      // Without a scale each value has its own: as text, under the name of Debezium's struct for it.
      if (schema.scale === undefined) return { type: 'string', name: names.variableDecimal, ...optional };
      const precision: { [key: string]: string } =
        schema.precision === undefined ? {} : { 'connect.decimal.precision': String(schema.precision) };
      return {
        type: 'bytes',
        name: names.decimal,
        version: 1,
        parameters: { scale: String(schema.scale), ...precision },
        ...optional,
      };
    }
    case 'date':
      return { type: 'int32', name: names.date, version: 1, ...optional };
    case 'time':
      return { type: 'int64', name: names.time, version: 1, ...optional };
    case 'timestamp':
      return { type: 'string', name: schema.local ? names.localTimestamp : names.timestamp, version: 1, ...optional };
    case 'uuid':
    case 'any':
      return { type: 'string', name: names[schema.type], version: 1, ...optional };
    default:
      return { type: plain[schema.type]!, ...optional, ...named };
  }
};

export const fromConnectSchema = (json: Value): Schema => {
  if (!isPlainObject(json)) throw rowError(`expected a schema object, got ${writeJson(json)}`);
  const optional = json.optional === true ? { optional: true } : {};
  const logical = logicalSchema(json);
  if (logical !== undefined) return { ...logical, ...optional };
  const named = { ...optional, ...(typeof json.name === 'string' ? { name: json.name } : {}) };
  switch (json.type) {
    case 'array':
      return { type: 'array', items: fromConnectSchema(json.items!), ...named };
    case 'map':
      return { type: 'map', values: fromConnectSchema(json.values!), ...named };
    case 'struct': {
      const fields = (json.fields as readonly Struct[]).map((field) => ({
        name: String(field.field),
        schema: fromConnectSchema(field),
      }));
      return { type: 'struct', fields, ...named };
    }
    default: {
      const type = plainOf[String(json.type)];
      if (type === undefined) throw rowError(`schema type ${writeJson(json.type ?? null)} is none of Kafka Connect's`);
      return { type, ...named };
    }
  }
};

const logicalSchema = ({ name, parameters }: Struct): Schema | undefined => {
  switch (name) {
    case names.decimal: {
      const { scale = '0', 'connect.decimal.precision': precision } = (parameters ?? {}) as { [key: string]: string };
      return {
        type: 'decimal',
        scale: Number(scale),
        ...(precision === undefined ? {} : { precision: Number(precision) }),
      };
    }
    case names.variableDecimal:
      return { type: 'decimal' };
    case names.date:
      return { type: 'date' };
    case names.time:
      return { type: 'time' };
    case names.timestamp:
      return { type: 'timestamp' };
    case names.localTimestamp:
      return { type: 'timestamp', local: true };
    case names.uuid:
      return { type: 'uuid' };
    case names.any:
      return { type: 'any' };
    default:
      return undefined;
  }
};

export const toConnect = (schema: Schema, value: Value): Value => {
  if (value === null) return null;
  switch (schema.type) {
    case 'array':
      return (value as readonly Value[]).map((item) => toConnect(schema.items, item));
    case 'map':
      return mapValues(value as Struct, (inner) => toConnect(schema.values, inner));
    case 'struct': {
      const struct = value as Struct;
      const there = schema.fields.filter(({ name }) => Object.hasOwn(struct, name));
      return Object.fromEntries(there.map((field) => [field.name, toConnect(field.schema, struct[field.name]!)]));
    }
    case 'decimal':
      return schema.scale === undefined ? String(value) : unscaledBase64(String(value), schema.scale);
    case 'date':
      return daysOf(String(value));
    case 'time':
      return nanosOf(String(value));
    case 'any':
      return writeJson(value);
    default:
      return value;
  }
};

export const fromConnect = (schema: Schema, json: Value): Value => {
  if (json === null) return null;
  try {
    return fromConnectType(schema, json);
  } catch (cause) {
    throw rowError(`expected ${schema.type}, got ${writeJson(json).slice(0, 80)}: ${(cause as Error).message}`, cause);
  }
};

const fromConnectType = (schema: Schema, json: Value): Value => {
  switch (schema.type) {
    case 'array':
      return (json as readonly Value[]).map((item) => fromConnect(schema.items, item));
    case 'map':
      return mapValues(json as Struct, (inner) => fromConnect(schema.values, inner));
    case 'struct': {
      const struct = json as Struct;
      const there = schema.fields.filter(({ name }) => Object.hasOwn(struct, name));
      return Object.fromEntries(there.map((field) => [field.name, fromConnect(field.schema, struct[field.name]!)]));
    }
    case 'int64':
      return BigInt(json as number);
    case 'float32':
    case 'float64':
      // JSON has no NaN and no infinities: they are text.
      return Number(json);
    case 'bytes':
      return Buffer.from(json as string, 'base64');
    case 'decimal':
      return schema.scale === undefined ? String(json) : scaledText(json as string, schema.scale);
    case 'date':
      return new Date(Number(json) * dayMs).toISOString().slice(0, 10);
    case 'time':
      return timeOf(BigInt(json as number));
    case 'any':
      return parseJson(json as string);
    default:
      return json;
  }
};

const mapValues = (struct: Struct, change: (value: Value) => Value): Struct =>
  Object.fromEntries(Object.entries(struct).map(([key, value]) => [key, change(value)]));

const dayMs = 86_400_000;

const daysOf = (date: string): number => {
  const days = Date.parse(`${date}T00:00:00Z`) / dayMs;
  if (!Number.isInteger(days)) throw rowError(`date ${date} can't be told in days since 1970: years are 0000 to 9999`);
  return days;
};

const nanosOf = (time: string): bigint => {
  const [clock = '', fraction = ''] = time.split('.');
  const [hours = 0, minutes = 0, seconds = 0] = clock.split(':').map(Number);
  return BigInt(hours * 3600 + minutes * 60 + seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
};

const timeOf = (nanos: bigint): string => {
  const seconds = Number(nanos / 1_000_000_000n);
  const two = (n: number) => String(n).padStart(2, '0');
  const fraction = String(nanos % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  const clock = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return fraction === '' ? clock : `${clock}.${fraction}`;
};

/** Kafka Connect's Decimal: the unscaled value as a big-endian two's complement integer. */
const unscaledBase64 = (text: string, scale: number): string => {
  const [whole = '', fraction = ''] = text.split('.');
  if (fraction.length > scale) throw rowError(`decimal ${text} has more than ${scale} digits after the point`);
  const unscaled = BigInt(whole + fraction.padEnd(scale, '0'));
  let bytes = 1;
  while (BigInt.asIntN(bytes * 8, unscaled) !== unscaled) bytes++;
  const hex = BigInt.asUintN(bytes * 8, unscaled)
    .toString(16)
    .padStart(bytes * 2, '0');
  return Buffer.from(hex, 'hex').toString('base64');
};

const scaledText = (base64: string, scale: number): string => {
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.length === 0) throw rowError('a decimal has no bytes');
  const unscaled = BigInt.asIntN(bytes.length * 8, BigInt(`0x${bytes.toString('hex')}`));
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0');
  const whole = digits.slice(0, digits.length - scale);
  return `${unscaled < 0n ? '-' : ''}${whole}${scale === 0 ? '' : `.${digits.slice(-scale)}`}`;
};

import { describeSchema, ExactNumber, type Schema, type Value } from './schema.ts';

const integerRange: Record<string, readonly [number, number]> = {
  int8: [-128, 127],
  int16: [-32768, 32767],
  int32: [-2147483648, 2147483647],
};

const int64Min = -(2n ** 63n);
const int64Max = 2n ** 63n - 1n;

export const patterns = {
  decimal: /^-?\d+(\.\d+)?$/,
  date: /^[+-]?\d{4,6}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/,
  time: /^([01]\d|2[0-4]):[0-5]\d:[0-5]\d(\.\d{1,9})?$/,
  timestamp: /^[+-]?\d{4,6}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-4]):[0-5]\d:[0-6]\d(\.\d{1,9})?Z?$/,
  uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
} as const;

const show = (value: Value | undefined): string => {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  const text = typeof value === 'object' ? Object.prototype.toString.call(value) : `${typeof value} ${String(value)}`;
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
};

/** Why a value does not fit a schema, with its path; undefined when it does. */
export const misfit = (schema: Schema, value: Value | undefined, path: string): string | undefined => {
  if (value === null || value === undefined)
    return schema.optional || schema.type === 'any'
      ? undefined
      : `${path}: expected ${describeSchema(schema)}, got ${show(value)}`;
  return fitsType(schema, value, path) ?? undefined;
};

const fitsType = (schema: Schema, value: Value, path: string): string | undefined => {
  const expected = () => `${path}: expected ${describeSchema(schema)}, got ${show(value)}`;
  switch (schema.type) {
    case 'any':
      return undefined;
    case 'int8':
    case 'int16':
    case 'int32': {
      const [min, max] = integerRange[schema.type]!;
      return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max
        ? undefined
        : expected();
    }
    case 'int64':
      if (typeof value === 'number') return Number.isSafeInteger(value) ? undefined : expected();
      return typeof value === 'bigint' && value >= int64Min && value <= int64Max ? undefined : expected();
    case 'float32':
    case 'float64':
      return typeof value === 'number' ? undefined : expected();
    case 'boolean':
      return typeof value === 'boolean' ? undefined : expected();
    case 'string':
      return typeof value === 'string' ? undefined : expected();
    case 'bytes':
      return value instanceof Uint8Array ? undefined : expected();
    case 'decimal':
      return fitsDecimal(schema.precision, schema.scale ?? 0, value) ? undefined : expected();
    case 'date':
    case 'time':
    case 'uuid':
      return typeof value === 'string' && patterns[schema.type].test(value) ? undefined : expected();
    case 'timestamp':
      return typeof value === 'string' && patterns.timestamp.test(value) && value.endsWith('Z') === !schema.local
        ? undefined
        : expected();
    case 'array':
      if (!Array.isArray(value)) return expected();
      return first(value.entries(), ([i, item]) => misfit(schema.items, item, `${path}[${i}]`));
    case 'map':
      if (!isPlainObject(value)) return expected();
      return first(Object.entries(value), ([k, v]) => misfit(schema.values, v, `${path}.${k}`));
    case 'struct':
      return isPlainObject(value) ? misfitStruct(schema, value, path) : expected();
  }
};

const misfitStruct = (
  schema: Schema & { type: 'struct' },
  value: { readonly [field: string]: Value },
  path: string,
): string | undefined => {
  const at = (name: string) => (path === '' ? name : `${path}.${name}`);
  const own = (name: string) => (Object.hasOwn(value, name) ? value[name] : undefined);
  const unknown = Object.keys(value).find((name) => !schema.fields.some((field) => field.name === name));
  if (unknown !== undefined) return `${at(unknown)}: no such field in the schema`;
  return first(schema.fields, (field) => misfit(field.schema, own(field.name), at(field.name)));
};

/** The digits of a decimal as text; undefined where the value is none, or one written with an exponent. */
export const decimalText = (value: Value): string | undefined => {
  const text =
    typeof value === 'string' || value instanceof ExactNumber
      ? value.toString()
      : typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value))
        ? String(value)
        : undefined;
  return text !== undefined && patterns.decimal.test(text) ? text : undefined;
};

const fitsDecimal = (precision: number | undefined, scale: number, value: Value): boolean => {
  const text = decimalText(value);
  if (text === undefined) return false;
  if (precision === undefined) return true;
  const [whole = '', fraction = ''] = text.replace('-', '').split('.');
  return fraction.length <= scale && whole.replace(/^0+/, '').length <= precision - scale;
};

export const isPlainObject = (value: Value | undefined): value is { readonly [field: string]: Value } =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  !(value instanceof Uint8Array) &&
  !(value instanceof ExactNumber);

const first = <T>(items: Iterable<T>, check: (item: T) => string | undefined): string | undefined => {
  for (const item of items) {
    const problem = check(item);
    if (problem !== undefined) return problem;
  }
  return undefined;
};

import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { expect } from 'vitest';
import type { RecordInput } from '../../shared/connect/build.ts';
import type { ConnectRecord } from '../../shared/connect/record.ts';
import { ExactNumber, type Field, type PrimitiveType, type Schema, type Value } from '../../shared/connect/schema.ts';

/** Any text that UTF-8 can hold. */
export const text = fc.string({ unit: 'binary', maxLength: 12 });

const fieldName = fc.oneof(text, fc.constantFrom('__proto__', 'constructor', 'toString', '', 'a.b', '0', 'length'));

const digits = (maxLength: number) => fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: 1, maxLength });

/** A number as JSON may write it, of any length. */
export const numberText = fc
  .tuple(
    fc.constantFrom('', '-'),
    digits(30).map((whole) => whole.replace(/^0+(?=\d)/, '')),
    fc.option(digits(30), { nil: '' }),
    fc.option(fc.tuple(fc.constantFrom('e', 'E'), fc.constantFrom('', '+', '-'), digits(3)), { nil: ['', '', ''] }),
  )
  .map(
    ([sign, whole, fraction, exponent]) =>
      `${sign}${whole}${fraction === '' ? '' : `.${fraction}`}${exponent.join('')}`,
  );

/** Numbers that only an exact form can hold; small integers and doubles are numbers. */
const exactNumber = fc.oneof(
  fc.bigInt({ min: 2n ** 53n, max: 2n ** 200n }),
  fc
    .constantFrom('1e400', '-1.5E+500', '0.1000000000000000000001', '123456789012345678.9', '1e-400')
    .map((n) => new ExactNumber(n)),
);

/** Any JSON value, its numbers exact. */
export const jsonValue: fc.Arbitrary<Value> = fc.letrec<{ value: Value }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constant(null),
    fc.boolean(),
    fc
      .double({ noNaN: true, noDefaultInfinity: true })
      .filter((n) => Number.isSafeInteger(n) || !/^-?\d+$/.test(String(n))),
    fc.integer(),
    text,
    exactNumber,
    fc.array(tie('value'), { maxLength: 4 }),
    structOf(fc.array(fc.tuple(fieldName, tie('value')), { maxLength: 4 })),
  ),
})).value;

function structOf(entries: fc.Arbitrary<readonly (readonly [string, Value])[]>): fc.Arbitrary<Value> {
  return entries.map((list) => Object.fromEntries(list) as Value);
}

const padded = (max: number, width: number, min = 0) =>
  fc.integer({ min, max }).map((n) => String(n).padStart(width, '0'));
const fraction = fc.option(digits(9), { nil: '' }).map((f) => (f === '' ? '' : `.${f}`));
const date = fc.tuple(padded(9999, 4), padded(12, 2, 1), padded(28, 2, 1)).map((parts) => parts.join('-'));
const time = fc
  .tuple(padded(23, 2), padded(59, 2), padded(59, 2), fraction)
  .map(([h, m, s, f]) => `${h}:${m}:${s}${f}`);

const primitive: Record<PrimitiveType, fc.Arbitrary<Value>> = {
  int8: fc.integer({ min: -128, max: 127 }),
  int16: fc.integer({ min: -32768, max: 32767 }),
  int32: fc.integer(),
  int64: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  float32: fc.float(),
  float64: fc.double(),
  boolean: fc.boolean(),
  string: text,
  bytes: fc.uint8Array({ maxLength: 80 }),
  decimal: fc.tuple(fc.constantFrom('', '-'), digits(40), fraction).map((parts) => parts.join('')),
  date,
  time,
  timestamp: fc.tuple(date, time).map(([d, t]) => `${d}T${t}Z`),
  uuid: fc.uuid(),
  any: jsonValue,
};

const optional = fc.boolean().map((is) => (is ? { optional: true } : {}));

export const schema: fc.Arbitrary<Schema> = fc.letrec<{ schema: Schema }>((tie) => ({
  schema: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc
      .tuple(fc.constantFrom(...(Object.keys(primitive) as PrimitiveType[])), optional)
      .map(([type, o]) => ({ type, ...o })),
    fc.tuple(tie('schema'), optional).map(([items, o]) => ({ type: 'array' as const, items, ...o })),
    fc.tuple(tie('schema'), optional).map(([values, o]) => ({ type: 'map' as const, values, ...o })),
    fc
      .tuple(
        fc.uniqueArray(fc.record({ name: fieldName, schema: tie('schema') }), {
          maxLength: 4,
          selector: (f) => f.name,
        }),
        optional,
      )
      .map(([fields, o]) => ({ type: 'struct' as const, fields, ...o })),
  ),
})).schema;

/** A value in its canonical form that fits the schema. */
export const fittingValue = (of: Schema): fc.Arbitrary<Value> => {
  const value = unlessNull(of);
  return of.optional ? fc.option(value, { nil: null }) : value;
};

const unlessNull = (of: Schema): fc.Arbitrary<Value> => {
  switch (of.type) {
    case 'array':
      return fc.array(fittingValue(of.items), { maxLength: 4 });
    case 'map':
      return structOf(fc.array(fc.tuple(fieldName, fittingValue(of.values)), { maxLength: 4 }));
    case 'struct':
      return structOf(fc.tuple(...of.fields.map(fieldEntry)).map((fields) => fields.flat()));
    default:
      return primitive[of.type];
  }
};

/** An optional field may be missing, which is not null. */
const fieldEntry = ({ name, schema: of }: Field): fc.Arbitrary<readonly (readonly [string, Value])[]> => {
  const there = fittingValue(of).map((value) => [[name, value] as const]);
  return of.optional || of.type === 'any' ? fc.option(there, { nil: [] }) : there;
};

const header = fc.record({
  key: text,
  value: fc.oneof(jsonValue, fc.uint8Array({ maxLength: 8 }), fc.bigInt({ min: 0n, max: 9n })),
});

const maybe = <T>(name: string, value: fc.Arbitrary<T>) =>
  fc.option(
    value.map((v) => ({ [name]: v })),
    { nil: {} },
  );

const recordsOf = (
  topic: string,
  keySchema: Schema | undefined,
  valueSchema: Schema | undefined,
): fc.Arbitrary<RecordInput[]> =>
  fc.array(
    fc
      .tuple(
        maybe(
          'key',
          fc.option(keySchema === undefined ? fc.oneof(jsonValue, text) : fittingValue(keySchema), { nil: null }),
        ),
        fc.option(valueSchema === undefined ? jsonValue : fittingValue(valueSchema), { nil: null, freq: 8 }),
        maybe('headers', fc.array(header, { maxLength: 2 })),
        maybe('timestampMs', fc.integer({ min: 0, max: 2 ** 45 })),
      )
      .map(([key, value, headers, timestamp]) => ({
        topic,
        value,
        keySchema,
        valueSchema,
        ...key,
        ...headers,
        ...timestamp,
      })),
    { maxLength: 6 },
  );

/** Records of one topic or several: declared and undeclared, with and without key, tombstones among them. */
export const records = (topics: readonly string[] = ['t', 'u']): fc.Arbitrary<RecordInput[]> => {
  const declared = fc.option(schema, { nil: undefined });
  const run = fc
    .tuple(fc.constantFrom(...topics), declared, declared)
    .chain(([topic, key, value]) => recordsOf(topic, key, value));
  return fc.array(run, { maxLength: 4 }).map((runs) => runs.flat());
};

/** A value with its types visible and its fields in order, so that -0, bytes and exact numbers compare. */
const plain = (value: Value): unknown => {
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString('hex') };
  if (value instanceof ExactNumber) return { exact: value.text };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return new Map(
    Object.keys(value)
      .sort()
      .map((name) => [name, plain((value as Record<string, Value>)[name]!)]),
  );
};

export const sameValue = (a: Value, b: Value): boolean => isDeepStrictEqual(plain(a), plain(b));

const seen = ({ topic, key, value, headers, timestampMs }: RecordInput | ConnectRecord) => ({
  topic,
  key: plain(key ?? null),
  value: plain(value),
  headers: (headers ?? []).map((one) => [one.key, plain(one.value)]),
  timestampMs,
});

/** The records that were read are those that were given. */
export const expectRecords = (read: Iterable<ConnectRecord>, given: Iterable<RecordInput | ConnectRecord>): void => {
  const [a, b] = [Array.from(read, seen), Array.from(given, seen)];
  if (!isDeepStrictEqual(a, b)) expect(a).toEqual(b);
  expect(isDeepStrictEqual(a, b)).toBe(true);
};

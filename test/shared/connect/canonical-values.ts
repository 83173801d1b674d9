import fc from 'fast-check';
import { ExactNumber, type Field, type Schema, type Struct, type Value } from '../../../shared/connect/schema.ts';

/** A canonical type and values that fit it, the awkward ones among them. */
export interface TypedValues {
  readonly schema: Schema;
  readonly values: fc.Arbitrary<Value>;
}

const awkwardTexts = [
  '',
  ' ',
  'null',
  '""',
  '"quoted"',
  'a,b;c\td',
  'line one\nline two\r\nline three\r',
  '\u0000\u0001\u001f\u007f\u2028\u2029',
  'back\\slash \\n',
  'Zoë, 日本語, 🦆👩‍👩‍👧, e\u0301',
  '\ufeffbom',
  'x'.repeat(300),
  `${'y'.repeat(70)}"${'z'.repeat(70)}\n`,
];

export const texts = fc.oneof(fc.constantFrom(...awkwardTexts), fc.string({ unit: 'grapheme' }));

const integers = (min: number, max: number) =>
  fc.oneof(fc.constantFrom(min, max, 0, -1, 9, 10, 99, 100), fc.integer({ min, max }));

const int64s = fc.oneof(
  fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n, 2n ** 53n + 1n, -(2n ** 31n), 2n ** 31n, 0n, -1n),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
);

export const decimalOf = (precision: number, scale: number): fc.Arbitrary<string> => {
  const limit = 10n ** BigInt(precision);
  const unscaled = fc.oneof(fc.constantFrom(limit - 1n, 1n - limit, 0n, 1n, -1n), fc.bigInt(1n - limit, limit - 1n));
  return unscaled.map((value) => {
    const digits = String(value < 0n ? -value : value).padStart(scale + 1, '0');
    const split = digits.length - scale;
    return `${value < 0n ? '-' : ''}${digits.slice(0, split)}${scale === 0 ? '' : `.${digits.slice(split)}`}`;
  });
};

const two = (max: number, min = 0) => fc.integer({ min, max }).map((n) => String(n).padStart(2, '0'));
const years = fc.oneof(fc.constantFrom(0, 1, 99, 1582, 1969, 1970, 2024, 9999), fc.integer({ min: 0, max: 9999 }));

const dates = fc
  .tuple(
    years.map((year) => String(year).padStart(4, '0')),
    two(12, 1),
    two(28, 1),
  )
  .map((parts) => parts.join('-'));
const fractions = fc
  .oneof(fc.constant(''), fc.constantFrom('5', '000001', '120'), fc.stringMatching(/^[0-9]{1,6}$/))
  .map((digits) => (digits === '' ? '' : `.${digits}`));
const times = fc.tuple(two(23), two(59), two(59), fractions).map(([h, m, s, fraction]) => `${h}:${m}:${s}${fraction}`);
const timestamps = (zone: string) => fc.tuple(dates, times).map(([date, time]) => `${date}T${time}${zone}`);

/** What JSON.parse gives, with numbers that a double can't hold and without -0, which JSON.stringify drops. */
export const jsonValues: fc.Arbitrary<Value> = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom<Value>(true, false, 0, 1.5, -1e300, 2n ** 70n, new ExactNumber('1234567890.12345678901234567890')),
    texts,
    fc.integer(),
    fc.array(tie('value')),
    fc.dictionary(fc.oneof(texts, fc.constant('__proto__')), tie('value')),
  ),
})).value as fc.Arbitrary<Value>;

const floats = fc.oneof(
  fc.constantFrom(Number.NaN, Infinity, -Infinity, -0, 5e-324, 1.7976931348623157e308, 1e21, 1e-7, 0.1),
  fc.double(),
);

export const canonicalTypes: Record<string, TypedValues> = {
  int8: { schema: { type: 'int8' }, values: integers(-128, 127) },
  int16: { schema: { type: 'int16' }, values: integers(-32768, 32767) },
  int32: { schema: { type: 'int32' }, values: integers(-2147483648, 2147483647) },
  int64: { schema: { type: 'int64' }, values: int64s },
  float32: { schema: { type: 'float32' }, values: fc.oneof(fc.constantFrom(Math.fround(0.1), -0), fc.float()) },
  float64: { schema: { type: 'float64' }, values: floats },
  boolean: { schema: { type: 'boolean' }, values: fc.boolean() },
  string: { schema: { type: 'string' }, values: texts },
  bytes: { schema: { type: 'bytes' }, values: fc.uint8Array() },
  'decimal(9,2)': { schema: { type: 'decimal', precision: 9, scale: 2 }, values: decimalOf(9, 2) },
  'decimal(18,18)': { schema: { type: 'decimal', precision: 18, scale: 18 }, values: decimalOf(18, 18) },
  'decimal(38,10)': { schema: { type: 'decimal', precision: 38, scale: 10 }, values: decimalOf(38, 10) },
  'decimal(38,0)': { schema: { type: 'decimal', precision: 38 }, values: decimalOf(38, 0) },
  'decimal(65,30)': { schema: { type: 'decimal', precision: 65, scale: 30 }, values: decimalOf(65, 30) },
  decimal: { schema: { type: 'decimal' }, values: fc.oneof(fc.constantFrom('007.50', '-00', '0.0'), decimalOf(50, 7)) },
  date: { schema: { type: 'date' }, values: dates },
  time: { schema: { type: 'time' }, values: times },
  timestamp: { schema: { type: 'timestamp' }, values: timestamps('Z') },
  'timestamp local': { schema: { type: 'timestamp', local: true }, values: timestamps('') },
  uuid: { schema: { type: 'uuid' }, values: fc.uuid() },
  any: { schema: { type: 'any' }, values: jsonValues },
  array: { schema: { type: 'array', items: { type: 'string' } }, values: fc.array(texts) },
  map: { schema: { type: 'map', values: { type: 'int64' } }, values: fc.dictionary(texts, int64s) },
  struct: {
    schema: { type: 'struct', fields: [{ name: 'a"b', schema: { type: 'string', optional: true } }] },
    values: fc.record({ 'a"b': fc.oneof(texts, fc.constant(null)) }),
  },
};

export const fieldNames = [
  'id',
  '__proto__',
  'constructor',
  'with space',
  'quo"te',
  'comma,d',
  'new\nline',
  'dot.ted',
  'ünïcode 🦆',
  '',
];

/** A struct schema of every type at once, each field optional, and rows in which fields may be null or missing. */
export const everyType: { readonly schema: Schema & { type: 'struct' }; readonly rows: fc.Arbitrary<Struct> } = (() => {
  const types = Object.entries(canonicalTypes);
  const fields: Field[] = types.map(([type, { schema }], i) => ({
    name: fieldNames[i] ?? type,
    schema: { ...schema, optional: true },
  }));
  const cells = types.map(([, { values }]) =>
    fc.oneof({ arbitrary: values, weight: 6 }, fc.constantFrom(null, undefined)),
  );
  const rows = fc.tuple(...cells).map((values) => {
    const row: Record<string, Value> = Object.create(null);
    for (const [i, value] of values.entries()) if (value !== undefined) row[fields[i]!.name] = value as Value;
    return row;
  });
  return { schema: { type: 'struct', fields }, rows };
})();

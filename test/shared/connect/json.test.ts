import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalJson, parseJson, writeJson } from '../../../shared/connect/json.ts';
import { ExactNumber, type Value } from '../../../shared/connect/schema.ts';
import { jsonValue, numberText, sameValue } from '../../kit/arbitraries.ts';

/** What a JSON number is: its digits as an integer, and the power of ten that they are multiplied by. */
const exactly = (text: string): string => {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE](.*))?$/.exec(text)!;
  let mantissa = BigInt(whole! + fraction);
  let power = Number(exponent) - fraction.length;
  for (; mantissa !== 0n && mantissa % 10n === 0n; mantissa /= 10n) power++;
  return `${sign}${mantissa}e${mantissa === 0n ? 0 : power}`;
};

test('no number loses a digit, nor its sign', () => {
  fc.assert(
    fc.property(numberText, (number) => {
      expect(exactly(writeJson(parseJson(number)))).toBe(exactly(number));
      const nested = writeJson(parseJson(`{"a":[${number}]}`));
      expect(exactly(nested.slice('{"a":['.length, -']}'.length))).toBe(exactly(number));
    }),
    { numRuns: 1_000 },
  );
});

test.each<[string, Value, string?]>([
  ['0', 0],
  ['-0', -0],
  ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ['9007199254740993', 9007199254740993n],
  ['-170141183460469231731687303715884105729', -170141183460469231731687303715884105729n],
  ['0.1', 0.1],
  ['0.1000000000000000055511151231257827', new ExactNumber('0.1000000000000000055511151231257827')],
  ['0.30000000000000004', 0.30000000000000004],
  ['1e400', new ExactNumber('1e400')],
  ['-1E-400', new ExactNumber('-1E-400')],
  ['1e3', 1000, '1000'],
  ['1.50', 1.5, '1.5'],
  ['5e-324', 5e-324],
  ['1.7976931348623157e308', Number.MAX_VALUE, '1.7976931348623157e+308'],
  ['100000000000000000000000', 10n ** 23n],
  ['-117763516396321980', -117763516396321980n],
  ['"12345678901234567890"', '12345678901234567890'],
  ['{"a":[9007199254740993,{"b":1e400}]}', { a: [9007199254740993n, { b: new ExactNumber('1e400') }] }],
  ['{"__proto__":1}', JSON.parse('{"__proto__":1}')],
])('%s', (json, value, written = json) => {
  expect(sameValue(parseJson(json), value)).toBe(true);
  expect(writeJson(value)).toBe(written);
});

test('what JSON has no form for', () => {
  expect(writeJson([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])).toBe(
    '["NaN","Infinity","-Infinity"]',
  );
  expect(writeJson({ a: Uint8Array.of(1, 2, 3), b: Buffer.from('hi') })).toBe('{"a":"AQID","b":"aGk="}');
  expect(writeJson(Uint8Array.of(1, 2, 3).subarray(1))).toBe('"AgM="');
  expect(() => parseJson('{')).toThrow(SyntaxError);
});

test('any JSON value comes back as it was', () => {
  fc.assert(
    fc.property(jsonValue, (value) => {
      expect(sameValue(parseJson(writeJson(value)), value)).toBe(true);
      expect(sameValue(parseJson(canonicalJson(value)), value) || holdsExact(value)).toBe(true);
    }),
    { numRuns: 500 },
  );
});

/** The canonical text of an exact number is one of many that mean the same. */
const holdsExact = (value: Value): boolean =>
  writeJson(value) !== writeJson(parseJson(writeJson(value))) || /[eE.]/.test(writeJson(value));

/** The same value with the fields of every object in another order. */
const shuffled = (value: Value, turn: () => boolean): Value => {
  if (Array.isArray(value)) return value.map((item) => shuffled(item as Value, turn));
  if (typeof value !== 'object' || value === null || value instanceof ExactNumber) return value;
  const entries = Object.entries(value).map(([name, inner]) => [name, shuffled(inner as Value, turn)] as const);
  return Object.fromEntries(turn() ? entries.reverse() : entries) as Value;
};

test('equal values have one canonical text, whatever the order of their fields', () => {
  fc.assert(
    fc.property(jsonValue, fc.infiniteStream(fc.boolean()), (value, turns) => {
      expect(canonicalJson(shuffled(value, () => turns.next().value))).toBe(canonicalJson(value));
    }),
  );
});

test('different values have different canonical texts', () => {
  fc.assert(
    fc.property(jsonValue, jsonValue, (a, b) => {
      expect(canonicalJson(a) === canonicalJson(b)).toBe(sameValue(a, b));
    }),
    { numRuns: 500 },
  );
});

test.each<[string, Value[]]>([
  ['integers, as number and as int64', [5, 5n]],
  [
    'exact numbers written in several ways',
    [new ExactNumber('1e400'), new ExactNumber('10E+399'), new ExactNumber('1.0e400')],
  ],
  ['an exact number that a double holds', [12.5, new ExactNumber('12.50')]],
])('%s: one canonical text', (_title, values) => {
  expect(new Set(values.map(canonicalJson)).size).toBe(1);
});

test('the canonical text is compact, and sorted at every level', () => {
  expect(canonicalJson({ b: [{ z: 1, a: null }], a: 'é"' })).toBe('{"a":"é\\"","b":[{"a":null,"z":1}]}');
});

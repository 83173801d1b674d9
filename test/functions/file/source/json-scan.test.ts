import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { arraySpace, skipSpace, skipValue } from '../../../../functions/file/json-scan.ts';

const accepts = (text: string): boolean => {
  const data = Buffer.from(`${text}\0 trailing "bytes"]}`);
  const length = Buffer.byteLength(text);
  const end = skipValue(data, skipSpace(data, 0, arraySpace), arraySpace);
  return end >= 0 && skipSpace(data, end, arraySpace) === length;
};

const parses = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

const space = fc.constantFrom('', '', ' ', '\n', '\t ', '\r\n');
const string = fc.oneof(
  fc.string({ unit: 'binary' }).map((text) => JSON.stringify(text)),
  fc.constantFrom('"\\u00e9\\/"', '"\\ud83d\\ude00"', '"\\ud800"', '""', '"\x7f\u2028"'),
);
const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  fc.constantFrom('0', '-0', '1e5', '1E+05', '-0.0e-0', '123456789012345678901234567890'),
);
const json = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom('true', 'false', 'null'),
    string,
    number,
    fc
      .array(fc.tuple(space, tie('value'), space), { maxLength: 4 })
      .map((v) => `[${v.map((p) => p.join('')).join(',')}]`),
    fc
      .array(fc.tuple(space, string, space, fc.constant(':'), space, tie('value'), space), { maxLength: 4 })
      .map((v) => `{${v.map((p) => p.join('')).join(',')}}`),
  ),
})).value;

const noise = fc.constantFrom(
  ...'{}[]:,"\\0123456789.eE+-tfnu \n\t\0\u0001é'.split(''),
  'true',
  '\\u12',
  '\ufeff',
  '//',
  "'",
);

describe('the JSON scanner accepts what JSON.parse accepts', () => {
  test('valid texts', () => {
    fc.assert(
      fc.property(json, space, (text, around) => {
        expect(accepts(around + text + around)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test('texts with something taken out, put in or put in place of something', () => {
    fc.assert(
      fc.property(json, fc.nat(), fc.nat(3), noise, (text, at, taken, put) => {
        const i = at % (text.length + 1);
        const mutated = text.slice(0, i) + put + text.slice(i + taken);
        if (mutated.isWellFormed()) expect(accepts(mutated), mutated).toBe(parses(mutated));
      }),
      { numRuns: 5_000 },
    );
  });

  test('texts made of the bytes of JSON in any order', () => {
    fc.assert(
      fc.property(fc.array(noise, { maxLength: 8 }), (parts) => {
        const text = parts.join('');
        expect(accepts(text), text).toBe(parses(text));
      }),
      { numRuns: 5_000 },
    );
  });

  test('every prefix of a text is no text, and fails at its end', () => {
    const text = '{"a":[1.5e3,{"b":"\\u00e9\\n"}],"c":true,"d":null}';
    for (let length = 1; length < text.length; length++) {
      const data = Buffer.from(`${text.slice(0, length)}\0`);
      expect(~skipValue(data, 0, arraySpace), text.slice(0, length)).toBe(length);
    }
  });

  test('a hundred thousand levels deep', () => {
    expect(accepts('['.repeat(100_000) + ']'.repeat(100_000))).toBe(true);
    expect(accepts('['.repeat(100_000) + ']'.repeat(99_999))).toBe(false);
  });
});

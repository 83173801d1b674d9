import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decimalText, misfit } from '../../../shared/connect/fit.ts';
import { ExactNumber, type Schema, type Value } from '../../../shared/connect/schema.ts';
import { fittingValue, jsonValue, schema } from '../../kit/arbitraries.ts';

test('a value made for a schema fits it', () => {
  const pair = schema.chain((of) => fittingValue(of).map((value) => ({ of, value })));
  fc.assert(
    fc.property(pair, ({ of, value }) => {
      expect(misfit(of, value, 'v')).toBeUndefined();
    }),
    { numRuns: 500 },
  );
});

test('checking any value against any schema never throws, and names the path', () => {
  fc.assert(
    fc.property(schema, jsonValue, (of, value) => {
      const problem = misfit(of, value, 'v');
      if (problem !== undefined) expect(problem).toMatch(/: (expected .*, got |no such field)/s);
    }),
    { numRuns: 500 },
  );
});

const bytes = Uint8Array.of(1);
test.each<[Schema, readonly unknown[], readonly unknown[]]>([
  [{ type: 'int8' }, [-128, 0, 127], [-129, 128, 1.5, '1', 1n, true, Number.NaN, null, undefined]],
  [{ type: 'int16' }, [-32768, 32767], [-32769, 32768]],
  [{ type: 'int32' }, [-2147483648, 2147483647], [-2147483649, 2147483648]],
  [
    { type: 'int64' },
    [0, 2 ** 53 - 1, -(2n ** 63n), 2n ** 63n - 1n],
    [2 ** 53, 2n ** 63n, -(2n ** 63n) - 1n, 0.5, '1'],
  ],
  [{ type: 'float64' }, [0, 1.5, Number.NaN, Number.POSITIVE_INFINITY], ['1', 1n, null]],
  [{ type: 'boolean' }, [true, false], [0, 'true', null]],
  [{ type: 'string' }, ['', 'x'], [1, null, bytes]],
  [{ type: 'bytes' }, [bytes, Buffer.from('x')], ['AQ==', [1], null]],
  [
    { type: 'decimal' },
    ['0', '-12.50', '007', 5, 5n, new ExactNumber('1.50')],
    ['1e5', '.5', '1.', '', '+1', Number.NaN, 1e21, true],
  ],
  [{ type: 'decimal', precision: 4, scale: 2 }, ['12.34', '0.5', '-99.99', '007'], ['123.4', '1.234', '100']],
  [{ type: 'decimal', precision: 2 }, ['99'], ['100', '1.0']],
  [
    { type: 'date' },
    ['2024-02-29', '-0044-03-15', '12345-01-01'],
    ['2024-13-01', '2024-00-01', '2024-01-32', '24-01-01', '2024-01-01T00:00:00Z', 0],
  ],
  [
    { type: 'time' },
    ['00:00:00', '23:59:59.123456789', '24:00:00'],
    ['23:60:00', '25:00:00', '1:00:00', '00:00:00Z', '00:00:00.'],
  ],
  [
    { type: 'timestamp' },
    ['2024-02-29T23:59:60.5Z'],
    ['2024-02-29T23:59:59', '2024-02-29 23:59:59Z', '2024-02-29T23:59:59+01:00'],
  ],
  [{ type: 'timestamp', local: true }, ['2024-02-29T23:59:59'], ['2024-02-29T23:59:59Z']],
  [
    { type: 'uuid' },
    ['01234567-89ab-cdef-0123-456789abcdef'],
    ['01234567-89AB-cdef-0123-456789abcdef', '0123456789abcdef0123456789abcdef'],
  ],
  [{ type: 'any' }, [null, undefined, 1, 'x', [1], { a: 1 }, bytes], []],
  [{ type: 'string', optional: true }, [null, undefined, 'x'], [1]],
  [{ type: 'array', items: { type: 'int8' } }, [[], [1, 2]], [[1, 'x'], [null], {}, '[]', bytes]],
  [{ type: 'map', values: { type: 'int8' } }, [{}, { a: 1 }], [{ a: 'x' }, [], bytes, new ExactNumber('1')]],
])('%j', (of, fits, doesNot) => {
  for (const value of fits) expect(misfit(of, value as Value, 'v')).toBeUndefined();
  for (const value of doesNot) expect(misfit(of, value as Value, 'v')).toMatch(/^v/);
});

test('a struct is told by its path: nested, missing and unknown fields', () => {
  const of: Schema = {
    type: 'struct',
    fields: [
      { name: 'id', schema: { type: 'int32' } },
      {
        name: 'tags',
        schema: {
          type: 'array',
          items: { type: 'struct', fields: [{ name: 'x', schema: { type: 'string' } }] },
          optional: true,
        },
      },
    ],
  };
  expect(misfit(of, { id: 1 }, '')).toBeUndefined();
  expect(misfit(of, { id: 1, tags: null }, '')).toBeUndefined();
  expect(misfit(of, {}, '')).toBe('id: expected int32, got nothing');
  expect(misfit(of, { id: 1, no: 2 }, '')).toBe('no: no such field in the schema');
  expect(misfit(of, { id: 1, tags: [{ x: 'a' }, { x: 5 }] }, 'value')).toBe(
    'value.tags[1].x: expected string, got number 5',
  );
  expect(misfit(of, JSON.parse('{"id":1,"__proto__":{}}'), '')).toBe('__proto__: no such field in the schema');
  // What every object inherits is no field.
  expect(misfit({ type: 'struct', fields: [{ name: 'toString', schema: { type: 'string' } }] }, {}, '')).toMatch(
    /^toString: expected string, got nothing/,
  );
});

test('a decimal keeps its digits', () => {
  expect(['12.50', -3, 12n, new ExactNumber('0.10')].map(decimalText)).toEqual(['12.50', '-3', '12', '0.10']);
  expect([1e21, Number.NaN, true, null, [1]].map((value) => decimalText(value as Value))).toEqual(
    Array(5).fill(undefined),
  );
});

test('a message never holds a whole large value', () => {
  expect(misfit({ type: 'int8' }, 'x'.repeat(10_000), 'v')!.length).toBeLessThan(200);
});

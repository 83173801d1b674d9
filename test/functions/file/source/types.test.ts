import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FieldTypeText } from '../../../../functions/file/field-type.ts';
import type { Value } from '../../../../shared/connect/schema.ts';
import { readContent } from './kit.ts';

const bytes = (text: string) => new Uint8Array(Buffer.from(text));

/** JSON text in, value out. */
const fitting: [FieldTypeText, string, Value][] = [
  ['string', '"a\\nb \\ud83d\\ude00"', 'a\nb 😀'],
  ['string', '300', '300'],
  ['string', '1.50', '1.50'],
  ['string', 'true', 'true'],
  ['string?', 'null', null],
  ['int8', '-128', -128],
  ['int16', '"32767"', 32767],
  ['int32', '5.0', 5],
  ['int32', '"007"', 7],
  ['int32', '-2147483648', -2147483648],
  ['int64', '9223372036854775807', 9223372036854775807n],
  ['int64', '-9223372036854775808', -9223372036854775808n],
  ['int64', '-4294967297', -4294967297n],
  ['int64', '-1', -1n],
  ['int64', '"999999999999999"', 999999999999999n],
  ['float64', '0.1', 0.1],
  ['float64', '-0', -0],
  ['float64', '"1.7976931348623157e308"', 1.7976931348623157e308],
  ['float64', '123456789012345678', 123456789012345680],
  ['float64', '"NaN"', Number.NaN],
  ['float64', '"-Infinity"', Number.NEGATIVE_INFINITY],
  ['float32', '0.1', Math.fround(0.1)],
  ['boolean', 'false', false],
  ['boolean', '"True"', true],
  ['decimal(5,2)', '123.40', '123.40'],
  ['decimal(5,2)', '"-0001.5"', '-0001.5'],
  ['decimal', '123456789012345678901234567890.10', '123456789012345678901234567890.10'],
  ['date', '"2024-02-29"', '2024-02-29'],
  ['time', '"23:59:59.123456"', '23:59:59.123456'],
  ['timestamp', '"2024-02-29T23:59:60.5Z"', '2024-02-29T23:59:60.5Z'],
  ['timestamp', '"2024-01-01 00:30:00.123456+02:00"', '2023-12-31T22:30:00.123456Z'],
  ['timestamp', '"2024-01-01T10:00-0130"', '2024-01-01T11:30:00Z'],
  ['timestamp', '"0099-12-31t23:00:00z"', '0099-12-31T23:00:00Z'],
  ['timestamp local', '"2024-01-01 10:00:00"', '2024-01-01T10:00:00'],
  ['uuid', '"6BA7B810-9DAD-11D1-80B4-00C04FD430C8"', '6ba7b810-9dad-11d1-80b4-00c04fd430c8'],
  ['bytes', '"aMO8+/8="', new Uint8Array(Buffer.from('aMO8+/8=', 'base64'))],
  ['bytes', '"aGk"', bytes('hi')],
  ['any', '{"a":[1,null]}', { a: [1, null] }],
  [{ type: 'date', format: 'MMM d yyyy' }, '"Jun 12 1998"', '1998-06-12'],
  [{ type: 'date', format: 'MMM d yyyy' }, '"aug 07 2046"', '2046-08-07'],
  [{ type: 'date', format: 'd. MMMM yyyy' }, '"1. February 2024"', '2024-02-01'],
  [{ type: 'date', format: 'yyyyMMdd' }, '20240229', '2024-02-29'],
  [{ type: 'time', format: 'h:mm a' }, '"12:05 am"', '00:05:00'],
  [
    { type: 'timestamp', format: "dd/MM/yyyy 'at' HH:mm:ss.SSS" },
    '"29/02/2024 at 07:08:09.010"',
    '2024-02-29T07:08:09.010Z',
  ],
  [{ type: 'timestamp local?', format: 'd.M.yyyy H:mm' }, '"1.2.2024 9:30"', '2024-02-01T09:30:00'],
];

const misfits: [FieldTypeText, string][] = [
  ['string', '{"a":1}'],
  ['string', 'null'],
  ['string', '"\\ud800"'],
  ['int8', '128'],
  ['int32', '3.5'],
  ['int32', '2147483648'],
  ['int32', '1e3'],
  ['int32', '""'],
  ['int32', '" 5"'],
  ['int32', '"0x10"'],
  ['int32', 'true'],
  ['int64', '9223372036854775808'],
  ['float64', '1e400'],
  ['float64', '1e-400'],
  ['float64', '"1."'],
  ['float64', '".5"'],
  ['float64', '"inf"'],
  ['float32', '1e39'],
  ['boolean', '1'],
  ['boolean', '"yes"'],
  ['decimal(5,2)', '1.234'],
  ['decimal(5,2)', '1234'],
  ['decimal', '1e5'],
  ['decimal', '"-"'],
  ['decimal', '"1."'],
  ['date', '"2023-02-29"'],
  ['date', '"2024-1-1"'],
  ['time', '"25:00:00"'],
  ['timestamp', '"2024-01-01T10:00:00"'],
  ['timestamp', '"2024-01-01T24:00:00Z"'],
  ['timestamp local', '"2024-01-01T10:00:00Z"'],
  ['uuid', '"6ba7b810"'],
  ['bytes', '"a b"'],
  [{ type: 'date', format: 'MMM d yyyy' }, '"Feb 30 1998"'],
  [{ type: 'date', format: 'MMM d yyyy' }, '"1998"'],
  [{ type: 'date', format: 'MMM d yyyy' }, '"Jun 12 1998 "'],
  [{ type: 'time', format: 'h:mm a' }, '"13:05 pm"'],
];

describe('declared types', () => {
  test.each(fitting)('%j reads %s', async (type, text, value) => {
    const { values, errors } = await readContent('in.jsonl', `{"f":${text}}\n`, { fields: { f: type } });
    expect(errors).toEqual([]);
    expect(values).toEqual([{ f: value }]);
  });

  test.each(misfits)('%j refuses %s, and the rows around it pass', async (type, text) => {
    const typed = typeof type === 'string' ? `${type}?` : { ...type, type: `${type.type}?` };
    const lines = `{"n":1,"f":null}\n{"n":2,"f":${text}}\n{"n":3}\n`;
    const { values, errors, raws, indices } = await readContent('in.jsonl', lines, {
      fields: { n: 'int32', f: text === 'null' ? 'string' : typed },
    });
    const found = errors.findIndex((error) => error.startsWith('in.jsonl:2: f: '));
    expect(found).toBeGreaterThanOrEqual(0);
    expect(raws[found]).toBe(`{"n":2,"f":${text}}`);
    if (text === 'null') return;
    expect(indices).toEqual([1]);
    expect(values).toEqual([{ n: 1, f: null }, { n: 3 }]);
  });

  test('numbers come as JSON.parse and BigInt read them', async () => {
    const number = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }).filter((n) => n === 0 || Math.abs(n) > 1e-300),
      fc.tuple(fc.integer(), fc.nat(9_999_999)).map(([a, b]) => Number(`${a}.${b}`)),
      fc.tuple(fc.integer({ min: -999, max: 999 }), fc.nat(999)).map(([a, b]) => Number(`${a}.${b}`)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(number, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.integer()), {
          minLength: 1,
        }),
        async (rows) => {
          const content = rows.map(([f, l, i]) => `{"f":${f},"l":${l},"i":"${i}"}\n`).join('');
          const { values } = await readContent('in.jsonl', content, {
            fields: { f: 'float64', l: 'int64', i: 'int32' },
          });
          expect(values).toEqual(rows.map(([f, l, i]) => ({ f: JSON.parse(String(f)), l, i })));
        },
      ),
      { numRuns: 100 },
    );
  });

  test('absent and null fields: an error unless optional, or any', async () => {
    const { values, errors } = await readContent('in.jsonl', '{"a":1}\n{"a":1,"b":null}\n{"a":1,"b":2}\n', {
      fields: { b: 'int32', c: 'any', d: 'string?' },
    });
    expect(values).toEqual([{ b: 2, a: 1 }]);
    expect(errors).toEqual([
      'in.jsonl:1: b: expected int32, got no such field (declare int32? if it may be absent)',
      'in.jsonl:2: b: expected int32, got null (declare int32? if it may be absent)',
    ]);
  });

  test('each rejected row says how many good rows were before it', async () => {
    const content = '{"a":1}\n{"a":"x"}\n{"a":2}\n{"a":"y"}\n{broken\n{"a":3}\n{"a":"z"}';
    for (const maxRecords of [100, 3]) {
      const { indices, errors } = await readContent('in.jsonl', content, { fields: { a: 'int32' } }, { maxRecords });
      expect(indices).toEqual([1, 2, 2, 3]);
      expect(errors.map((error) => error.split(' ')[0])).toEqual([
        'in.jsonl:2:',
        'in.jsonl:4:',
        'in.jsonl:5:',
        'in.jsonl:7:',
      ]);
    }
  });

  test('the key is a struct of the key fields, and a record without one of them is an error', async () => {
    const { values, keys, errors } = await readContent(
      'in.jsonl',
      '{"id":1,"t":"a","x":1}\n{"id":2}\n{"id":3,"t":null}\n7\n{"t":"b","id":"4"}\n',
      { keyFields: ['t', 'id'], fields: { id: 'int64' } },
    );
    expect(keys).toEqual([
      { t: 'a', id: 1n },
      { t: 'b', id: 4n },
    ]);
    expect(values).toHaveLength(2);
    expect(errors).toEqual([
      'in.jsonl:2: t: is a key field and missing',
      'in.jsonl:3: t: is a key field and null',
      'in.jsonl:4: expected an object with the declared fields, got 7',
    ]);
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { columnCheck } from '../../../functions/mysql/checks.ts';
import { columnOf, type RecordInput } from '../../../shared/connect/build.ts';
import type { Rejected } from '../../../shared/connect/connector.ts';
import { writeJson } from '../../../shared/connect/json.ts';
import type { Schema, Struct, Value } from '../../../shared/connect/schema.ts';
import { anyText, clock, date, decimalParts, decimals, int, json, printed } from '../../kit/canonical-values.ts';
import { keyed, putRecords } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

const same = (got: string, value: Value) => expect(got).toBe(String(value));
const sameNumber = (got: string, value: Value) => expect(Number(got)).toBe(Object.is(value, -0) ? Number(got) : value);
const sameDecimal = (got: string, value: Value) =>
  expect(decimalParts(got)).toBe(decimalParts(value as string).replace(/^-\.$/, '.'));
/** Its text, to the last digit. */
const sameJson = (got: string, value: Value) => expect(got).toBe(writeJson(value));
const storableJson = json.filter((value) => value !== null);

interface Case {
  readonly schema: Schema;
  readonly values: fc.Arbitrary<Value>;
  /** As information_schema names it. */
  readonly type: string;
  check(got: string, value: Value): void;
}

const cases: { readonly [name: string]: Case } = {
  int8: { schema: { type: 'int8' }, values: int(8), type: 'tinyint', check: same },
  int16: { schema: { type: 'int16' }, values: int(16), type: 'smallint', check: same },
  int32: { schema: { type: 'int32' }, values: int(32), type: 'int', check: same },
  int64: {
    schema: { type: 'int64' },
    values: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    type: 'bigint',
    check: same,
  },
  float32: {
    schema: { type: 'float32' },
    values: fc.float({ noNaN: true, noDefaultInfinity: true }),
    type: 'double',
    check: sameNumber,
  },
  float64: {
    schema: { type: 'float64' },
    values: fc.double({ noNaN: true, noDefaultInfinity: true }),
    type: 'double',
    check: sameNumber,
  },
  boolean: {
    schema: { type: 'boolean' },
    values: fc.boolean(),
    type: 'tinyint',
    check: (got, value) => same(got, Number(value)),
  },
  string: { schema: { type: 'string' }, values: anyText, type: 'longtext', check: same },
  bytes: {
    schema: { type: 'bytes' },
    values: fc.uint8Array(),
    type: 'longblob',
    check: (got, value) =>
      expect(got).toBe(
        Buffer.from(value as Uint8Array)
          .toString('hex')
          .toUpperCase(),
      ),
  },
  decimal: { schema: { type: 'decimal' }, values: decimals(35, 30), type: 'decimal', check: sameDecimal },
  money: {
    schema: { type: 'decimal', precision: 12, scale: 4 },
    values: decimals(8, 4),
    type: 'decimal',
    check: sameDecimal,
  },
  date: { schema: { type: 'date' }, values: date, type: 'date', check: same },
  time: {
    schema: { type: 'time' },
    values: fc.oneof(clock, fc.constant('24:00:00')),
    type: 'time',
    check: (got, value) => expect(printed(got)).toBe(printed(value as string)),
  },
  timestamp: {
    schema: { type: 'timestamp' },
    values: fc.tuple(date, clock).map(([d, t]) => `${d}T${t}Z`),
    type: 'datetime',
    check: (got, value) => expect(printed(got)).toBe(printed((value as string).replace('T', ' ').slice(0, -1))),
  },
  local: {
    schema: { type: 'timestamp', local: true },
    values: fc.tuple(date, clock).map(([d, t]) => `${d}T${t}`),
    type: 'datetime',
    check: (got, value) => expect(printed(got)).toBe(printed((value as string).replace('T', ' '))),
  },
  uuid: { schema: { type: 'uuid' }, values: fc.uuid(), type: 'char', check: same },
  any: { schema: { type: 'any', optional: true }, values: storableJson, type: 'longtext', check: sameJson },
  array: {
    schema: { type: 'array', items: { type: 'string' } },
    values: fc.array(anyText),
    type: 'longtext',
    check: sameJson,
  },
  map: {
    schema: { type: 'map', values: { type: 'int32' } },
    values: fc.dictionary(anyText, int(32)).map((map) => JSON.parse(JSON.stringify(map)) as Value),
    type: 'longtext',
    check: sameJson,
  },
  struct: {
    schema: { type: 'struct', fields: [{ name: 'a', schema: { type: 'string' } }] },
    values: anyText.map((a) => ({ a })),
    type: 'longtext',
    check: sameJson,
  },
};

const record = (topic: string, id: number, cells: Struct): RecordInput => ({
  topic,
  value: { id, ...cells },
  valueSchema: {
    type: 'struct',
    fields: [
      { name: 'id', schema: { type: 'int32' } },
      ...Object.entries(cases).map(([name, { schema }]) => ({ name, schema: { ...schema, optional: true } })),
    ],
  },
});

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  const { withSink, run, all } = useSink(flavour);

  test('each canonical type gets its column', async () => {
    await withSink({}, (task) => putRecords(task, [record('t', 1, {})]));
    const columns = await all(
      "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't' AND COLUMN_NAME <> 'id' ORDER BY ORDINAL_POSITION",
    );
    expect(columns).toEqual(Object.entries(cases).map(([name, { type }]) => [name, type]));
  });

  test.each([
    ['insert', {}],
    ['upsert', { keyFields: ['id'] }],
  ] as const)('every value of every type arrives as it was, by %s', async (_, config) => {
    const cells = fc.record(
      Object.fromEntries(Object.entries(cases).map(([name, { values }]) => [name, fc.option(values)])),
      { requiredKeys: [] },
    );
    // As text: of a double mysql2 makes a number that may be off by the last digit.
    const shown = (name: string) => (name === 'bytes' ? 'hex(bytes)' : `CAST(\`${name}\` AS CHAR)`);
    let next = 0;
    await withSink(config, (task) =>
      fc.assert(
        fc.asyncProperty(fc.array(cells, { minLength: 1, maxLength: 30 }), async (rows) => {
          const first = next;
          next += rows.length;
          const records = rows.map((row, i) => record('t', first + i, row as Struct));
          expect((await putRecords(task, records)).rejected).toEqual([]);
          const got = await all(
            `SELECT ${Object.keys(cases).map(shown).join(', ')} FROM t WHERE id >= ${first} ORDER BY id`,
          );
          expect(got).toHaveLength(rows.length);
          for (const [i, row] of rows.entries())
            for (const [at, [name, { check }]] of Object.entries(cases).entries()) {
              const value = (row as Struct)[name] ?? null;
              if (value === null) expect(got[i]![at]).toBeNull();
              else check(String(got[i]![at]), value);
            }
        }),
        { numRuns: 60 },
      ),
    );
  });

  const misfits: readonly (readonly [field: string, value: Value, problem: RegExp])[] = [
    ['float64', Number.NaN, /MySQL has no NaN/],
    ['float32', Number.NEGATIVE_INFINITY, /MySQL has no -Infinity/],
    ['timestamp', '2024-02-29T23:59:59.1234567Z', /microseconds/],
    ['local', '2024-02-29T23:59:59.000000001', /microseconds/],
    ['time', '23:59:59.1234561', /microseconds/],
    ['timestamp', '2016-12-31T23:59:60Z', /leap second/],
    ['timestamp', '+12024-02-29T23:59:59Z', /signed years/],
    ['date', '-0044-03-15', /signed years/],
    ['date', '12024-03-15', /four digits/],
    ['date', '2023-02-29', /Incorrect date/],
    ['timestamp', '999999-01-01T00:00:00Z', /four digits/],
    ['decimal', `0.${'0'.repeat(30)}1`, /30 digits after the point/],
    ['decimal', '9'.repeat(36), /Out of range/],
  ];

  test.each(misfits)('what MySQL cannot hold is refused, not changed: %s %j', async (field, value, problem) => {
    for (const config of [{ mode: 'insert' }, { keyFields: ['id'] }] as readonly Struct[]) {
      await run('DROP TABLE IF EXISTS t');
      const batch = [record('t', 1, {}), record('t', 2, { [field]: value }), record('t', 3, {})];
      const { rejected } = await withSink(config, (task) => putRecords(task, batch));
      expect(rejected.map(({ index }: Rejected) => index)).toEqual([1]);
      expect(rejected[0]!.error).toMatchObject({ blame: 'row', message: expect.stringMatching(problem) });
    }
  });

  test('what columns that are there already would round or cut in silence is refused', async () => {
    await run(
      'CREATE TABLE t (id integer PRIMARY KEY, c char(3), v varchar(3), m decimal(9,1), j json, b varbinary(2), x tinytext)',
    );
    const cells: readonly (readonly [Struct, RegExp?])[] = [
      [{ c: 'abc', v: 'ab ', m: '12.50', j: [1.5, 18446744073709551615n, 'a 1234567890123456789012345'], x: 'x' }],
      [{ c: 'a ' }, /drops the spaces/],
      [{ v: 'abc ' }, /would cut off/],
      [{ x: ' '.repeat(256) }, /would cut off/],
      [{ v: 'äöü' }],
      [{ m: '12.34' }, /keeps 1 digits/],
      [{ b: Buffer.from('abc') }, /too long/],
      // MariaDB's JSON is a text.
      [{ j: [0.30000000000000004] }, flavour === 'mysql' ? /would round 0.30000000000000004/ : undefined],
    ];
    const types = { c: 'string', v: 'string', m: 'any', j: 'any', b: 'bytes', x: 'string' } as const;
    const fields = { ...types, m: { type: 'decimal', optional: true } } as const;
    const batch = cells.map(([value], id) => keyed(id, value, fields));
    const { rejected } = await withSink({}, (task) => putRecords(task, batch));
    const bad = cells.flatMap(([, problem], index) => (problem === undefined ? [] : [{ index, problem }]));
    expect(rejected.map(({ index }) => index)).toEqual(bad.map(({ index }) => index));
    for (const [i, { problem }] of bad.entries()) expect(rejected[i]!.error.message).toMatch(problem);
    expect(await all('SELECT c, v, m, x FROM t WHERE id IN (0, 4) ORDER BY id')).toEqual([
      ['abc', 'ab ', '12.5', 'x'],
      [null, 'äöü', null, null],
    ]);
  });
});

describe('checks', () => {
  const json = {
    name: 'json',
    base: 'json',
    capacity: null,
    collation: null,
    scale: null,
    fraction: null,
    nullable: true,
  };
  const check = (text: string) => {
    const column = columnOf('any', { type: 'any' }, [JSON.parse('null')]);
    const data = Buffer.from(text);
    const cells = { data, starts: Uint32Array.of(0), ends: Uint32Array.of(data.length) };
    const { state: _, ...whole } = { state: undefined, ...column, ...cells };
    return columnCheck(json, { type: 'any' }, false)!(whole as never, 0);
  };

  test.each([
    '1',
    '-9223372036854775808',
    '18446744073709551615',
    '0.3000000000000004',
    '1e21',
    '"12345678901234567890.5"',
    '"\\"1234567890123456789012"',
    '{"a":[1,{"b":2.5}]}',
  ])('JSON that MySQL keeps: %s', (text) => {
    expect(check(text)).toBeUndefined();
  });

  test.each([
    '18446744073709551617',
    '-9223372036854775809.5',
    '0.1234567890123456789',
    '{"a":[12345678901234567.5]}',
    '1.2345678901234567890e5',
    '1e-300',
    '0.30000000000000004',
  ])('JSON that it would round: %s', (text) => {
    expect(check(text)).toMatch(/would round/);
  });

  test('decimals of any length are told by the digits after the point', () => {
    const decimal = { ...json, name: 'decimal(9,2)', base: 'decimal', scale: 2 };
    const of = (text: string) =>
      columnCheck(decimal, { type: 'decimal' }, false)!(columnOf('d', { type: 'decimal' }, [text]), 0);
    expect(['1', '-1.25', '1.2500'].map(of)).toEqual([undefined, undefined, undefined]);
    expect(of('1.251')).toMatch(/keeps 2 digits/);
  });
});

import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Connection, connect, quote } from '../../../functions/postgres/client.ts';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import {
  type BinaryField,
  copyHeader,
  copyTrailer,
  hasBinary,
  toCopyBinary,
  UnusualValue,
} from '../../../functions/postgres/to-copy-binary.ts';
import { type ColumnType, takes } from '../../../functions/postgres/types.ts';
import { columnOf } from '../../../shared/connect/build.ts';
import type { Schema, Value } from '../../../shared/connect/schema.ts';
import { createTextOutput, written } from '../../../shared/connect/text-output.ts';
import { toCopyText } from '../../../shared/connect/to-copy-text.ts';
import { flatColumn } from '../../../shared/connect/to-json-lines.ts';
import { anyText, clock, date, decimals, int, json } from '../../kit/canonical-values.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';

let server: PostgresServer;
let connection: Connection;
beforeAll(async () => {
  server = await startPostgres();
  connection = await connect(postgresSink.config.parse({ url: server.url }), 'test', new AbortController().signal);
});
afterAll(async () => {
  await connection?.close();
  await server?.stop();
});

const text = anyText.filter((s) => !s.includes('\0'));
const storable = json.filter((value) => value !== null && !/\\u(0000|d[89a-f])/i.test(JSON.stringify(value)));
const int64 = fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), int(16).map(BigInt));
const timestamp = fc.tuple(date, clock).map(([day, time]) => `${day}T${time}`);

const values: { readonly [type in Schema['type']]?: fc.Arbitrary<Value> } = {
  int8: int(8),
  int16: int(16),
  int32: fc.oneof(int(16), int(32)),
  int64,
  float32: fc.float(),
  float64: fc.oneof(fc.double(), fc.float()),
  boolean: fc.boolean(),
  string: text,
  bytes: fc.uint8Array(),
  decimal: fc.oneof(decimals(60, 60), decimals(5, 5), fc.constantFrom('0', '-0', '0.0000', '10000', '0.0001')),
  date,
  time: fc.oneof(clock, fc.constant('24:00:00')),
  timestamp,
  uuid: fc.uuid(),
  any: storable,
  array: fc.array(text),
  map: fc.dictionary(text, int(32)).map((map) => JSON.parse(JSON.stringify(map)) as Value),
};
const schemaOf = (type: Schema['type']): Schema => {
  if (type === 'array') return { type, items: { type: 'string' }, optional: true };
  if (type === 'map') return { type, values: { type: 'int32' }, optional: true };
  return { type, optional: true, ...(type === 'timestamp' ? { local: true } : {}) } as Schema;
};

const bases = [
  ...['smallint', 'integer', 'bigint', 'real', 'double precision', 'boolean', 'numeric', 'text', 'character varying'],
  ...['bytea', 'date', 'time without time zone', 'timestamp without time zone', 'uuid', 'jsonb', 'json', 'inet'],
];
const typeOf = (base: string): ColumnType => ({
  name: base,
  base,
  category: base === 'text' || base === 'character varying' ? 'S' : 'U',
  modifier: -1,
});
const columns = Object.keys(values).flatMap((name) =>
  bases
    .map((base) => ({ type: typeOf(base), schema: schemaOf(name as Schema['type']), name: `${name} ${base}` }))
    .filter(({ type, schema }) => hasBinary(type, schema)),
);

const fieldOf = ({ name, schema, type }: (typeof columns)[number], cells: readonly Value[]): BinaryField => ({
  column: flatColumn(columnOf(name, schema, cells), cells.length),
  type,
});

/** Whether a value has a binary form. */
const isUsual = (column: (typeof columns)[number], value: Value): boolean => {
  try {
    const out = createTextOutput(1);
    toCopyBinary([fieldOf(column, [value])], 0, 1, out);
    // There was room for all of it.
    expect(out.length).toBeLessThanOrEqual(out.data.length);
    return true;
  } catch (error) {
    if (error instanceof UnusualValue) return false;
    throw error;
  }
};

test('a column takes in binary what it takes as text', () => {
  expect(columns.filter(({ type, schema }) => !takes(type, schema))).toEqual([]);
  expect(columns.length).toBeGreaterThan(35);
});

test('binary rows are what their texts are', async () => {
  const list = columns.map(({ name, type }) => `${quote(name)} ${type.base}`).join(', ');
  await connection.run(`CREATE TABLE texts (${list}); CREATE TABLE binaries (LIKE texts)`);
  const row = fc.record(
    Object.fromEntries(columns.map(({ name }) => [name, fc.option(values[name.split(' ')[0] as 'any']!)])),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(row, { maxLength: 30 }), async (rows) => {
      const fields = columns.map((column) => {
        const cells = rows.map((cells) => (cells[column.name] ?? null) as Value);
        return fieldOf(
          column,
          cells.map((value) => (value !== null && isUsual(column, value) ? value : null)),
        );
      });
      const out = createTextOutput(1);
      toCopyText(fields, 0, rows.length, out);
      await connection.copy('TRUNCATE texts; COPY texts FROM STDIN', [written(out)]);
      const cut = rows.length >> 1;
      out.length = 0;
      toCopyBinary(fields, 0, cut, out);
      toCopyBinary(fields, cut, rows.length, out);
      await connection.copy('TRUNCATE binaries; COPY binaries FROM STDIN (FORMAT binary)', [
        copyHeader,
        written(out),
        copyTrailer,
      ]);
      const of = (table: string) => connection.query<{ row: string }>(`SELECT t::text AS row FROM ${table} t`);
      expect(await of('binaries')).toEqual(await of('texts'));
    }),
    { numRuns: 150 },
  );
});

const column = (type: string, base: string) => ({
  name: type,
  type: typeOf(base),
  schema: schemaOf(type as Schema['type']),
});

test.each([
  ['int32', 'smallint', [-32768, 32767], [-32769, 32768]],
  ['int64', 'smallint', [-32768n, 32767n], [-32769n, 2n ** 32n]],
  ['int64', 'integer', [-(2n ** 31n), 2n ** 31n - 1n], [2n ** 31n, -(2n ** 31n) - 1n, 2n ** 32n]],
  ['float32', 'real', [0.5, Number.NaN, Number.POSITIVE_INFINITY, -0], [0.1, 1e39]],
  [
    'string',
    'numeric',
    ['-12345.67891', '0', '00.10'],
    ['', '-', '.5', '5.', '1e5', '1.2.3', 'NaN', '9'.repeat(1_001)],
  ],
  [
    ...(['date', 'date'] as const),
    ['0001-01-01', '2000-02-29', '2024-12-31', '9999-12-31'],
    [
      '2023-02-29',
      '1900-02-29',
      '2024-04-31',
      '2024-13-01',
      '2024-00-01',
      '2024-01-00',
      '0000-01-01',
      '12024-01-01',
      '2024/01/01',
      '',
    ],
  ],
  [
    ...(['time', 'time without time zone'] as const),
    ['00:00:00', '23:59:59.999999', '12:00:00.1'],
    ['24:00:00', '23:60:00', '23:59:60', '12:00', '12:00:00.', '12:00:00.1234567', '12:00:00+01', '1x:00:00', ''],
  ],
  [
    ...(['timestamp', 'timestamp without time zone'] as const),
    ['0001-01-01T00:00:00', '9999-12-31T23:59:59.999999Z', '1999-12-31T23:59:59.5'],
    ['2024-01-01 00:00:00', '2024-01-01', '2024-01-01T00:00:60', '2024-02-30T00:00:00', '2024-01-01T00:00:00+01', ''],
  ],
  [
    ...(['uuid', 'uuid'] as const),
    ['6F9619FF-8b86-D011-b42d-00cf4fc964ff'],
    [
      '6f9619ff8b86d011b42d00cf4fc964ff',
      '{6f9619ff-8b86-d011-b42d-00cf4fc964f}',
      '6f9619ff-8b86-d011-b42d-00cf4fc964fg',
      '',
    ],
  ],
] as const)('%s for %s: what is unusual goes as text', (type, base, usual, unusual) => {
  for (const value of usual) expect([value, isUsual(column(type, base), value as Value)]).toEqual([value, true]);
  for (const value of unusual) expect([value, isUsual(column(type, base), value as Value)]).toEqual([value, false]);
});

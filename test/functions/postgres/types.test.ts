import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import type { RecordInput } from '../../../shared/connect/build.ts';
import type { Rejected } from '../../../shared/connect/connector.ts';
import type { Schema, Struct, Value } from '../../../shared/connect/schema.ts';
import {
  anyText,
  clock,
  date,
  decimalParts,
  decimals,
  entriesOf,
  int,
  json,
  printed,
} from '../../kit/canonical-values.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';
import { putRecords } from '../../kit/put-records.ts';

let server: PostgresServer;
let reader: pg.Client;
beforeAll(async () => {
  server = await startPostgres();
  reader = new pg.Client({ connectionString: server.url, options: '-c TimeZone=UTC -c DateStyle=ISO' });
  await reader.connect();
});
afterAll(async () => {
  await reader?.end();
  await server?.stop();
});

/** Everything but what PostgreSQL refuses in text. */
const text = anyText.filter((s) => !s.includes('\0'));
const storableJson = json.filter((value) => !/\\u(0000|d[89a-f])/i.test(JSON.stringify(value)));

const sameNumber = (got: string, value: Value) => expect(Number(got)).toBe(value);
const sameDecimal = (got: string, value: Value) => expect(decimalParts(got)).toBe(decimalParts(value as string));
interface Case {
  readonly schema: Schema;
  readonly values: fc.Arbitrary<Value>;
  readonly type: string;
  check(got: string, value: Value): void;
}

const same = (got: string, value: Value) => expect(got).toBe(String(value));

const cases: { readonly [name: string]: Case } = {
  int8: { schema: { type: 'int8' }, values: int(8), type: 'smallint', check: same },
  int16: { schema: { type: 'int16' }, values: int(16), type: 'smallint', check: same },
  int32: { schema: { type: 'int32' }, values: int(32), type: 'integer', check: same },
  int64: {
    schema: { type: 'int64' },
    values: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    type: 'bigint',
    check: same,
  },
  float32: {
    schema: { type: 'float32' },
    values: fc.float(),
    type: 'real',
    check: (got, value) => expect(Math.fround(Number(got))).toBe(value),
  },
  float64: { schema: { type: 'float64' }, values: fc.double(), type: 'double precision', check: sameNumber },
  boolean: { schema: { type: 'boolean' }, values: fc.boolean(), type: 'boolean', check: same },
  string: { schema: { type: 'string' }, values: text, type: 'text', check: same },
  bytes: {
    schema: { type: 'bytes' },
    values: fc.uint8Array(),
    type: 'bytea',
    check: (got, value) => expect(got).toBe(`\\x${Buffer.from(value as Uint8Array).toString('hex')}`),
  },
  decimal: {
    schema: { type: 'decimal' },
    values: decimals(60, 60),
    type: 'numeric',
    check: sameDecimal,
  },
  money: {
    schema: { type: 'decimal', precision: 12, scale: 4 },
    values: decimals(8, 4),
    type: 'numeric(12,4)',
    check: sameDecimal,
  },
  date: { schema: { type: 'date' }, values: date, type: 'date', check: same },
  time: {
    schema: { type: 'time' },
    values: fc.oneof(clock, fc.constant('24:00:00')),
    type: 'time without time zone',
    check: (got, value) => expect(got).toBe(printed(value as string)),
  },
  timestamp: {
    schema: { type: 'timestamp' },
    values: fc.tuple(date, clock).map(([d, t]) => `${d}T${t}Z`),
    type: 'timestamp with time zone',
    check: (got, value) => expect(got).toBe(`${printed((value as string).replace('T', ' ').slice(0, -1))}+00`),
  },
  local: {
    schema: { type: 'timestamp', local: true },
    values: fc.tuple(date, clock).map(([d, t]) => `${d}T${t}`),
    type: 'timestamp without time zone',
    check: (got, value) => expect(got).toBe(printed((value as string).replace('T', ' '))),
  },
  uuid: { schema: { type: 'uuid' }, values: fc.uuid(), type: 'uuid', check: same },
  any: {
    schema: { type: 'any', optional: true },
    values: storableJson.filter((value) => value !== null),
    type: 'jsonb',
    check: (got, value) => expect(JSON.parse(got)).toEqual(JSON.parse(JSON.stringify(value))),
  },
  array: {
    schema: { type: 'array', items: { type: 'string' } },
    values: fc.array(text),
    type: 'jsonb',
    check: (got, value) => expect(JSON.parse(got)).toEqual(value),
  },
  map: {
    schema: { type: 'map', values: { type: 'int32' } },
    values: fc.dictionary(text, int(32)).map((map) => JSON.parse(JSON.stringify(map)) as Value),
    type: 'jsonb',
    check: (got, value) => expect(entriesOf(got)).toEqual(value),
  },
  struct: {
    schema: { type: 'struct', fields: [{ name: 'a', schema: { type: 'string' } }] },
    values: text.map((a) => ({ a })),
    type: 'jsonb',
    check: (got, value) => expect(JSON.parse(got)).toEqual(value),
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

const openSink = (config: Struct = {}) =>
  postgresSink.open({
    config: postgresSink.config.parse({ url: server.url, ...config }),
    taskId: 0,
    tasks: 1,
    signal: new AbortController().signal,
    deployment: 'd',
    connector: 'types',
    incarnation: 'i',
  });

test('each canonical type gets its column', async () => {
  const task = await openSink();
  await putRecords(task, [record('columns', 1, {})]);
  await task.close();
  const { rows } = await reader.query(
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'columns'::regclass AND attnum > 1 ORDER BY attnum",
  );
  expect(rows.map((row) => [row.attname, row.format_type])).toEqual(
    Object.entries(cases).map(([name, { type }]) => [name, type]),
  );
});

test.each([
  ['insert', {}],
  ['upsert', { keyFields: ['id'] }],
] as const)('every value of every type arrives as it was, by %s', async (mode, config) => {
  const task = await openSink(config);
  const topic = `values_${mode}`;
  const cells = fc.record(
    Object.fromEntries(Object.entries(cases).map(([name, { values }]) => [name, fc.option(values)])),
    { requiredKeys: [] },
  );
  let next = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(cells, { minLength: 1, maxLength: 30 }), async (rows) => {
      const first = next;
      next += rows.length;
      const { rejected } = await putRecords(
        task,
        rows.map((row, i) => record(topic, first + i, row as Struct)),
      );
      expect(rejected).toEqual([]);
      const columns = Object.keys(cases).map((name) => `${pg.escapeIdentifier(name)}::text`);
      const { rows: got } = await reader.query(
        `SELECT ${columns.join(', ')} FROM ${topic} WHERE id >= ${first} ORDER BY id`,
      );
      expect(got).toHaveLength(rows.length);
      for (const [i, row] of rows.entries())
        for (const [name, { check }] of Object.entries(cases)) {
          const value = (row as Struct)[name] ?? null;
          if (value === null) expect(got[i][name]).toBeNull();
          else check(got[i][name], value);
        }
    }),
    { numRuns: 60 },
  );
  await task.close();
});

const misfits: readonly (readonly [field: string, value: Value, problem: RegExp])[] = [
  ['string', 'a\0b', /invalid byte sequence/],
  ['any', { 'a\0b': 1 }, /unsupported Unicode escape/],
  ['any', ['\ud800'], /Unicode/],
  ['timestamp', '2024-02-29T23:59:59.1234567Z', /microseconds/],
  ['local', '2024-02-29T23:59:59.000000001', /microseconds/],
  ['time', '23:59:59.123456789', /microseconds/],
  ['time', '23:59:59.1234561', /microseconds/],
  ['timestamp', '2016-12-31T23:59:60Z', /leap second/],
  ['timestamp', '+12024-02-29T23:59:59Z', /signed years/],
  ['date', '-0044-03-15', /signed years/],
  ['date', '-0011-03-15', /signed years/],
  ['date', '0000-03-15', /out of range/],
  ['date', '2023-02-29', /out of range/],
  ['timestamp', '999999-01-01T00:00:00Z', /out of range/],
  ['float32', 1e300, /out of range/],
];

test.each(misfits)('what PostgreSQL cannot hold is refused, not changed: %s %j', async (field, value, problem) => {
  for (const [mode, more] of [
    ['insert', 0],
    ['upsert', 0],
    ['upsert', 1_000],
  ] as const) {
    const table = `misfits_${mode}_${more}`;
    const task = await openSink({ table, ...(mode === 'upsert' ? { keyFields: ['id'] } : {}) });
    const { rejected } = await putRecords(task, [
      record('t', 1, {}),
      record('t', 2, { [field]: value }),
      ...Array.from({ length: 1 + more }, (_, i) => record('t', 3 + i, {})),
    ]);
    const { rows } = await reader.query(`SELECT count(*)::int AS n FROM ${table} WHERE id <> 2`);
    expect(rows).toEqual([{ n: 2 + more }]);
    await reader.query(`TRUNCATE ${table}`);
    expect(rejected.map(({ index }: Rejected) => index)).toEqual([1]);
    expect(rejected[0]!.error).toMatchObject({ blame: 'row', message: expect.stringMatching(problem) });
    await task.close();
  }
});

test('seven digits that end in zero are microseconds, and years have five', async () => {
  const task = await openSink();
  const cells = { timestamp: '12024-02-29T23:59:59.1234560Z', date: '12024-02-29', time: '00:00:00.123456000' };
  const { rejected } = await putRecords(task, [record('far', 1, cells)]);
  expect(rejected).toEqual([]);
  const { rows } = await reader.query('SELECT timestamp::text, date::text, time::text FROM far');
  expect(rows).toEqual([{ timestamp: '12024-02-29 23:59:59.123456+00', date: '12024-02-29', time: '00:00:00.123456' }]);
  await task.close();
});

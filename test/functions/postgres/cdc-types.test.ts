import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import type { BytesColumn, StructColumn } from '../../../shared/connect/batch.ts';
import { misfit } from '../../../shared/connect/fit.ts';
import { writeJson } from '../../../shared/connect/json.ts';
import {
  describeSchema,
  type Schema,
  type Struct,
  type StructSchema,
  type Value,
} from '../../../shared/connect/schema.ts';
import { createRunner } from '../../kit/source-runner.ts';
import { changeOf, useCdc } from './cdc-fixture.ts';

const { run, all, capture } = useCdc();

const digits = (min: number, max: number) =>
  fc.array(fc.integer({ min: 0, max: 9 }), { minLength: min, maxLength: max }).map((some) => some.join(''));
const number = (whole: number, fraction: number) =>
  fc.tuple(fc.boolean(), digits(1, whole), digits(0, fraction)).map(([isNegative, a, b]) => {
    const text = b === '' ? a : `${a}.${b}`;
    return isNegative ? `-${text}` : text;
  });
const two = (max: number) => fc.integer({ min: 0, max }).map((n) => String(n).padStart(2, '0'));
const date = fc
  .tuple(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 28 }))
  .map(([y, m, d]) => `${String(y).padStart(4, '0')}-${String(m).padStart(2, '0')}-${String(d).padStart(2, '0')}`);
const time = fc.tuple(two(23), two(59), two(59), digits(0, 6)).map(([h, m, s, f]) => `${h}:${m}:${s}${f && `.${f}`}`);
const dateTime = fc.tuple(date, time).map(([d, t]) => `${d} ${t}`);
const text = fc.string({ unit: 'binary', maxLength: 30 }).filter((s) => !s.includes('\0') && s.isWellFormed());
const json = fc
  .jsonValue({ maxDepth: 3 })
  .map((value) => JSON.stringify(value))
  .filter((s) => s !== 'null' && !/\\u0000|\\ud/i.test(s));
const item = (one: fc.Arbitrary<string>) =>
  fc
    .array(fc.option(one, { freq: 4 }), { maxLength: 5 })
    .map((items) => `{${items.map((s) => (s === null ? 'NULL' : `"${s.replace(/[\\"]/g, '\\$&')}"`)).join(',')}}`);
const hex = fc.uint8Array({ maxLength: 20 }).map((bytes) => `\\x${Buffer.from(bytes).toString('hex')}`);
const int4 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map(String);
const float = fc.oneof(fc.double().map(String), fc.constantFrom('NaN', 'Infinity', '-Infinity', '-0'));

/** By column type: what it becomes, and values of it as PostgreSQL reads them. */
const types: { readonly [type: string]: readonly [canonical: string, values: fc.Arbitrary<string>] } = {
  smallint: ['int16', fc.integer({ min: -32768, max: 32767 }).map(String)],
  integer: ['int32', int4],
  bigint: ['int64', fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String)],
  oid: ['int64', fc.integer({ min: 0, max: 2 ** 32 - 1 }).map(String)],
  real: ['float32', fc.float().map(String)],
  'double precision': ['float64', float],
  numeric: ['decimal', number(40, 30)],
  'numeric(12,2)': ['decimal(12,2)', number(10, 2)],
  'numeric(5,0)': ['decimal(5,0)', number(5, 0)],
  'numeric(2,-3)': ['decimal', number(4, 0)],
  'numeric(3,5)': ['decimal', fc.constantFrom('0.00999', '-0.00001', '0')],
  boolean: ['boolean', fc.constantFrom('t', 'f')],
  text: ['string', text],
  'varchar(40)': ['string', text],
  'char(8)': ['string', fc.constantFrom('', 'a', 'ä b')],
  bytea: ['bytes', hex],
  date: ['date', date],
  time: ['time', fc.oneof(time, fc.constant('24:00:00'))],
  timetz: ['string', time.map((t) => `${t}+05:30`)],
  timestamp: ['timestamp local', dateTime],
  timestamptz: ['timestamp', dateTime.map((t) => `${t}+03`).filter((t) => !t.startsWith('0001-01-01'))],
  'timestamptz(0)': ['timestamp', date.map((d) => `${d} 23:59:59+00`)],
  interval: ['string', fc.tuple(int4, int4).map(([a, b]) => `${Number(a) % 1000} mons ${b} seconds`)],
  uuid: ['uuid', fc.uuid()],
  json: ['any', json.map((s) => JSON.stringify(JSON.parse(s), null, '\t'))],
  jsonb: ['any', json],
  xml: ['string', fc.constantFrom('<a>ä</a>', '<b/>')],
  inet: ['string', fc.ipV4()],
  money: ['string', number(8, 2)],
  'bit(3)': ['string', fc.constantFrom('101', '000')],
  point: ['string', fc.constantFrom('(1,2.5)', '(-1e-05,0)')],
  box: ['string', fc.constant('(3,4),(1,2)')],
  int4range: ['string', fc.constantFrom('[1,5)', 'empty', '(,3)')],
  tsvector: ['string', fc.constantFrom("'a':1 'b':2", '')],
  mood: ['string', fc.constantFrom('sad', 'very happy')],
  price: ['decimal(8,2)', number(6, 2)],
  deep_price: ['decimal(8,2)', number(6, 2)],
  pair: ['string', fc.constantFrom('(1,"a b")', '(,)')],
  'integer[]': ['array<int32?>', item(int4)],
  'bigint[]': ['array<int64?>', item(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String))],
  'text[]': ['array<string?>', item(text)],
  'numeric(12,2)[]': ['array<decimal(12,2)?>', item(number(10, 2))],
  'boolean[]': ['array<boolean?>', item(fc.constantFrom('t', 'f'))],
  'double precision[]': ['array<float64?>', item(float)],
  'timestamptz[]': ['array<timestamp?>', item(dateTime.filter((t) => !t.startsWith('0001-01-01')))],
  'timestamp[]': ['array<timestamp local?>', item(dateTime)],
  'date[]': ['array<date?>', item(date)],
  'bytea[]': ['array<bytes?>', item(hex)],
  // json_populate_recordset, with which this test reads them again, would take a list in it for a dimension.
  'jsonb[]': ['array<any?>', item(json.filter((s) => !s.startsWith('[')))],
  'uuid[]': ['array<uuid?>', item(fc.uuid())],
  'mood[]': ['array<string?>', item(fc.constantFrom('sad', 'very happy'))],
  'price[]': ['array<decimal(8,2)?>', item(number(6, 2))],
  'box[]': ['array<string?>', fc.constant('{(3,4),(1,2);(1,1),(0,0)}')],
};
const names = Object.keys(types);
const extra = `CREATE TYPE mood AS ENUM ('sad', 'very happy'); CREATE DOMAIN price AS numeric(8,2);
  CREATE DOMAIN deep_price AS price CHECK (VALUE IS NOT NULL OR TRUE); CREATE TYPE pair AS (a int, b text)`;

/** What jsonb_populate_recordset makes the same value of. */
const populatable = (value: Value): Value => {
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  return Array.isArray(value) ? value.map(populatable) : value;
};

describe('values', () => {
  test('of every type come as their canonical type, and are the same when PostgreSQL reads them again', async () => {
    await run(extra);
    const columns = names.map((type, i) => `c${i} ${type}`).join(', ');
    await run(
      `CREATE TABLE t (id int PRIMARY KEY, ${columns}); ALTER TABLE t REPLICA IDENTITY FULL; CREATE TABLE copy (LIKE t)`,
    );
    const { withTask, pollOnce } = await capture(['t']);
    const rows = fc.sample(fc.tuple(...names.map((type) => fc.option(types[type]![1], { freq: 12 }))), 300);
    for (const [id, row] of rows.entries())
      await run(`INSERT INTO t VALUES (${id}, ${row.map((_, i) => `$${i + 1}`).join(', ')})`, row);

    const { batch, rejected } = await withTask((task) => pollOnce(task, new Map(), { maxBytes: 1e9 }));
    expect(rejected ?? []).toEqual([]);
    const schema = batch.groups[0]!.value.schema as StructSchema;
    const after = schema.fields[1]!.schema as StructSchema;
    const told = after.fields
      .slice(1)
      .map(({ schema }, i) => [names[i], describeSchema({ ...schema, optional: false } as Schema)]);
    expect(told).toEqual(names.map((type) => [type, types[type]![0]]));
    const records = [...batch];
    for (const { value } of records) expect(misfit(schema, value, '')).toBeUndefined();

    const populated = records.map(({ value }) => {
      const row = changeOf({ key: null, value }).after as Struct;
      return Object.fromEntries(Object.entries(row).map(([name, one]) => [name, populatable(one)]));
    });
    await run('INSERT INTO copy SELECT * FROM json_populate_recordset(NULL::t, $1)', [writeJson(populated)]);
    for (const [i, type] of names.entries()) {
      // White space between the tokens of json is this test's own loss.
      const column = type === 'json' ? `c${i}::jsonb::text` : `c${i}::text`;
      const different = await all(`SELECT id, ${column} FROM t EXCEPT SELECT id, ${column} FROM copy`);
      expect(different, type).toEqual([]);
    }

    // The rows read from the table are those that were told, and of the same schemas.
    const { config } = await capture(['t'], { snapshotMode: 'initial' });
    const reader = createRunner({ source: postgresCdcSource, config: config as never, expected: [] } as never);
    const read = await reader.withTask(async (task) => {
      const offsets = new Map();
      for (;;) {
        const poll = await reader.pollOnce(task, offsets, { maxBytes: 1e9 });
        expect(poll.rejected ?? []).toEqual([]);
        if (poll.batch.count > 0)
          return {
            schema: poll.batch.groups[0]!.value.schema,
            key: poll.batch.groups[0]!.key,
            records: [...poll.batch],
          };
        reader.advance(offsets, poll.offsets);
      }
    });
    expect(read.schema).toEqual(schema);
    expect(read.key!.schema).toEqual(batch.groups[0]!.key!.schema);
    const rowOf = ({ value }: { value: unknown }) => (value as { after: Struct }).after;
    expect(read.records.map(rowOf)).toEqual(records.map(rowOf));
    expect(read.records.map(({ key }) => key)).toEqual(records.map(({ key }) => key));
  });

  test.each([
    ['numeric', 'NaN', /amount: NaN: a decimal has digits only/],
    ['numeric', '-Infinity', /a decimal has digits only/],
    ['date', 'infinity', /no place in the calendar/],
    ['date', '0044-03-15 BC', /no place in the calendar/],
    ['timestamp', '-infinity', /no place in the calendar/],
    ['timestamptz', '0044-03-15 12:00 BC', /no place in the calendar/],
    ['integer[]', '{{1,2},{3,4}}', /no list/],
    ['integer[]', '[0:1]={1,2}', /no list/],
    ['date[]', '{infinity}', /no place in the calendar/],
  ])('a %s of %s is refused aloud, and gets away again', async (type, value, message) => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, amount ${type}); ALTER TABLE t REPLICA IDENTITY FULL`);
    const { withTask, pollOnce } = await capture(['t']);
    await run('INSERT INTO t VALUES (1, NULL), (2, $1)'.replace('$1', `'${value}'`));
    await run('UPDATE t SET amount = NULL WHERE id = 2; DELETE FROM t');
    const { batch, rejected } = await withTask((task) => pollOnce(task, new Map()));
    expect(rejected).toMatchObject([
      { index: 1, error: { code: 'RECORD_REJECTED', message: expect.stringMatching(message) } },
    ]);
    expect([...batch].map(changeOf)).toEqual([
      { key: { id: 1 }, op: 'c', before: null, after: { id: 1, amount: null } },
      { key: { id: 2 }, op: 'u', before: { id: 2 }, after: { id: 2, amount: null } },
      { key: { id: 1 }, op: 'd', before: { id: 1, amount: null }, after: null },
      { key: { id: 1 }, op: 'tombstone' },
      { key: { id: 2 }, op: 'd', before: { id: 2, amount: null }, after: null },
      { key: { id: 2 }, op: 'tombstone' },
    ]);
  });

  test('settings of the role change no value', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, at timestamptz, i interval, b bytea, f float4);
      ALTER ROLE postgres SET TimeZone = 'Asia/Kolkata'; ALTER ROLE postgres SET DateStyle = 'German, DMY';
      ALTER ROLE postgres SET IntervalStyle = 'sql_standard'; ALTER ROLE postgres SET bytea_output = 'escape';
      ALTER ROLE postgres SET extra_float_digits = -5`);
    try {
      const { withTask, readAll } = await capture(['t']);
      await run(`INSERT INTO t VALUES (1, '2024-02-29 23:59:59.5+00', '1 day 02:00', '\\x00ff', 1.17549435e-38)`);
      const { records } = await withTask((task) => readAll(task));
      expect(changeOf(records[0]!).after).toEqual({
        id: 1,
        at: '2024-02-29T23:59:59.5Z',
        i: 'P1DT2H',
        b: new Uint8Array([0, 255]),
        f: 1.1754944e-38,
      });
    } finally {
      await run('ALTER ROLE postgres RESET ALL');
    }
  });

  test('json has no line end, as a value of JSON lines needs it', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, j json)');
    const { withTask, pollOnce } = await capture(['t']);
    await run(`INSERT INTO t VALUES (1, E'{\\n"a":\\t"\\\\n"\\r}')`);
    const { batch } = await withTask((task) => pollOnce(task, new Map()));
    const { columns } = batch.groups[0]!.value.columns[1] as StructColumn;
    const { data, starts, ends } = columns[1] as BytesColumn;
    expect(Buffer.from(data).toString('utf8', starts[0], ends[0])).toBe('{ "a": "\\n" }');
  });

  test('a timestamp that is read in two polls from the same memory', async () => {
    await run('CREATE TABLE t (at timestamptz PRIMARY KEY, l timestamp, j json); ALTER TABLE t REPLICA IDENTITY FULL');
    const { withTask, readAll } = await capture(['t'], { tombstonesOnDelete: true });
    await run(`INSERT INTO t VALUES ('2024-02-29 23:59:59+00', '2024-02-29 01:02:03', E'{\\n}');
      UPDATE t SET at = '2025-01-01 00:00:00+00'; DELETE FROM t`);
    const whole = await withTask((task) => readAll(task));
    const single = await withTask((task) => readAll(task, new Map(), { maxRecords: 1 }));
    expect(single.records).toEqual(whole.records);
    expect(whole.records[0]).toMatchObject({
      key: { at: '2024-02-29T23:59:59Z' },
      value: { after: { l: '2024-02-29T01:02:03', j: {} } },
    });
  });
});

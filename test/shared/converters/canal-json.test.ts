import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { batchOf, type RecordInput } from '../../../shared/connect/build.ts';
import { envelopeSchema } from '../../../shared/connect/envelope.ts';
import { writeJson } from '../../../shared/connect/json.ts';
import type { Schema, Struct, StructSchema, Value } from '../../../shared/connect/schema.ts';
import { fromCanalJson, toCanalJson } from '../../../shared/converters/canal-json.ts';
import { anyText, clock, date, decimals, int, json } from '../../kit/canonical-values.ts';

/** What each type of a field comes back as, and its values. */
const fields: { readonly [name: string]: readonly [Schema, fc.Arbitrary<Value>] } = {
  tiny: [{ type: 'int8' }, int(8)],
  small: [{ type: 'int16' }, int(16)],
  n: [{ type: 'int32' }, int(32)],
  big: [{ type: 'int64' }, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })],
  real: [{ type: 'float32' }, fc.float({ noNaN: true }).map((x) => x + 0)],
  double: [{ type: 'float64' }, fc.double().map((x) => x + 0)],
  flag: [{ type: 'boolean' }, fc.boolean()],
  s: [{ type: 'string' }, anyText],
  b: [{ type: 'bytes' }, fc.uint8Array().map((bytes) => Buffer.from(bytes))],
  money: [{ type: 'decimal', precision: 12, scale: 4 }, decimals(8, 4)],
  number: [{ type: 'decimal' }, decimals(40, 40)],
  day: [{ type: 'date' }, date],
  time: [{ type: 'time' }, clock],
  at: [{ type: 'timestamp' }, fc.tuple(date, clock).map(([d, t]) => `${d}T${t}Z`)],
  local: [{ type: 'timestamp', local: true }, fc.tuple(date, clock).map(([d, t]) => `${d}T${t}`)],
  id2: [{ type: 'uuid' }, fc.uuid()],
  any: [{ type: 'any' }, json.filter((value) => value !== null)],
};

const keySchema: StructSchema = { type: 'struct', fields: [{ name: 'id', schema: { type: 'int32' } }] };
const source: StructSchema = {
  type: 'struct',
  fields: ['db', 'table'].map((name) => ({ name, schema: { type: 'string' } })),
};
const envelope = envelopeSchema(
  't',
  [
    ...keySchema.fields,
    ...Object.entries(fields).map(([name, [schema]]) => ({ name, schema: { ...schema, optional: true } })),
  ],
  source,
);
const row = (id: number) =>
  fc
    .record(Object.fromEntries(Object.entries(fields).map(([name, [, values]]) => [name, fc.option(values)])))
    .map((cells) => ({ id, ...cells }) as Struct);

const record = (op: string, before: Struct | null, after: Struct | null): RecordInput => ({
  topic: 't',
  key: op === 't' ? null : { id: (after ?? before)!.id! },
  keySchema,
  value: { before, after, source: { db: 'shop', table: 'orders' }, transaction: null, op, ts_ms: 5n },
  valueSchema: envelope,
});

const change = fc.tuple(fc.constantFrom('c', 'u', 'd', 't', 'blind'), int(32)).chain(([op, id]) =>
  fc.tuple(row(id), row(id)).map(([before, after]) => {
    if (op === 't') return record('t', null, null);
    if (op === 'blind') return record('u', null, after);
    return record(op, op === 'c' ? null : before, op === 'd' ? null : after);
  }),
);

const through = (records: readonly RecordInput[]) => {
  const { batch, rejected = [] } = toCanalJson.apply(batchOf(records));
  expect(rejected).toEqual([]);
  return { messages: [...batch].map(({ value }) => JSON.parse(writeJson(value))), batch };
};
const read = (messages: readonly Value[]) => {
  const values = messages.map((message) =>
    Buffer.from(typeof message === 'string' ? message : JSON.stringify(message)),
  );
  return fromCanalJson.apply(batchOf(values.map((value) => ({ topic: 't', value, valueSchema: { type: 'bytes' } }))));
};
const told = ({ key, value }: { key?: Value; value: Value }) => {
  const { op, before, after, ts_ms } = value as Struct;
  return { key: key ?? null, op, before, after, ts_ms };
};

describe('Canal’s messages', () => {
  test('give back every change of every type', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (records) => {
        const { batch } = through(records);
        const { batch: back, rejected } = fromCanalJson.apply(batch);
        expect(rejected ?? []).toEqual([]);
        expect(Array.from(back, told)).toEqual(Array.from(batchOf(records), told));
      }),
      { numRuns: 200 },
    );
  });

  test('are those that Canal writes', () => {
    const small = envelopeSchema(
      't',
      [...keySchema.fields, { name: 's', schema: { type: 'string', optional: true } }],
      source,
    );
    const of = (op: string, before: Struct | null, after: Struct | null) => ({
      ...record(op, before, after),
      valueSchema: small,
    });
    const { messages } = through([
      of('u', { id: 1, s: 'a' }, { id: 1, s: null }),
      of('d', { id: 1, s: 'a' }, null),
      record('t', null, null),
    ]);
    const common = { id: 0, database: 'shop', table: 'orders', pkNames: ['id'], es: 5, ts: 5 };
    const types = { sqlType: { id: 4, s: 2005 }, mysqlType: { id: 'int', s: 'longtext' } };
    expect(messages).toEqual([
      { ...common, ...types, isDdl: false, type: 'UPDATE', sql: '', data: [{ id: '1', s: null }], old: [{ s: 'a' }] },
      { ...common, ...types, isDdl: false, type: 'DELETE', sql: '', data: [{ id: '1', s: 'a' }], old: null },
      {
        ...common,
        sqlType: null,
        mysqlType: null,
        isDdl: true,
        type: 'TRUNCATE',
        sql: 'TRUNCATE TABLE orders',
        data: null,
        old: null,
      },
    ]);
  });

  const message = {
    ...{ id: 1, database: 'shop', table: 't', pkNames: ['id'], isDdl: false, es: 3, ts: 4, sql: '' },
    mysqlType: { id: 'int(11) unsigned', s: 'varchar(10)', b: 'blob', at: 'datetime(3)', f: 'bit(1)' },
  };

  test('of several rows are several changes, and a changed key is a delete and an insert', () => {
    const { batch, origin } = read([
      {
        ...message,
        type: 'INSERT',
        old: null,
        data: [
          { id: '4294967295', s: 'x', b: 'ÿ', at: '2024-02-29 01:02:03.5', f: '1' },
          { id: '2', s: null },
        ],
      },
      {
        ...message,
        type: 'UPDATE',
        data: [
          { id: '3', s: 'new' },
          { id: '4', s: 'moved' },
        ],
        old: [{ s: 'old' }, { id: '5' }],
      },
      { ...message, isDdl: true, type: 'ALTER', data: null, old: null },
    ]);
    expect([...origin!]).toEqual([0, 0, 1, 1, 1]);
    expect(Array.from(batch, told).map(({ key, op, before, after }) => [key, op, before, after])).toEqual([
      [
        { id: 4294967295n },
        'c',
        null,
        { id: 4294967295n, s: 'x', b: Buffer.from([0xff]), at: '2024-02-29T01:02:03.5', f: true },
      ],
      [{ id: 2n }, 'c', null, { id: 2n, s: null }],
      [{ id: 3n }, 'u', { id: 3n, s: 'old' }, { id: 3n, s: 'new' }],
      [{ id: 5n }, 'd', { id: 5n, s: 'moved' }, null],
      [{ id: 4n }, 'c', null, { id: 4n, s: 'moved' }],
    ]);
  });

  test.each([
    ['{', /not JSON/],
    ['{"data": []}', /canal.mq.flatMessage/],
    [{ ...message, type: 'MERGE', data: [], old: null }, /none of INSERT/],
    [{ ...message, type: 'INSERT', data: [{ id: 'x' }], old: null }, /whole number/],
    [{ ...message, type: 'INSERT', data: [{ id: '1', at: 'noon' }], old: null }, /expected timestamp local/],
  ] as const)('that are none are refused: %j', (bad, problem) => {
    const good = { ...message, type: 'DELETE', data: [{ id: '1' }], old: null };
    const { batch, rejected } = read([bad as Value, good]);
    expect(batch.count).toBe(1);
    expect(rejected).toMatchObject([{ index: 0, error: { blame: 'row', message: expect.stringMatching(problem) } }]);
  });

  test('are not made of what is no change, and tombstones are left out', () => {
    const tombstone = { ...record('d', null, { id: 1 }), value: null };
    const { batch, rejected } = toCanalJson.apply(batchOf([tombstone, { topic: 't', value: { a: 1 } }]));
    expect(batch.count).toBe(0);
    expect(rejected).toMatchObject([{ index: 1, error: { message: expect.stringMatching(/Debezium's envelope/) } }]);
  });
});

import type { RecordInput } from '../connect/build.ts';
import { envelopeSchema, isEnvelope } from '../connect/envelope.ts';
import { rowError } from '../connect/errors.ts';
import { isPlainObject } from '../connect/fit.ts';
import { parseJson } from '../connect/json.ts';
import type { ConnectRecord } from '../connect/record.ts';
import { type Field, isStruct, type Struct, type StructSchema, type Value } from '../connect/schema.ts';
import { recordTransform, type Transform } from '../connect/transform.ts';
import { canalText, canalTypeOf, schemaOfCanal, valueOfCanal } from './canal-types.ts';

/*
 * Canal's flat message: what one statement did to rows of one table. `data` are the rows after it (of DELETE before it), every value as text; `old`
 * are, of UPDATE and row by row, the columns that changed as they were. A converter of values alone would not do: the names of the
 * key's columns (`pkNames`) are those of the record's key, and a message has several rows, each of which is a change.
 * https://github.com/alibaba/canal/wiki, com.alibaba.otter.canal.protocol.FlatMessage
 */

const types = { c: 'INSERT', r: 'INSERT', u: 'UPDATE', d: 'DELETE', t: 'TRUNCATE' } as const;

/** Changes in Debezium's envelope as messages of one row each, in JSON. Tombstones are left out, keys stay. */
export const toCanalJson: Transform = recordTransform(
  'canal-json value converter',
  ({ valueSchema, ...record }) =>
    record.value === null ? null : { ...record, value: messageOf({ ...record, ...(valueSchema && { valueSchema }) }) },
  'VALUE_CONVERTER',
);

/** Messages (JSON, or its text or bytes) as changes in Debezium's envelope, a record for each row. A changed key is a delete and an insert. DDL other than TRUNCATE is left out. */
export const fromCanalJson: Transform = recordTransform(
  'canal-json value converter',
  (record) => changesOf(record),
  'VALUE_CONVERTER',
);

const messageOf = ({ topic, keySchema, value, valueSchema }: ConnectRecord): Value => {
  if (valueSchema === undefined || !isEnvelope(valueSchema) || !isPlainObject(value))
    throw rowError(`expected a change in Debezium's envelope, got a record of topic ${topic} without one`);
  const { before, after, source, op, ts_ms: readMs } = value as Struct & { readonly op: keyof typeof types };
  const row = valueSchema.fields.find(({ name }) => name === 'after')!.schema as StructSchema;
  const { db = '', schema = null, table = topic, ts_ms: madeMs = null, gtid } = (source ?? {}) as Struct;
  const told = (op === 'd' ? before : after) as Struct | null;
  const there = told === null ? [] : row.fields.filter(({ name }) => Object.hasOwn(told, name));
  const columns = there.map((field) => ({ ...field, canal: canalTypeOf(field.schema) }));
  const textsOf = (fields: readonly Field[], of: Struct) =>
    Object.fromEntries(fields.map(({ name, schema: type }) => [name, canalText(type, of[name] ?? null)]));
  return {
    id: 0,
    database: schema ?? db,
    table,
    pkNames: keySchema !== undefined && isStruct(keySchema) ? keySchema.fields.map(({ name }) => name) : null,
    isDdl: op === 't',
    type: types[op],
    es: madeMs ?? readMs ?? 0,
    ts: readMs ?? madeMs ?? 0,
    ...(typeof gtid === 'string' ? { gtid } : {}),
    sql: op === 't' ? `TRUNCATE TABLE ${String(table)}` : '',
    sqlType: op === 't' ? null : Object.fromEntries(columns.map(({ name, canal }) => [name, canal.sqlType])),
    mysqlType: op === 't' ? null : Object.fromEntries(columns.map(({ name, canal }) => [name, canal.mysqlType])),
    data: told === null ? null : [textsOf(there, told)],
    old: op === 'u' && isPlainObject(before) ? oldOf(there, before, told!, textsOf) : null,
  };
};

/** The columns that changed. Null where not all of the old row was told: what is not in it would be taken for what did not change. */
const oldOf = (
  fields: readonly Field[],
  before: Struct,
  after: Struct,
  textsOf: (fields: readonly Field[], of: Struct) => Struct,
): Value => {
  if (!fields.every(({ name }) => Object.hasOwn(before, name))) return null;
  const [was, is] = [textsOf(fields, before), textsOf(fields, after)];
  const changed = fields.filter(({ name }) => was[name] !== is[name]);
  return [Object.fromEntries(changed.map(({ name }) => [name, was[name]!]))];
};

interface Message extends Struct {
  readonly type: string;
  readonly data: readonly Struct[] | null;
  readonly old: readonly (Struct | null)[] | null;
}

const sourceSchema: StructSchema = {
  type: 'struct',
  fields: [
    { name: 'connector', schema: { type: 'string' } },
    { name: 'db', schema: { type: 'string' } },
    { name: 'table', schema: { type: 'string' } },
    { name: 'ts_ms', schema: { type: 'int64', optional: true } },
  ],
};

const changesOf = (record: ConnectRecord): readonly RecordInput[] => {
  const { topic, headers, timestampMs } = record;
  const message = parse(record.value);
  const { type, isDdl, database, table, pkNames, es, ts, data, old } = message;
  if (isDdl === true && type !== 'TRUNCATE') return [];
  const mysqlTypes = (message.mysqlType ?? {}) as { readonly [column: string]: string };
  const names = [...new Set((data ?? []).flatMap((row) => Object.keys(row)))];
  const key = ((pkNames ?? []) as readonly string[]).filter((name) => names.includes(name));
  const fields = names.map((name) => ({ name, schema: schemaOfCanal(mysqlTypes[name] ?? '') }));
  const valueSchema = envelopeSchema(
    topic,
    fields.map(({ name, schema }) => ({ name, schema: key.includes(name) ? schema : { ...schema, optional: true } })),
    sourceSchema,
  );
  const keySchema: StructSchema = {
    type: 'struct',
    fields: key.map((name) => fields.find((field) => field.name === name)!),
  };
  const msOf = (value: Value | undefined) => (value === null || value === undefined ? null : BigInt(value as number));
  const source = { connector: 'canal', db: String(database ?? ''), table: String(table ?? ''), ts_ms: msOf(es) };
  const rowOf = (row: Struct): Struct =>
    Object.fromEntries(
      fields.flatMap(({ name, schema }) =>
        Object.hasOwn(row, name) ? [[name, valueOfCanal(schema, row[name]!)]] : [],
      ),
    );
  const change = (op: string, before: Struct | null, after: Struct | null): RecordInput => {
    const keyed = after ?? before;
    return {
      ...{ topic, headers, valueSchema },
      ...(timestampMs === undefined ? {} : { timestampMs }),
      ...(key.length === 0 || keyed === null
        ? {}
        : { keySchema, key: Object.fromEntries(key.map((name) => [name, keyed[name]!])) }),
      value: { before, after, source, transaction: null, op, ts_ms: msOf(ts) },
    };
  };
  if (type === 'TRUNCATE') return [change('t', null, null)];
  return (data ?? []).flatMap((row, i) => {
    const now = rowOf(row);
    if (type === 'INSERT') return [change('c', null, now)];
    if (type === 'DELETE') return [change('d', now, null)];
    const changed = old?.[i];
    const before = isPlainObject(changed) ? { ...now, ...rowOf(changed) } : null;
    const isMoved = isPlainObject(changed) && key.some((name) => Object.hasOwn(changed, name));
    return isMoved ? [change('d', before, null), change('c', null, now)] : [change('u', before, now)];
  });
};

const utf8 = new TextDecoder('utf-8', { fatal: true });
const knownTypes = new Set<string>(Object.values(types));

const jsonOf = (value: Value): Value => {
  if (typeof value !== 'string' && !(value instanceof Uint8Array)) return value;
  try {
    return parseJson(typeof value === 'string' ? value : utf8.decode(value));
  } catch (cause) {
    throw rowError(`not JSON: ${(cause as Error).message}`, cause);
  }
};

const parse = (value: Value): Message => {
  const message = jsonOf(value);
  if (!isPlainObject(message) || typeof message.type !== 'string')
    throw rowError('no flat message of Canal: it has no type; set canal.mq.flatMessage to true');
  if (message.isDdl !== true && !knownTypes.has(message.type))
    throw rowError(`a message of Canal of type ${message.type}, which is none of INSERT, UPDATE, DELETE and TRUNCATE`);
  return message as Message;
};

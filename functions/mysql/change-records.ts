import type { Partition, SourceRecord } from '../../shared/connect/connector.ts';
import type { Op } from '../../shared/connect/envelope.ts';
import { toConnectError } from '../../shared/connect/errors.ts';
import type { Value } from '../../shared/connect/schema.ts';
import type { BinlogPart, BinlogPlace, BinlogTable, RowChange } from './binlog.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import type { HandOver } from './hand-over.ts';
import { keyOf, type RowSchema, rowSchemaOf } from './row-schema.ts';

type Rows = Extract<BinlogPart, { kind: 'rows' }>;
type Row = { readonly [field: string]: Value };
type Made = Omit<SourceRecord<StreamOffset>, 'partition' | 'offset'>;

/** Makes the records of one transaction after the other. Each record has its number in its transaction, whatever batches are cut. */
export interface RecordMaker {
  /** Of the part that comes next in the transaction that begins at `place`. */
  records(part: Rows, place: StreamOffset): readonly SourceRecord<StreamOffset>[];
}

/** `skip`: so many records of the first transaction are done. `counted`: what records are numbered by. */
export const changeRecords = (
  config: MysqlCdcConfig,
  {
    partition,
    skip,
    counted,
    handOver,
  }: { readonly partition: Partition; readonly skip: number; readonly counted: string; readonly handOver: HandOver },
): RecordMaker => {
  const schemas = new WeakMap<BinlogTable, RowSchema>();
  let transaction: BinlogPlace | undefined;
  let left = skip;
  let made = 0;

  const schemaOf = (table: BinlogTable): RowSchema => {
    const known = schemas.get(table);
    if (known !== undefined) return known;
    const schema = rowSchemaOf(table, config);
    schemas.set(table, schema);
    return schema;
  };

  return {
    records(part, place) {
      const { file, pos } = place;
      if (transaction === undefined || transaction.file !== file || transaction.pos !== pos) {
        if (transaction !== undefined) left = 0;
        transaction = place;
        made = 0;
      }
      const schema = schemaOf(part.table);
      const seen = handOver.seenOf(`${part.table.database}.${part.table.name}`, part.gtid);
      const records: SourceRecord<StreamOffset>[] = [];
      for (const change of part.changes)
        for (const record of recordsOf(change, schema, part, place, config)) {
          made++;
          if (made <= left || seen?.(schema, record.key ?? null)) continue;
          records.push({ ...record, partition, offset: { ...place, record: made, tables: counted } });
        }
      return records;
    },
  };
};

/** A change is one record; a deleted row is two with its tombstone, and a row whose key changed is deleted and made. */
const recordsOf = (
  { before, after }: RowChange,
  schema: RowSchema,
  part: Rows,
  { file, pos }: BinlogPlace,
  { topicPrefix, tombstonesOnDelete }: MysqlCdcConfig,
): readonly Made[] => {
  const { table, timestampMs, gtid = null } = part;
  const source = {
    connector: 'mysql',
    name: topicPrefix,
    ts_ms: BigInt(timestampMs),
    snapshot: false,
    db: table.database,
    table: table.name,
    gtid,
    file,
    pos: BigInt(pos),
    row: null,
  };
  const { topic, key: keySchema, envelope: valueSchema } = schema;
  const common = { topic, keySchema, valueSchema, timestampMs };
  const told = (op: Op, key: Value, old: Row | null, now: Row | null): Made => ({
    ...common,
    key,
    value: { before: old, after: now, source, transaction: null, op, ts_ms: BigInt(timestampMs) },
  });
  const deleted = (row: Row): Made[] => {
    const key = keyOf(schema, row);
    const tombstone = { ...common, key, value: null };
    return [told('d', key, row, null), ...(tombstonesOnDelete && keySchema !== undefined ? [tombstone] : [])];
  };
  let old: Row | null;
  let now: Row | null;
  try {
    old = before === undefined ? null : schema.row(before);
    now = after === undefined ? null : schema.row(after);
  } catch (error) {
    return [{ topic, timestampMs, value: (after ?? before) as Value, refused: toConnectError(error) }];
  }
  if (now === null) return deleted(old!);
  if (old === null) return [told('c', keyOf(schema, now), null, now)];
  if (schema.keyColumns.every(({ name }) => sameValue(old[name]!, now[name]!)))
    return [told('u', keyOf(schema, now), old, now)];
  return [...deleted(old), told('c', keyOf(schema, now), null, now)];
};

const sameValue = (a: Value, b: Value): boolean =>
  a instanceof Uint8Array && b instanceof Uint8Array ? Buffer.compare(a, b) === 0 : a === b;

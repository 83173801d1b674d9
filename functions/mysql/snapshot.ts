import {
  type BytesColumn,
  batchOfGroups,
  type Column,
  gatherBatch,
  NULL,
  type RecordGroup,
  type StructColumn,
  sliceBatch,
} from '../../shared/connect/batch.ts';
import {
  type Budget,
  movedBytes,
  type Partition,
  type Poll,
  type RejectedSourceRecord,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { fitting } from '../../shared/connect/fitting.ts';
import type { Field, Schema, StructSchema } from '../../shared/connect/schema.ts';
import type { MysqlCdcOffset, TableOffset } from './cdc-config.ts';
import { quote } from './client.ts';
import { createPacketRows, type PacketRows } from './packet-rows.ts';
import type { RowSchema } from './row-schema.ts';
import type { View } from './server.ts';

/** A table whose rows are read, and where its records go. */
export interface SnapshotTable {
  readonly database: string;
  readonly name: string;
  readonly schema: RowSchema;
  readonly partition: Partition;
  /** Of one row, about. */
  rowBytes: number;
}

/** More are not asked for at once, however small they are. */
const maxPageRows = 20_000;

/** The rows of a table after those that are done, in the order of its key, as records of operation `r`. */
export const pollTable = async (
  table: SnapshotTable,
  view: View,
  from: TableOffset,
  budget: Budget,
): Promise<Poll<MysqlCdcOffset>> => {
  const { schema, partition } = table;
  const wanted = Math.max(1, Math.min(budget.maxRecords, maxPageRows, Math.floor(budget.maxBytes / table.rowBytes)));
  const limit = schema.keyColumns.length === 0 ? Math.min(budget.maxRecords, maxPageRows) + 1 : wanted;
  const rows = createPacketRows(schema.columns, limit);
  const { sql, values } = pageQuery(table, from.after, limit);
  await view.connection.rows(sql, values, rows.add);
  if (schema.keyColumns.length === 0 && rows.count === limit)
    throw new ConnectError(
      'CONFIG_INVALID',
      `${table.database}.${table.name} has no primary key and more rows than one batch (${limit - 1}), which can't be read in parts: give it a key, take it out of tables, or set snapshotMode to no_data`,
    );
  if (rows.count > 0) table.rowBytes = Math.max(1, rows.bytes / rows.count);
  const all = batchOfGroups([groupOf(rows, table)]);
  const kept = fitting(all, budget.maxBytes);
  const done = rows.count < limit && kept === rows.count;
  const keyAt = (row: number) => keyTexts(rows, schema, row);
  const after = kept === 0 ? from.after : keyAt(kept - 1);
  const good = Uint32Array.from({ length: kept }, (_, row) => row).filter((row) => !rows.refused.has(row));
  const offsetAt = (row: number): TableOffset => ({ ...from, after: keyAt(row) });
  const rejected = Array.from(rows.refused)
    .filter(([row]) => row < kept)
    .map(
      ([row, error], index): RejectedSourceRecord<MysqlCdcOffset> => ({
        index: row - index,
        error,
        raw: Buffer.from(JSON.stringify(schema.columns.map(({ name }, i) => [name, rows.text(row, i)]))),
        topic: schema.topic,
        partition,
        offset: offsetAt(row),
      }),
    );
  return {
    batch: rows.refused.size === 0 ? sliceBatch(all, 0, kept) : gatherBatch(all, good),
    position: (index) => ({ partition, offset: offsetAt(good[index]!) }),
    offsets: [{ partition, offset: { ...from, after, done } }],
    caughtUp: false,
    // That a table is done is worth a commit, even where it has no row.
    moved: done ? movedBytes : 0,
    ...(rejected.length === 0 ? {} : { rejected }),
  };
};

const pageQuery = ({ database, name, schema }: SnapshotTable, after: TableOffset['after'], limit: number) => {
  // The text of a float has six digits; as a double it has all.
  const columns = schema.columns.map(({ name, type }) =>
    type.schema.type === 'float32' ? `${quote(name)} + 0e0` : quote(name),
  );
  const keys = schema.keyColumns.map((column) => quote(column.name));
  const values: unknown[] = [];
  const texts =
    after?.map((text, i) =>
      schema.keyColumns[i]!.type.schema.type === 'bytes' ? Buffer.from(text, 'latin1') : text,
    ) ?? [];
  /** Key (a, b) is after (x, y) where a > x, or a = x and b > y. */
  const behind = (i: number): string => {
    values.push(texts[i]);
    if (i === keys.length - 1) return `${keys[i]} > ?`;
    values.push(texts[i], texts[i]);
    return `${keys[i]} >= ? AND (${keys[i]} > ? OR (${keys[i]} = ? AND ${behind(i + 1)}))`;
  };
  const where = texts.length === 0 ? '' : ` WHERE ${behind(0)}`;
  const order = keys.length === 0 ? '' : ` ORDER BY ${keys.join(', ')}`;
  return {
    sql: `SELECT ${columns.join(', ')} FROM ${quote(database)}.${quote(name)}${where}${order} LIMIT ${limit}`,
    values,
  };
};

const keyTexts = (rows: PacketRows, { columns, keyColumns }: RowSchema, row: number): string[] =>
  keyColumns.map((column) => rows.text(row, columns.indexOf(column))!);

/** The rows as changes that made them. */
const groupOf = (rows: PacketRows, { database, name, schema }: SnapshotTable): RecordGroup => {
  const { count } = rows;
  const [before, after, source, transaction, op, ts] = schema.envelope.fields as readonly Field[];
  const rowColumns = rows.columns();
  const told: Record<string, Column> = {
    connector: constant('connector', 'mysql', count),
    name: constant('name', schema.topicPrefix, count),
    db: constant('db', database, count),
    table: constant('table', name, count),
    snapshot: { name: 'snapshot', schema: { type: 'boolean' }, kind: 'boolean', values: new Uint8Array(count).fill(1) },
  };
  const sourceColumns = (source!.schema as StructSchema).fields.map(
    (field) => told[field.name] ?? nothing(field, count),
  );
  const columns: Column[] = [
    nothing(before!, count),
    {
      name: 'after',
      schema: after!.schema as StructSchema,
      kind: 'struct',
      columns: withSchemas(rowColumns, (after!.schema as StructSchema).fields),
    },
    { name: 'source', schema: source!.schema as StructSchema, kind: 'struct', columns: sourceColumns },
    nothing(transaction!, count),
    { ...constant('op', 'r', count), schema: op!.schema },
    nothing(ts!, count),
  ];
  const keys = schema.keyColumns.map((column) => rowColumns[schema.columns.indexOf(column)]!);
  return {
    topic: schema.topic,
    count,
    ...(schema.key === undefined ? {} : { key: { schema: schema.key, columns: withSchemas(keys, schema.key.fields) } }),
    value: { schema: schema.envelope, columns },
  };
};

const withSchemas = (columns: readonly Column[], fields: readonly Field[]): readonly Column[] =>
  columns.map((column, i) => ({ ...column, schema: fields[i]!.schema as never }));

/** The same text for every row. */
const constant = (name: string, text: string, count: number): BytesColumn => {
  const data = Buffer.from(text);
  const ends = new Uint32Array(count).fill(data.length);
  return { name, schema: { type: 'string' }, kind: 'bytes', data, starts: new Uint32Array(count), ends };
};

/** Null for every row. */
const nothing = ({ name, schema }: Field, count: number): Column => {
  const state = new Uint8Array(count).fill(NULL);
  if (schema.type === 'struct') return { name, schema, state, kind: 'struct', columns: [] } satisfies StructColumn;
  if (schema.type === 'int64') return { name, schema, state, kind: 'int64', values: new BigInt64Array(count) };
  if (schema.type === 'int32') return { name, schema, state, kind: 'int32', values: new Int32Array(count) };
  const none = new Uint32Array(count);
  return { name, schema: schema as Schema, state, kind: 'bytes', data: new Uint8Array(), starts: none, ends: none };
};

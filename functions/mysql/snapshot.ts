import {
  batchOfGroups,
  type Column,
  freeGroup,
  gatherBatch,
  type RecordGroup,
  sliceBatch,
} from '../../shared/connect/batch.ts';
import { type Budget, movedBytes, type Poll, type RejectedSourceRecord } from '../../shared/connect/connector.ts';
import { constantColumn, nullColumn } from '../../shared/connect/constant-columns.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { fitting } from '../../shared/connect/fitting.ts';
import type { Field, StructSchema } from '../../shared/connect/schema.ts';
import {
  evenBounds,
  type Key,
  type PlanOffset,
  type Range,
  type RangeOffset,
  rangesFor,
} from '../../shared/sql/snapshot.ts';
import type { BinlogPlace } from './binlog.ts';
import type { MysqlCdcOffset } from './cdc-offset.ts';
import { type Connection, quote } from './client.ts';
import { errnoOf } from './errors.ts';
import { createPacketRows, type PacketRows } from './packet-rows.ts';
import type { RowSchema } from './row-schema.ts';
import type { View } from './server.ts';

/** A table whose rows are read, and where its records go. */
export interface SnapshotTable {
  readonly database: string;
  readonly name: string;
  readonly schema: RowSchema;
  /** Of one row, about. */
  rowBytes: number;
}

/** More are not asked for at once, however small they are. */
const maxPageRows = 20_000;

/** The next rows of a range, in the order of the table's key, as records of operation `r`. */
export const pollRange = async (
  table: SnapshotTable,
  { connection, place }: View,
  { partition, offset: from, to }: Range<BinlogPlace>,
  budget: Budget,
): Promise<Poll<MysqlCdcOffset>> => {
  const { schema } = table;
  const hasKey = schema.keyColumns.length > 0;
  const wanted = Math.max(1, Math.min(budget.maxRecords, maxPageRows, Math.floor(budget.maxBytes / table.rowBytes)));
  const limit = hasKey ? wanted : Math.min(budget.maxRecords, maxPageRows) + 1;
  const rows = createPacketRows(schema.columns, limit);
  const { sql, values } = pageQuery(table, schema.columns, { after: from.after, to, limit });
  let isWhole = true;
  const onRow = (buffer: Buffer, start: number, end: number) => {
    // Rows may be larger than those before them: what is over the budget is read again.
    if (rows.bytes < budget.maxBytes) rows.add(buffer, start, end);
    else isWhole = false;
  };
  await connection.rows(sql, values, onRow).catch((error: unknown) => throwAltered(error, table));
  const group = groupOf(rows, table);
  const all = batchOfGroups([group]);
  const kept = fitting(all, budget.maxBytes);
  const done = isWhole && rows.count < limit && kept === rows.count;
  if (!hasKey && !done)
    throw new ConnectError(
      'CONFIG_INVALID',
      `${table.database}.${table.name} has no primary key and more rows than one batch (${limit - 1} rows, ${budget.maxBytes} bytes), which can't be read in parts: give it a key, take it out of tables, or set snapshotMode to no_data`,
    );
  if (rows.count > 0) table.rowBytes = Math.max(1, rows.bytes / rows.count);
  const last = from.views.at(-1)?.view;
  const views =
    last?.file === place.file && last.pos === place.pos
      ? from.views
      : [...from.views, { after: from.after, view: place }];
  const keyAt = (row: number) => keyTexts(rows, schema, row);
  const offsetAt = (row: number): RangeOffset<BinlogPlace> => ({
    ...from,
    views,
    after: keyAt(row),
    rows: from.rows + row + 1,
  });
  const end = { ...(kept === 0 ? { ...from, views } : offsetAt(kept - 1)), done };
  const good = Uint32Array.from({ length: kept }, (_, row) => row).filter((row) => !rows.refused.has(row));
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
    offsets: [{ partition, offset: end }],
    caughtUp: false,
    // That a range is done is worth a commit, even where it has no row; the others may wait for it.
    ...(done ? { moved: movedBytes, wakes: true } : {}),
    ...(rejected.length === 0 ? {} : { rejected }),
    release: () => freeGroup(group),
  };
};

/** Unknown column, no such table, table definition has changed: for what was altered since, the server has no view. */
const alteredErrnos: readonly (number | undefined)[] = [1054, 1146, 1412];

const throwAltered = (error: unknown, { database, name }: SnapshotTable): never => {
  if (!alteredErrnos.includes(errnoOf(error))) throw error;
  throw new ConnectError(
    'UNAVAILABLE',
    `${database}.${name} was altered after this run had begun to read rows, and the next run will read it as it is then: ${(error as Error).message}`,
    { retriable: true, cause: error },
  );
};

/** A table that is read in the order of its key. */
export type KeyedTable = Pick<SnapshotTable, 'database' | 'name'> & {
  readonly schema: Pick<RowSchema, 'keyColumns'>;
};

interface Page {
  readonly after: Key;
  readonly to: Key;
  readonly limit: number;
  readonly skip?: number;
  /** One of these conditions holds. */
  readonly where?: readonly string[];
}

export const pageQuery = (
  { database, name, schema }: KeyedTable,
  columns: RowSchema['columns'],
  { after, to, limit, skip = 0, where: any }: Page,
) => {
  // The text of a float has six digits; as a double it has all.
  const selected = columns.map(({ name, type }) =>
    type.schema.type === 'float32' ? `${quote(name)} + 0e0` : quote(name),
  );
  const keys = schema.keyColumns.map((column) => quote(column.name));
  const values: unknown[] = [];
  const bind = (text: string, i: number) =>
    values.push(schema.keyColumns[i]!.type.schema.type === 'bytes' ? Buffer.from(text, 'latin1') : text);
  /**
   * Key (a, b) is after (x, y) where a > x, or a = x and b > y; up to it where a < x, or a = x and b <= y. A bound may have the first columns
   * only: what begins like it is up to it.
   */
  const compared = (bound: readonly string[], [strict, last]: readonly [string, string], i = 0): string => {
    bind(bound[i]!, i);
    if (i === bound.length - 1) return `${keys[i]} ${last} ?`;
    bind(bound[i]!, i);
    bind(bound[i]!, i);
    return `${keys[i]} ${strict}= ? AND (${keys[i]} ${strict} ? OR (${keys[i]} = ? AND ${compared(bound, [strict, last], i + 1)}))`;
  };
  const conditions = [
    ...(after === null ? [] : [compared(after, ['>', '>'])]),
    ...(to === null ? [] : [compared(to, ['<', '<='])]),
    ...(any === undefined ? [] : [`(${any.join(' OR ')})`]),
  ];
  const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`;
  const order = keys.length === 0 ? '' : ` ORDER BY ${keys.join(', ')}`;
  return {
    sql: `SELECT ${selected.join(', ')} FROM ${quote(database)}.${quote(name)}${where}${order} LIMIT ${limit} OFFSET ${skip}`,
    values,
  };
};

/** A table that is larger is read as one range, unless its key begins with an integer: to find bounds the server goes through all of it. */
const mostSampledBytes = 4 * 1024 ** 3;

/** Parts a table into ranges of its key: evenly, where that begins with an integer, else by counting through it. */
export const planTable = async (
  connection: Connection,
  table: KeyedTable,
): Promise<Pick<PlanOffset, 'bounds' | 'rows'>> => {
  const { database, name, schema } = table;
  const [size] = await connection.query<{ bytes: string | number | null; count: string | number | null }>(
    'SELECT DATA_LENGTH AS bytes, TABLE_ROWS AS count FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?',
    [database, name],
  );
  const bytes = Number(size?.bytes ?? 0);
  const rows = Number(size?.count ?? 0);
  const ranges = rangesFor(bytes);
  const [first] = schema.keyColumns;
  if (first === undefined || ranges === 1) return { rows, bounds: [] };
  if (/^int\d/.test(first.type.schema.type)) {
    const [ends] = await connection.query<{ least: string | null; most: string | null }>(
      `SELECT CAST(MIN(${quote(first.name)}) AS CHAR) AS least, CAST(MAX(${quote(first.name)}) AS CHAR) AS most FROM ${quote(database)}.${quote(name)}`,
    );
    if (ends?.least == null || ends.most == null) return { rows, bounds: [] };
    return { rows, bounds: evenBounds(BigInt(ends.least), BigInt(ends.most), ranges) };
  }
  if (bytes > mostSampledBytes) return { rows, bounds: [] };
  return { rows, bounds: await sampledBounds(connection, table, ranges, Math.ceil(rows / ranges)) };
};

/** Each `skip` rows behind the one before. */
const sampledBounds = async (
  connection: Connection,
  table: KeyedTable,
  ranges: number,
  skip: number,
): Promise<PlanOffset['bounds']> => {
  const { keyColumns } = table.schema;
  const bounds: string[][] = [];
  while (bounds.length < ranges - 1) {
    const key = createPacketRows(keyColumns, 1);
    const page = pageQuery(table, keyColumns, { after: bounds.at(-1) ?? null, to: null, limit: 1, skip });
    await connection.rows(page.sql, page.values, key.add);
    if (key.count === 0) break;
    bounds.push(keyColumns.map((_, i) => key.text(0, i)!));
  }
  return bounds;
};

export const keyTexts = (rows: PacketRows, { columns, keyColumns }: RowSchema, row: number): string[] =>
  keyColumns.map((column) => rows.text(row, columns.indexOf(column))!);

/** The rows as changes that made them. */
export const groupOf = (rows: PacketRows, { database, name, schema }: SnapshotTable): RecordGroup => {
  const { count } = rows;
  const [before, after, source, transaction, op, ts] = schema.envelope.fields as readonly Field[];
  const rowColumns = rows.columns();
  const text = { type: 'string' } as const;
  const told: Record<string, Column> = {
    connector: constantColumn('connector', text, 'mysql', count),
    name: constantColumn('name', text, schema.topicPrefix, count),
    db: constantColumn('db', text, database, count),
    table: constantColumn('table', text, name, count),
    snapshot: { name: 'snapshot', schema: { type: 'boolean' }, kind: 'boolean', values: new Uint8Array(count).fill(1) },
  };
  const sourceColumns = (source!.schema as StructSchema).fields.map(
    (field) => told[field.name] ?? nullColumn(field, count),
  );
  const columns: Column[] = [
    nullColumn(before!, count),
    {
      name: 'after',
      schema: after!.schema as StructSchema,
      kind: 'struct',
      columns: withSchemas(rowColumns, (after!.schema as StructSchema).fields),
    },
    { name: 'source', schema: source!.schema as StructSchema, kind: 'struct', columns: sourceColumns },
    nullColumn(transaction!, count),
    constantColumn('op', op!.schema, 'r', count),
    nullColumn(ts!, count),
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

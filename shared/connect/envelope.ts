import { type Column, type RecordGroup, type Side, type StructColumn, VALUE } from './batch.ts';
import { columnOf } from './build.ts';
import { valueReader } from './record.ts';
import { type Field, isStruct, type Schema, type StructSchema } from './schema.ts';

/*
 * A change of a row as Debezium tells it: the row `before` and `after`, where it was read (`source`), what happened (`op`), when it was
 * read (`ts_ms`, milliseconds since 1970) and, where asked for, the place in its `transaction`. The key of the record is the row's
 * primary key. A field of `after` that is missing was not changed and not told by the server (PostgreSQL's unchanged TOAST).
 * https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-events
 */

/** c: inserted, u: updated, d: deleted, r: read by a snapshot, t: the table was truncated. */
export type Op = 'c' | 'u' | 'd' | 'r' | 't';

const suffix = '.Envelope';

export const isEnvelope = (schema: Schema): schema is StructSchema =>
  isStruct(schema) && schema.name?.endsWith(suffix) === true;

/** Where a change stands in its transaction: among all of them, and among those of its table. The first is 1. */
export interface TransactionOrder {
  readonly total: number;
  readonly collection: number;
}

const transactionSchema: StructSchema = {
  type: 'struct',
  optional: true,
  fields: [
    { name: 'id', schema: { type: 'string' } },
    { name: 'total_order', schema: { type: 'int64' } },
    { name: 'data_collection_order', schema: { type: 'int64' } },
  ],
};

/** `name` is that of the topic. */
export const envelopeSchema = (name: string, fields: readonly Field[], source: StructSchema): StructSchema => {
  const row: StructSchema = { type: 'struct', optional: true, name: `${name}.Value`, fields };
  return {
    type: 'struct',
    name: `${name}${suffix}`,
    fields: [
      { name: 'before', schema: row },
      { name: 'after', schema: row },
      { name: 'source', schema: source },
      { name: 'transaction', schema: transactionSchema },
      { name: 'op', schema: { type: 'string' } },
      { name: 'ts_ms', schema: { type: 'int64', optional: true } },
    ],
  };
};

/** The place of each change in its transaction. */
export const transactionColumn = (ids: readonly string[], orders: ArrayLike<TransactionOrder>): StructColumn => {
  const [id, total, collection] = transactionSchema.fields as readonly Field[];
  const longs = ({ name, schema }: Field, placeOf: (order: TransactionOrder) => number): Column => ({
    ...{ name, schema, kind: 'int64' },
    values: BigInt64Array.from(orders, (order) => BigInt(placeOf(order))),
  });
  return {
    ...{ name: 'transaction', schema: transactionSchema, kind: 'struct' },
    columns: [
      columnOf(id!.name, id!.schema, ids),
      longs(total!, (order) => order.total),
      longs(collection!, (order) => order.collection),
    ],
  };
};

/** The same records as flat rows: the row after the change, null where it was deleted. Other groups stay as they are. */
export const unwrapped = (group: RecordGroup): RecordGroup => {
  const { value, count } = group;
  const at = isEnvelope(value.schema) ? value.schema.fields.findIndex(({ name }) => name === 'after') : -1;
  return at === -1 ? group : { ...group, value: rowsOf(value.columns[at]!, value.nulls, count) };
};

const TRUNCATED = 0x74;

/** The rows of a group that say that their table was emptied (`op: t`). They have no key and no row. */
export const truncatesOf = ({ value: { schema, columns, nulls }, count }: RecordGroup): readonly number[] => {
  const at = isEnvelope(schema) ? schema.fields.findIndex(({ name }) => name === 'op') : -1;
  const op = columns[at];
  const rows: number[] = [];
  if (op?.kind !== 'bytes') return rows;
  for (let row = 0; row < count; row++)
    if (op.data[op.starts[row]!] === TRUNCATED && nulls?.[row] !== 1 && op.ends[row]! - op.starts[row]! === 1)
      rows.push(row);
  return rows;
};

const rowsOf = (column: Column, envelopeNulls: Uint8Array | undefined, count: number): Side => {
  const { state, columns, schema } = structColumn(column, count);
  const { optional: _, ...row } = schema;
  if (state === undefined && envelopeNulls === undefined) return { schema: row, columns };
  const nulls = new Uint8Array(count);
  for (let i = 0; i < count; i++)
    nulls[i] = (state === undefined || state[i] === VALUE) && envelopeNulls?.[i] !== 1 ? 0 : 1;
  return { schema: row, columns, nulls };
};

/** An envelope that came as JSON has its rows as text. */
const structColumn = (column: Column, count: number): StructColumn => {
  if (column.kind === 'struct') return column;
  const read = valueReader(column);
  return columnOf(
    column.name,
    column.schema,
    Array.from({ length: count }, (_, row) => read(row)),
  ) as StructColumn;
};

import {
  type BytesColumn,
  type Column,
  gatherGroup,
  type Int64Column,
  NULL,
  type RecordGroup,
  type Side,
  type StructColumn,
} from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import { constantColumn, nullColumn } from '../../shared/connect/constant-columns.ts';
import { type TransactionOrder, transactionColumn } from '../../shared/connect/envelope.ts';
import { canonicalJson } from '../../shared/connect/json.ts';
import type { Field, StructSchema, Value } from '../../shared/connect/schema.ts';
import { NULL_VALUE, type Slots, UNTOLD } from './row-image.ts';
import type { TableLayout } from './table-layout.ts';
import { type ReadValues, valueColumn } from './value-column.ts';

/** The operations of records, each by its place here; a tombstone has none. */
const ops = 'cud';
export const TOMBSTONE = ops.length;
export const opCode = { c: 0, u: 1, d: 2 } as const;

/** What all rows of an event have in common. */
export interface RowOrigin {
  readonly timestampMs: number;
  readonly gtid: string | undefined;
  /** Where its transaction begins. */
  readonly file: string;
  readonly pos: number;
}

/** As Debezium has it. */
export const transactionId = ({ gtid, file, pos }: Pick<RowOrigin, 'gtid' | 'file' | 'pos'>): string =>
  gtid ?? `${file}:${pos}`;

export interface BadRow<Origin> {
  /** Good rows of the group before it. */
  readonly index: number;
  readonly origin: Origin;
  readonly record: number;
  readonly problem: string;
  readonly raw: Buffer;
}

/** The records of one table that follow each other. */
export interface RowGroup<Origin> {
  readonly group: RecordGroup | undefined;
  /** Where its transaction begins, and which of its records it is. */
  placeOf(row: number): { readonly origin: Origin; readonly record: number };
  readonly bad: readonly BadRow<Origin>[];
}

/** One record to be: the places of its values from `base` of the group's data on. Its key is that of `key`, which is one of the two. */
export interface Row {
  readonly op: number;
  readonly before: Slots | undefined;
  readonly after: Slots | undefined;
  readonly key: Slots;
  /** Why it is refused, whatever its values are. */
  readonly problem?: string | undefined;
}

export interface GroupBuilder<Origin> {
  readonly layout: TableLayout;
  /** `order`: where transactions are told. */
  add(row: Row, base: number, origin: Origin, record: number, order?: TransactionOrder): void;
  finish(data: Buffer): RowGroup<Origin>;
}

export const createGroup = <Origin extends RowOrigin>(layout: TableLayout, read: ReadValues): GroupBuilder<Origin> => {
  const before = createRows(layout.all);
  const after = createRows(layout.all);
  const keys = createRows(layout.key);
  const runs: { readonly origin: Origin; readonly from: number }[] = [];
  const bad = new Map<number, string>();
  const orders: TransactionOrder[] = [];
  let rowOps = new Uint8Array(64);
  let records = new Uint32Array(64);
  let count = 0;

  const placeOf = (row: number) => {
    let low = 0;
    for (let high = runs.length - 1; low < high; ) {
      const middle = (low + high + 1) >> 1;
      if (runs[middle]!.from <= row) low = middle;
      else high = middle - 1;
    }
    return { origin: runs[low]!.origin, record: records[row]! };
  };

  return {
    layout,
    add(row, base, origin, record, order) {
      if (count === rowOps.length) {
        rowOps = grown(rowOps, 2 * count);
        records = grown(records, 2 * count);
      }
      if (runs.at(-1)?.origin !== origin) runs.push({ origin, from: count });
      if (row.problem !== undefined) bad.set(count, row.problem);
      before.set(count, row.before, base);
      after.set(count, row.after, base);
      keys.set(count, row.key, base);
      if (order !== undefined) orders.push(order);
      rowOps[count] = row.op;
      records[count++] = record;
    },
    finish(data) {
      const spans = runs.map(({ origin, from }, i) => ({ origin, from, to: runs[i + 1]?.from ?? count }));
      const content = { before, after, keys, ops: rowOps, spans, orders, count };
      const group = groupOf(layout, data, content, read, bad);
      const good = Uint32Array.from({ length: count }, (_, row) => row).filter((row) => !bad.has(row));
      const refused = [...bad].sort(([a], [b]) => a - b);
      const told = refused.map(([row, problem], i) => ({
        ...placeOf(row),
        index: row - i,
        problem,
        raw: rawOf(layout, data, after.has(row) ? after : keys, row, read),
      }));
      for (const rows of [before, after, keys]) rows.free();
      if (bad.size === 0) return { group, placeOf, bad: told };
      return {
        group: good.length === 0 ? undefined : gatherGroup(group, good),
        placeOf: (row) => placeOf(good[row]!),
        bad: told,
      };
    },
  };
};

/** The places of these columns' values, row by row, with room that is made only where there is one. */
const createRows = (columns: readonly number[]) => {
  const stride = 2 * columns.length;
  let slots = new Int32Array(0);
  let told = new Uint8Array(0);
  let number = 0;
  /** By column, whether a row has no value of it. */
  const hasGaps = new Uint8Array(columns.length);
  return {
    columns,
    hasGaps,
    stride,
    set(row: number, image: Slots | undefined, base: number) {
      if (image === undefined) return;
      if (row >= told.length) {
        const rows = Math.max(64, 2 * row);
        slots = grown(slots, rows * stride);
        told = grown(told, rows);
      }
      const to = row * stride;
      for (let i = 0; i < columns.length; i++) {
        const slot = 2 * columns[i]!;
        const start = image[slot]!;
        if (start < 0) hasGaps[i] = 1;
        slots[to + 2 * i] = start < 0 ? start : start + base;
        slots[to + 2 * i + 1] = image[slot + 1]! + base;
      }
      told[row] = 1;
      number++;
    },
    /** So many rows have one. */
    get number() {
      return number;
    },
    has: (row: number): boolean => told[row] === 1,
    /** All of `count` rows: what has no image is UNTOLD. */
    all(count: number): Slots {
      if (slots.length < count * stride) slots = grown(slots, count * stride);
      for (let row = 0; row < count; row++) if (told[row] !== 1) slots.fill(UNTOLD, row * stride, (row + 1) * stride);
      return slots;
    },
    free() {
      freeBuffer(slots);
      freeBuffer(told);
    },
  };
};

type Rows = ReturnType<typeof createRows>;

const grown = <A extends Int32Array | Uint8Array | Uint32Array>(array: A, length: number): A => {
  const larger = new (array.constructor as new (length: number) => A)(length);
  larger.set(array);
  freeBuffer(array);
  return larger;
};

interface Content {
  readonly before: Rows;
  readonly after: Rows;
  readonly keys: Rows;
  readonly ops: Uint8Array;
  /** The rows of each origin. */
  readonly spans: readonly { readonly origin: RowOrigin; readonly from: number; readonly to: number }[];
  /** Of each row, or of none. */
  readonly orders: readonly TransactionOrder[];
  readonly count: number;
}

const groupOf = (
  layout: TableLayout,
  data: Buffer,
  content: Content,
  read: ReadValues,
  bad: Map<number, string>,
): RecordGroup => {
  const { topic, key, envelope } = layout.schema;
  const { count, ops: rowOps } = content;
  const refuse = (row: number, problem: string) => {
    if (!bad.has(row)) bad.set(row, problem);
  };
  const [before, after, source, transaction, op, ts] = envelope.fields as readonly Field[];
  const starts = Uint32Array.from(rowOps.subarray(0, count), (one) => one % TOMBSTONE);
  const columns: Column[] = [
    // A value of the old row that no schema holds is as good as one that was not told: the change itself must get through.
    rowColumn(before!, layout, data, content.before, count, read, () => {}),
    rowColumn(after!, layout, data, content.after, count, read, refuse),
    { name: 'source', schema: source!.schema as StructSchema, kind: 'struct', columns: sourceColumns(layout, content) },
    content.orders.length === 0
      ? nullColumn(transaction!, count)
      : transactionColumn(content.spans.flatMap(transactionIds), content.orders),
    {
      name: 'op',
      schema: op!.schema,
      kind: 'bytes',
      data: Buffer.from(ops),
      starts,
      ends: starts.map((one) => one + 1),
    },
    longs(ts!, content, ({ timestampMs }) => timestampMs),
  ];
  const nulls = rowOps.subarray(0, count).map((one) => (one === TOMBSTONE ? 1 : 0));
  const timestampsMs = new Float64Array(count);
  for (const { origin, from, to } of content.spans) timestampsMs.fill(origin.timestampMs, from, to);
  return {
    topic,
    count,
    ...(key === undefined ? {} : { key: keySide(layout, key, data, content, read, refuse) }),
    value: { schema: envelope, columns, ...(nulls.includes(1) ? { nulls } : {}) },
    timestampsMs,
  };
};

const transactionIds = ({ origin, from, to }: Content['spans'][number]): readonly string[] =>
  new Array<string>(to - from).fill(transactionId(origin));

const keySide = (
  layout: TableLayout,
  schema: StructSchema,
  data: Buffer,
  { keys, count }: Content,
  read: ReadValues,
  refuse: (row: number, problem: string) => void,
): Side => {
  const slots = keys.all(count);
  for (let row = 0; row < count; row++)
    for (let i = 0; i < keys.stride; i += 2)
      if (slots[row * keys.stride + i] === UNTOLD)
        refuse(row, 'the binlog has not all columns of its key: SET GLOBAL binlog_row_image = FULL');
  return { schema, columns: columnsOf(schema, layout, data, keys, count, read, refuse) };
};

/** A row of each record that has one. */
const rowColumn = (
  field: Field,
  layout: TableLayout,
  data: Buffer,
  rows: Rows,
  count: number,
  read: ReadValues,
  refuse: (row: number, problem: string) => void,
): Column => {
  if (rows.number === 0) return nullColumn(field, count);
  const schema = field.schema as StructSchema;
  const columns = columnsOf(schema, layout, data, rows, count, read, refuse);
  const column: StructColumn = { name: field.name, schema, kind: 'struct', columns };
  if (rows.number === count) return column;
  return { ...column, state: Uint8Array.from({ length: count }, (_, row) => (rows.has(row) ? 0 : NULL)) };
};

const columnsOf = (
  schema: StructSchema,
  layout: TableLayout,
  data: Buffer,
  rows: Rows,
  count: number,
  read: ReadValues,
  refuse: (row: number, problem: string) => void,
): readonly Column[] => {
  const slots = rows.all(count);
  return rows.columns.map((column, i) => {
    const isWhole = rows.number === count && rows.hasGaps[i] === 0;
    const images = { data, slots, stride: rows.stride, at: 2 * i, count, isWhole };
    return valueColumn(schema.fields[i]!.schema, layout.columns[column]!, images, read, refuse);
  });
};

const longs = ({ name, schema }: Field, content: Content, of: (origin: RowOrigin) => number): Int64Column => {
  const values = new BigInt64Array(content.count);
  for (const { origin, from, to } of content.spans) values.fill(BigInt(of(origin)), from, to);
  return { name, schema, kind: 'int64', values };
};

/** Texts that rows of one origin share; null where it has none. */
const texts = ({ name, schema }: Field, content: Content, of: (origin: RowOrigin) => string | undefined): Column => {
  const starts = new Uint32Array(content.count);
  const ends = new Uint32Array(content.count);
  const state = new Uint8Array(content.count);
  const parts: string[] = [];
  let begin = 0;
  let length = 0;
  let last: string | undefined;
  for (const { origin, from, to } of content.spans) {
    const text = of(origin);
    if (text === undefined) {
      state.fill(NULL, from, to);
      continue;
    }
    if (text !== last) {
      parts.push(text);
      begin = length;
      length += Buffer.byteLength(text);
      last = text;
    }
    starts.fill(begin, from, to);
    ends.fill(length, from, to);
  }
  const column: BytesColumn = { name, schema, kind: 'bytes', data: Buffer.from(parts.join('')), starts, ends };
  return state.includes(NULL) ? { ...column, state } : column;
};

const sourceColumns = ({ table, schema }: TableLayout, content: Content): readonly Column[] => {
  const { count } = content;
  const { fields } = schema.envelope.fields[2]!.schema as StructSchema;
  return fields.map((field): Column => {
    const { name } = field;
    switch (name) {
      case 'connector':
        return constantColumn(name, field.schema, 'mysql', count);
      case 'name':
        return constantColumn(name, field.schema, schema.topicPrefix, count);
      case 'db':
        return constantColumn(name, field.schema, table.database, count);
      case 'table':
        return constantColumn(name, field.schema, table.name, count);
      case 'snapshot':
        return { name, schema: { type: 'boolean' }, kind: 'boolean', values: new Uint8Array(count) };
      case 'ts_ms':
        return longs(field, content, ({ timestampMs }) => timestampMs);
      case 'pos':
        return longs(field, content, ({ pos }) => pos);
      case 'gtid':
        return texts(field, content, ({ gtid }) => gtid);
      case 'file':
        return texts(field, content, ({ file }) => file);
      default:
        return nullColumn(field, count);
    }
  });
};

/** What the binlog has of a row, as JSON. */
const rawOf = (layout: TableLayout, data: Buffer, rows: Rows, row: number, read: ReadValues): Buffer => {
  const slots = rows.all(row + 1);
  const fields = rows.columns.flatMap((index, i): readonly (readonly [string, Value])[] => {
    const start = slots[row * rows.stride + 2 * i]!;
    if (start === UNTOLD) return [];
    const { name, logged, width, reading } = layout.columns[index]!;
    if (start === NULL_VALUE) return [[name, null]];
    if (reading.form === 'some') return [[name, data.toString('latin1', start, slots[row * rows.stride + 2 * i + 1])]];
    const image = data.subarray(start + Math.min(width, 0), slots[row * rows.stride + 2 * i + 1]);
    return [[name, (read(logged, [image])[0] ?? '') as Value]];
  });
  return Buffer.from(canonicalJson(Object.fromEntries(fields)));
};

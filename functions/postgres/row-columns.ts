import {
  type BytesColumn,
  type Column,
  gatherGroup,
  NULL,
  type RecordGroup,
  type Side,
  type StructColumn,
  VALUE,
} from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import { constantColumn, nullColumn } from '../../shared/connect/constant-columns.ts';
import { type Op, type TransactionOrder, transactionColumn } from '../../shared/connect/envelope.ts';
import type { Schema, StructSchema } from '../../shared/connect/schema.ts';
import { freeColumns, longColumn, structColumn } from './columns.ts';
import { NULL_VALUE, type Slots, type Transaction, transactionId, UNTOLD } from './pgoutput.ts';
import type { RowField, TableLayout } from './table-layout.ts';
import { valueColumn } from './value-column.ts';

/** Where a record stands: after how many changes of its transaction, and how many records of the next one. */
export interface RowPlace {
  readonly transaction: Transaction;
  readonly row: number;
  readonly record: number;
  /** Where transactions are told. */
  readonly order?: TransactionOrder | undefined;
}

/** One record to be. A tombstone has no op. */
export interface Row {
  readonly op: Op | undefined;
  readonly before?: Slots | undefined;
  readonly after?: Slots | undefined;
  readonly lsn: bigint;
  /** Why it is refused, whatever its values are. */
  readonly problem?: string | undefined;
}

export interface BadRow {
  /** Good rows of the group before it. */
  readonly index: number;
  readonly place: RowPlace;
  readonly problem: string;
  readonly raw: Buffer;
}

/** The records of one table from one page. */
export interface RowGroup {
  readonly group: RecordGroup | undefined;
  placeOf(row: number): RowPlace;
  readonly bad: readonly BadRow[];
  /** Nobody reads them any more. */
  free(): void;
}

export interface GroupBuilder {
  readonly layout: TableLayout;
  readonly page: Buffer;
  add(row: Row, place: RowPlace): void;
  finish(): RowGroup;
}

/** Which server and database the records say they are of. */
export interface SourceNames {
  readonly version: string;
  readonly name: string;
  readonly db: string;
}

export const createGroup = (layout: TableLayout, page: Buffer, names: SourceNames): GroupBuilder => {
  const width = 2 * layout.relation.columns.length;
  const before = createRows(width);
  const after = createRows(width);
  const rows: Row[] = [];
  const places: RowPlace[] = [];
  return {
    layout,
    page,
    add(row, place) {
      before.set(rows.length, row.before);
      after.set(rows.length, row.after);
      // The tuples are scratch memory of who reads them.
      rows.push({ op: row.op, lsn: row.lsn, problem: row.problem });
      places.push(place);
    },
    finish() {
      const bad = new Map<number, string>();
      for (const [row, { problem }] of rows.entries()) if (problem !== undefined) bad.set(row, problem);
      const tables = { before, after };
      const group = groupOf(layout, page, names, { rows, places, tables }, bad);
      const free = () => {
        freeColumns(group, page);
        before.free();
        after.free();
      };
      return bad.size === 0
        ? { group, placeOf: (row) => places[row]!, bad: [], free }
        : { ...withoutBad(group, places, bad, (row) => rawOf(layout, page, tables, row)), free };
    },
  };
};

/** Tuples one after the other, with room that is made only where there is one. */
const createRows = (width: number) => {
  let slots = new Int32Array(0);
  let has = new Uint8Array(64);
  return {
    set(row: number, tuple: Slots | undefined) {
      if (row >= has.length) has = grown(has, 2 * row);
      if (tuple === undefined) return;
      if ((row + 1) * width > slots.length) slots = grown(slots, Math.max(64, 2 * row) * width);
      slots.set(tuple, row * width);
      has[row] = 1;
    },
    has: (row: number): boolean => has[row] === 1,
    free() {
      freeBuffer(slots);
    },
    /** All of `count` rows: what has no tuple is UNTOLD. */
    all(count: number): Slots {
      if (slots.length < count * width) slots = grown(slots, count * width);
      for (let row = 0; row < count; row++) if (has[row] === 0) slots.fill(UNTOLD, row * width, (row + 1) * width);
      return slots;
    },
  };
};

type Rows = ReturnType<typeof createRows>;

const grown = <A extends Int32Array | Uint8Array>(array: A, length: number): A => {
  const larger = new (array.constructor as new (length: number) => A)(length);
  larger.set(array);
  return larger;
};

interface Content {
  readonly rows: readonly Row[];
  readonly places: readonly RowPlace[];
  readonly tables: { readonly before: Rows; readonly after: Rows };
}

const groupOf = (
  layout: TableLayout,
  page: Buffer,
  names: SourceNames,
  { rows, places, tables }: Content,
  bad: Map<number, string>,
): RecordGroup => {
  const count = rows.length;
  const { fields } = layout.valueSchema;
  const at = (name: string) => fields.find((field) => field.name === name)!.schema as StructSchema;
  const timesMs = Float64Array.from(places, ({ transaction }) => transaction.timestampMs);
  const rowOf = (name: 'before' | 'after') => {
    // A value of the old row that no schema holds is as good as one that was not told: the change itself must get through.
    const refuse = (row: number, problem: string) => name === 'after' && !bad.has(row) && bad.set(row, problem);
    return rowColumn(name, at(name), layout, page, tables[name], count, refuse);
  };
  const columns: Column[] = [
    rowOf('before'),
    rowOf('after'),
    structColumn('source', at('source'), sourceColumns(layout, names, rows, places, timesMs)),
    places[0]?.order === undefined
      ? nullColumn({ name: 'transaction', schema: at('transaction') }, count)
      : transactionColumn(
          places.map(({ transaction }) => transactionId(transaction)),
          places.map(({ order }) => order!),
        ),
    opColumn(rows),
    longColumn('ts_ms', { type: 'int64', optional: true }, count, (row) => BigInt(timesMs[row]!)),
  ];
  const isTombstone = rows.some(({ op }) => op === undefined);
  const value: Side = {
    schema: layout.valueSchema,
    columns,
    ...(isTombstone ? { nulls: Uint8Array.from(rows, ({ op }) => (op === undefined ? 1 : 0)) } : {}),
  };
  return {
    topic: layout.topic,
    count,
    ...(layout.key.length === 0 ? {} : { key: keySide(layout, page, tables, rows, bad) }),
    value,
    timestampsMs: timesMs,
  };
};

/** Of the row as it is after the change; of one that was deleted, as it was. A truncate has none. */
const keySide = (
  { key, keySchema, relation }: TableLayout,
  page: Buffer,
  { before, after }: Content['tables'],
  rows: readonly Row[],
  bad: Map<number, string>,
): Side => {
  const count = rows.length;
  const width = 2 * relation.columns.length;
  const stride = 2 * key.length;
  const [old, now] = [before.all(count), after.all(count)];
  const slots = new Int32Array(count * stride);
  for (let row = 0; row < count; row++) {
    const from = after.has(row) ? now : old;
    for (const [i, { index }] of key.entries()) {
      slots[row * stride + 2 * i] = from[row * width + 2 * index]!;
      slots[row * stride + 2 * i + 1] = from[row * width + 2 * index + 1]!;
    }
  }
  const columns = key.map(({ name, type }, i) =>
    valueColumn(name, type.schema, type, { page, slots, stride, at: 2 * i, count }, (row, problem) => {
      if (!bad.has(row)) bad.set(row, `${name}: ${problem}`);
    }),
  );
  const nulls = Uint8Array.from(rows, ({ op }) => (op === 't' ? 1 : 0));
  return nulls.includes(1)
    ? { schema: keySchema, columns: columns.map(withState), nulls }
    : { schema: keySchema, columns };
};

/** Where a whole key is null, its fields are said to be there: nobody looks at them. */
const withState = (column: Column): Column => {
  const { state: _, ...rest } = column;
  return rest as Column;
};

const rowColumn = (
  name: string,
  schema: StructSchema,
  { fields, relation }: TableLayout,
  page: Buffer,
  table: Rows,
  count: number,
  refuse: (row: number, problem: string) => void,
): StructColumn => {
  const slots = table.all(count);
  const stride = 2 * relation.columns.length;
  const columns = fields.map((field: RowField, i) =>
    valueColumn(
      field.name,
      schema.fields[i]!.schema,
      field.type,
      { page, slots, stride, at: 2 * field.index, count },
      (row, problem) => refuse(row, `${field.name}: ${problem}`),
    ),
  );
  const state = Uint8Array.from({ length: count }, (_, row) => (table.has(row) ? VALUE : NULL));
  return { ...structColumn(name, schema, columns), ...(state.includes(NULL) ? { state } : {}) };
};

const sourceColumns = (
  { relation }: TableLayout,
  { version, name, db }: SourceNames,
  rows: readonly Row[],
  places: readonly RowPlace[],
  timesMs: Float64Array,
): readonly Column[] => {
  const count = rows.length;
  const text = (column: string, value: string) => constantColumn(column, { type: 'string' }, value, count);
  const optional: Schema = { type: 'int64', optional: true };
  return [
    text('version', version),
    text('connector', 'postgresql'),
    text('name', name),
    longColumn('ts_ms', optional, count, (row) => BigInt(timesMs[row]!)),
    text('snapshot', 'false'),
    text('db', db),
    text('schema', relation.schema),
    text('table', relation.table),
    longColumn('txId', optional, count, (row) => BigInt(places[row]!.transaction.xid)),
    longColumn('lsn', optional, count, (row) => rows[row]!.lsn),
  ];
};

const ops = 'cudt';

const opColumn = (rows: readonly Row[]): BytesColumn => {
  const starts = Uint32Array.from(rows, ({ op }) => Math.max(0, ops.indexOf(op ?? 'c')));
  return {
    name: 'op',
    schema: { type: 'string' },
    kind: 'bytes',
    data: Buffer.from(ops),
    starts,
    ends: starts.map((start) => start + 1),
  };
};

const withoutBad = (
  group: RecordGroup,
  places: readonly RowPlace[],
  bad: ReadonlyMap<number, string>,
  raw: (row: number) => Buffer,
): Omit<RowGroup, 'free'> => {
  const good = Uint32Array.from(places.keys().filter((row) => !bad.has(row)));
  const goodBefore = (row: number) => good.filter((one) => one < row).length;
  return {
    group: good.length === 0 ? undefined : gatherGroup(group, good),
    placeOf: (row) => places[good[row]!]!,
    bad: Array.from(bad, ([row, problem]) => ({
      index: goodBefore(row),
      place: places[row]!,
      problem,
      raw: raw(row),
    })).sort((a, b) => a.index - b.index || a.place.row - b.place.row || a.place.record - b.place.record),
  };
};

/** What the server sent of a row, as JSON: the texts as PostgreSQL writes them. */
const rawOf = ({ fields, relation }: TableLayout, page: Buffer, tables: Content['tables'], row: number): Buffer => {
  const width = 2 * relation.columns.length;
  const told = (['before', 'after'] as const).flatMap((name) => {
    if (!tables[name].has(row)) return [];
    const slots = tables[name].all(row + 1);
    const texts = fields.flatMap(({ name: field, index }) => {
      const start = slots[row * width + 2 * index]!;
      if (start === UNTOLD) return [];
      const text = start === NULL_VALUE ? null : page.toString('utf8', start, slots[row * width + 2 * index + 1]!);
      return [[field, text]];
    });
    return [[name, Object.fromEntries(texts)]];
  });
  return Buffer.from(JSON.stringify({ table: `${relation.schema}.${relation.table}`, ...Object.fromEntries(told) }));
};

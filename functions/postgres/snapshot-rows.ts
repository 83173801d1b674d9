import { type Column, gatherGroup, type RecordGroup, type StructColumn } from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import { constantColumn, nullColumn } from '../../shared/connect/constant-columns.ts';
import type { StructSchema } from '../../shared/connect/schema.ts';
import { freeColumns, structColumn } from './columns.ts';
import { NULL_VALUE, type Slots } from './pgoutput.ts';
import type { SourceNames } from './row-columns.ts';
import type { SnapshotTable } from './snapshot-table.ts';
import { textEnd, valueColumn } from './value-column.ts';

/** Rows of one table from one page in the making. */
export interface SnapshotGroup {
  readonly page: Buffer;
  readonly count: number;
  add(row: Slots): void;
  finish(): SnapshotRows;
}

/** Rows as records of operation `r`. */
export interface SnapshotRows {
  /** Undefined: none is good. */
  readonly group: RecordGroup | undefined;
  /** Of all rows, by what they are refused for. */
  readonly bad: ReadonlyMap<number, string>;
  readonly count: number;
  /** The texts of a row's key. */
  keyOf(row: number): readonly string[];
  /** What the server sent of a row, as JSON. */
  rawOf(row: number): Buffer;
  /** Nobody reads them any more. */
  free(): void;
}

export const createSnapshotGroup = (table: SnapshotTable, page: Buffer, names: SourceNames): SnapshotGroup => {
  const { fields } = table.layout;
  const stride = 2 * fields.length;
  let slots: Slots = new Int32Array(256 * stride);
  let count = 0;
  const text = (row: number, field: number): string | null => {
    const slot = row * stride + 2 * field;
    const start = slots[slot]!;
    if (start === NULL_VALUE) return null;
    return page.toString('utf8', start, textEnd(fields[field]!.type.reading, page, start, slots[slot + 1]!));
  };
  return {
    page,
    get count() {
      return count;
    },
    add(row) {
      if ((count + 1) * stride > slots.length) {
        const larger = new Int32Array(2 * slots.length);
        larger.set(slots);
        freeBuffer(slots);
        slots = larger;
      }
      slots.set(row, count * stride);
      count++;
    },
    finish() {
      const bad = new Map<number, string>();
      const all = groupOf(table, { page, slots, stride, count }, names, bad);
      return {
        group: bad.size === 0 ? all : withoutBad(all, bad),
        free() {
          freeColumns(all, page);
          freeBuffer(slots);
        },
        bad,
        count,
        keyOf: (row) => table.key.map((field) => text(row, fields.indexOf(field))!),
        rawOf: (row) =>
          Buffer.from(
            JSON.stringify({
              table: table.name,
              after: Object.fromEntries(fields.map(({ name }, i) => [name, text(row, i)])),
            }),
          ),
      };
    },
  };
};

const withoutBad = (all: RecordGroup, bad: ReadonlyMap<number, string>): RecordGroup | undefined => {
  const good = Uint32Array.from({ length: all.count }, (_, row) => row).filter((row) => !bad.has(row));
  return good.length === 0 ? undefined : gatherGroup(all, good);
};

interface Rows {
  readonly page: Buffer;
  readonly slots: Slots;
  readonly stride: number;
  readonly count: number;
}

const groupOf = (
  { layout }: SnapshotTable,
  { count, ...texts }: Rows,
  names: SourceNames,
  bad: Map<number, string>,
): RecordGroup => {
  const { fields, key, keySchema, valueSchema } = layout;
  const [before, after, source, transaction, op, ts] = valueSchema.fields;
  const schema = after!.schema as StructSchema;
  const columns = fields.map(({ name, type }, i) =>
    valueColumn(name, schema.fields[i]!.schema, type, { ...texts, at: 2 * i, count }, (row, problem) => {
      if (!bad.has(row)) bad.set(row, `${name}: ${problem}`);
    }),
  );
  return {
    topic: layout.topic,
    count,
    ...(key.length === 0
      ? {}
      : {
          key: {
            schema: keySchema,
            columns: key.map((field, i) => withSchema(columns[fields.indexOf(field)]!, keySchema.fields[i]!.schema)),
          },
        }),
    value: {
      schema: valueSchema,
      columns: [
        nullColumn(before!, count),
        structColumn('after', schema, columns),
        sourceColumn(layout.relation, source!.schema as StructSchema, names, count),
        nullColumn(transaction!, count),
        constantColumn('op', op!.schema, 'r', count),
        nullColumn(ts!, count),
      ],
    },
  };
};

const withSchema = (column: Column, schema: Column['schema']): Column => ({ ...column, schema }) as Column;

/** When, and by which transaction, a row was written is not told with it. */
const sourceColumn = (
  { schema, table }: { readonly schema: string; readonly table: string },
  type: StructSchema,
  { version, name, db }: SourceNames,
  count: number,
): StructColumn => {
  const told: { readonly [name: string]: string } = {
    version,
    connector: 'postgresql',
    name,
    snapshot: 'true',
    db,
    schema,
    table,
  };
  const columns = type.fields.map((field) => {
    const text = told[field.name];
    return text === undefined ? nullColumn(field, count) : constantColumn(field.name, field.schema, text, count);
  });
  return structColumn('source', type, columns);
};

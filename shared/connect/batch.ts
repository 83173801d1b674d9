import { freeBuffer } from './buffers.ts';
import { type ConnectRecord, type Header, recordReader } from './record.ts';
import type { Schema, StructSchema } from './schema.ts';

/**
 * A batch of records as columns. Groups are runs of records with one topic and one pair of schemas; their order is the
 * records' order. Iterating gives records one by one; bulk connectors read the columns.
 *
 * Ownership: a batch is valid until the `put` it was given to settles. Then its buffers are freed, so a sink that keeps
 * bytes longer must copy them.
 */
export interface RecordBatch extends Iterable<ConnectRecord> {
  readonly count: number;
  readonly groups: readonly RecordGroup[];
}

export interface RecordGroup {
  readonly topic: string;
  readonly count: number;
  /** Absent when no record of the group has a key. */
  readonly key?: Side;
  readonly value: Side;
  /** Absent when no record has headers; one entry per record otherwise. */
  readonly headers?: readonly (readonly Header[])[];
  /** Milliseconds since 1970; NaN where a record has none. Absent when none has. */
  readonly timestampsMs?: Float64Array;
}

/** The keys, or the values, of a group: one column per field of a struct schema, else one column named ''. */
export interface Side {
  readonly schema: Schema;
  readonly columns: readonly Column[];
  /** 1 where the whole key or value is null (a value of null is a tombstone). Absent when none is. */
  readonly nulls?: Uint8Array;
}

export const VALUE = 0;
export const NULL = 1;
/** The field was not there at all: told from null, because JSON sources and sinks must give back what they got. */
export const MISSING = 2;

interface ColumnCommon {
  readonly name: string;
  readonly schema: Schema;
  /** VALUE, NULL or MISSING per record. Absent when all are VALUE. What the data holds where it is not VALUE is undefined. */
  readonly state?: Uint8Array;
}

export interface Int32Column extends ColumnCommon {
  readonly kind: 'int32';
  readonly values: Int32Array;
}
export interface Int64Column extends ColumnCommon {
  readonly kind: 'int64';
  readonly values: BigInt64Array;
}
export interface Float64Column extends ColumnCommon {
  readonly kind: 'float64';
  readonly values: Float64Array;
}
export interface BooleanColumn extends ColumnCommon {
  readonly kind: 'boolean';
  readonly values: Uint8Array;
}
/**
 * Everything of variable length: `data[starts[i] … ends[i])` is record i's UTF-8 text (string, decimal, date, time, timestamp,
 * uuid), its raw bytes (bytes), or its JSON text (any, array, map, struct). `data` may be the buffer the source read into.
 */
export interface BytesColumn extends ColumnCommon {
  readonly kind: 'bytes';
  readonly data: Uint8Array;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
}

/** A struct, a column per field. A row that is not VALUE has undefined fields. Where a struct came as JSON text it is a bytes column of that. */
export interface StructColumn extends ColumnCommon {
  readonly kind: 'struct';
  readonly schema: StructSchema;
  readonly columns: readonly Column[];
}

export type FlatColumn = Int32Column | Int64Column | Float64Column | BooleanColumn | BytesColumn;
export type Column = FlatColumn | StructColumn;
export type ColumnKind = FlatColumn['kind'];

/** Of a flat column. */
export const columnKind = (schema: Schema): ColumnKind => {
  switch (schema.type) {
    case 'int8':
    case 'int16':
    case 'int32':
      return 'int32';
    case 'int64':
      return 'int64';
    case 'float32':
    case 'float64':
      return 'float64';
    case 'boolean':
      return 'boolean';
    default:
      return 'bytes';
  }
};

/** Whether a bytes column of this schema holds JSON text rather than the value's own bytes. */
export const holdsJson = (schema: Schema): boolean =>
  schema.type === 'any' || schema.type === 'array' || schema.type === 'map' || schema.type === 'struct';

export const batchOfGroups = (groups: readonly RecordGroup[]): RecordBatch => {
  let count = 0;
  for (const group of groups) count += group.count;
  return {
    count,
    groups,
    *[Symbol.iterator]() {
      for (const group of groups) {
        const read = recordReader(group);
        for (let row = 0; row < group.count; row++) yield read(row);
      }
    },
  };
};

export const emptyBatch: RecordBatch = batchOfGroups([]);

/** Records [from, to) of a batch, over the same bytes. */
export const sliceBatch = (batch: RecordBatch, from: number, to: number): RecordBatch => {
  if (from <= 0 && to >= batch.count) return batch;
  const groups: RecordGroup[] = [];
  let start = 0;
  for (const group of batch.groups) {
    const first = Math.max(from - start, 0);
    const last = Math.min(to - start, group.count);
    if (first < last) groups.push(sliceGroup(group, first, last));
    start += group.count;
  }
  return batchOfGroups(groups);
};

/** The records of several batches in order; neighbouring groups are not merged. */
export const concatBatches = (batches: readonly RecordBatch[]): RecordBatch =>
  batches.length === 1 ? batches[0]! : batchOfGroups(batches.flatMap((batch) => batch.groups));

/** Rows [from, to) of a group, over the same bytes. */
export const sliceGroup = (group: RecordGroup, from: number, to: number): RecordGroup => {
  if (from === 0 && to === group.count) return group;
  return mapGroup(
    group,
    to - from,
    (array) => array.subarray(from, to) as typeof array,
    (list) => list.slice(from, to),
  );
};

/** The rows of a group that `rows` names, in that order, over the same bytes. */
export const gatherGroup = (group: RecordGroup, rows: Uint32Array): RecordGroup =>
  mapGroup(
    group,
    rows.length,
    (array) => {
      const picked = new (array.constructor as new (length: number) => typeof array)(rows.length);
      for (let i = 0; i < rows.length; i++) picked[i] = array[rows[i]!]!;
      return picked;
    },
    (list) => Array.from(rows, (row) => list[row]!),
  );

/** The records of a batch that `rows` names (batch positions, ascending). */
export const gatherBatch = (batch: RecordBatch, rows: Uint32Array): RecordBatch => {
  const groups: RecordGroup[] = [];
  let start = 0;
  let next = 0;
  for (const group of batch.groups) {
    const first = next;
    while (next < rows.length && rows[next]! < start + group.count) next++;
    if (next > first)
      groups.push(
        gatherGroup(
          group,
          rows.subarray(first, next).map((row) => row - start),
        ),
      );
    start += group.count;
  }
  return batchOfGroups(groups);
};

type Arrays = Int32Array | BigInt64Array | Float64Array | Uint8Array | Uint32Array;

const mapGroup = (
  group: RecordGroup,
  count: number,
  pick: <A extends Arrays>(array: A) => A,
  pickList: <T>(list: readonly T[]) => readonly T[],
): RecordGroup => {
  const column = (c: Column): Column => {
    const state = c.state === undefined ? {} : { state: pick(c.state) };
    if (c.kind === 'bytes') return { ...c, ...state, starts: pick(c.starts), ends: pick(c.ends) };
    if (c.kind === 'struct') return { ...c, ...state, columns: c.columns.map(column) };
    return { ...c, ...state, values: pick(c.values) } as Column;
  };
  const side = (s: Side): Side => ({
    schema: s.schema,
    columns: s.columns.map(column),
    ...(s.nulls === undefined ? {} : { nulls: pick(s.nulls) }),
  });
  return {
    topic: group.topic,
    count,
    ...(group.key === undefined ? {} : { key: side(group.key) }),
    value: side(group.value),
    ...(group.headers === undefined ? {} : { headers: pickList(group.headers) }),
    ...(group.timestampsMs === undefined ? {} : { timestampsMs: pick(group.timestampsMs) }),
  };
};

/** An estimate of the bytes a batch holds: what budgets are counted in. */
export const batchBytes = (batch: RecordBatch): number => {
  let bytes = 0;
  for (const { key, value, count } of batch.groups)
    bytes += sideBytes(value, count) + (key === undefined ? 0 : sideBytes(key, count));
  return bytes;
};

export const sideBytes = ({ columns }: { readonly columns: readonly Column[] }, count: number): number => {
  let bytes = 0;
  for (const column of columns) bytes += columnBytes(column, count);
  return bytes;
};

const columnBytes = (column: Column, count: number): number => {
  if (column.kind === 'struct') return sideBytes(column, count);
  if (column.kind !== 'bytes') return column.values.byteLength;
  let bytes = 0;
  for (let i = 0; i < count; i++) bytes += column.ends[i]! - column.starts[i]!;
  return bytes;
};

/** Frees what a group's columns lie in: nobody may read it, or any other group over the same bytes, again. */
export const freeGroup = ({ key, value }: RecordGroup): void => {
  freeColumns(value.columns);
  freeColumns(key?.columns ?? []);
};

const freeColumns = (columns: readonly Column[]): void => {
  for (const column of columns) {
    if (column.state !== undefined) freeBuffer(column.state);
    if (column.kind === 'struct') {
      freeColumns(column.columns);
      continue;
    }
    const arrays = column.kind === 'bytes' ? [column.data, column.starts, column.ends] : [column.values];
    for (const array of arrays) freeBuffer(array);
  }
};

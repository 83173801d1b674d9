import {
  type BytesColumn,
  type Column,
  type Int64Column,
  MISSING,
  NULL,
  type RecordGroup,
  type StructColumn,
} from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import { type Field, isStruct, type Schema, type StructSchema } from '../../shared/connect/schema.ts';

export const structColumn = (name: string, schema: StructSchema, columns: readonly Column[]): StructColumn => ({
  name,
  schema,
  kind: 'struct',
  columns,
});

/** The same text for every row. */
export const constant = (name: string, schema: Schema, text: string, count: number): BytesColumn => {
  const data = Buffer.from(text);
  return {
    name,
    schema,
    kind: 'bytes',
    data,
    starts: new Uint32Array(count),
    ends: new Uint32Array(count).fill(data.length),
  };
};

export const longColumn = (name: string, schema: Schema, count: number, read: (row: number) => bigint): Int64Column => {
  const values = new BigInt64Array(count);
  for (let row = 0; row < count; row++) values[row] = read(row);
  return { name, schema, kind: 'int64', values };
};

export const filled = (count: number, state: number): Uint8Array => new Uint8Array(count).fill(state);

/** The columns of a struct that no row has. */
export const nothing = ({ fields }: StructSchema, count: number): readonly Column[] =>
  fields.map(({ name, schema }) => {
    if (isStruct(schema)) throw new TypeError('a struct in it has columns of its own');
    const column =
      schema.type === 'int64' ? longColumn(name, schema, count, () => 0n) : constant(name, schema, '', count);
    return { ...column, state: filled(count, MISSING) };
  });

/** Null for every row. */
export const nullColumn = ({ name, schema }: Field, count: number): Column => {
  const column = isStruct(schema) ? structColumn(name, schema, []) : longColumn(name, schema, count, () => 0n);
  return { ...column, state: filled(count, NULL) };
};

/** Frees what a group's columns lie in, but for the page: the next batch may go on in it. */
export const freeColumns = ({ key, value }: RecordGroup, page: Buffer): void => {
  const free = (column: Column): void => {
    if (column.state !== undefined) freeBuffer(column.state);
    if (column.kind === 'struct') column.columns.forEach(free);
    else if (column.kind !== 'bytes') freeBuffer(column.values);
    else
      for (const part of [column.data, column.starts, column.ends]) if (part.buffer !== page.buffer) freeBuffer(part);
  };
  [...(key?.columns ?? []), ...value.columns].forEach(free);
};

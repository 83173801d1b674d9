import type { Column, Int64Column, RecordGroup, StructColumn } from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import type { Schema, StructSchema } from '../../shared/connect/schema.ts';

export const structColumn = (name: string, schema: StructSchema, columns: readonly Column[]): StructColumn => ({
  name,
  schema,
  kind: 'struct',
  columns,
});

export const longColumn = (name: string, schema: Schema, count: number, read: (row: number) => bigint): Int64Column => {
  const values = new BigInt64Array(count);
  for (let row = 0; row < count; row++) values[row] = read(row);
  return { name, schema, kind: 'int64', values };
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

import type { FlatColumn } from '../../shared/connect/batch.ts';
import { bufferOf } from '../../shared/connect/buffers.ts';
import type { ValueField } from './values.ts';

type Part = number | bigint | string;

/** What two rows have in common exactly where the server takes their keys for one. */
export const keyReader = (fields: readonly ValueField[]): ((row: number) => Part) => {
  const parts = fields.map(({ column, isText }) => partReader(column, isText));
  if (parts.length === 1) return parts[0]!;
  return (row) =>
    parts
      .map((read) => String(read(row)))
      .map((part) => `${part.length}:${part}`)
      .join('');
};

const partReader = (column: FlatColumn, isText: boolean): ((row: number) => Part) => {
  if (column.kind !== 'bytes') {
    const { values } = column;
    return (row) => values[row]!;
  }
  const { starts, ends } = column;
  const data = bufferOf(column.data);
  const read = (row: number) => data.toString('latin1', starts[row], ends[row]);
  const { type } = column.schema;
  if (isText) return read;
  // One value can be written in several ways.
  if (type === 'time' || type === 'timestamp') return (row) => withoutZeros(read(row).replace('Z', ''));
  if (type === 'decimal') return (row) => withoutZeros(read(row).replace(/^(-?)0+(?=\d)/, '$1')).replace(/^-0$/, '0');
  return read;
};

const withoutZeros = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);

/** Which rows are left of those with the same key. */
export interface LastStates {
  /** The last row of each key, in their order, but for those that delete. */
  readonly rows: readonly number[];
  /** A row of each key that was deleted on the way or at the end. */
  readonly deleted: readonly number[];
}

/** Rows [from, to): the last one of a key wins; a key that was deleted on the way starts from an empty row. */
export const lastStates = (
  from: number,
  to: number,
  keyOf: (row: number) => Part,
  deletes: (row: number) => boolean,
): LastStates => {
  const last = new Map<Part, number>();
  const deleted = new Map<Part, number>();
  for (let row = from; row < to; row++) {
    const key = keyOf(row);
    if (deletes(row)) deleted.set(key, row);
    // Set anew, so that the map is in the order of the last rows.
    if (last.has(key)) last.delete(key);
    last.set(key, row);
  }
  return { rows: [...last.values()].filter((row) => !deletes(row)), deleted: [...deleted.values()] };
};

import type { BytesColumn } from '../connect/batch.ts';
import type { Schema } from '../connect/schema.ts';
import type { Check } from './layout.ts';

const LEAP = 0x36; // The 6 of second 60.
const ZERO = 0x30;
const NINE = 0x39;
const DOT = 0x2e;
const COLON = 0x3a;

/** What of dates and times a system that ends at microseconds would round or shift in silence; undefined where the schema has none. */
export const timeChange = ({ type }: Schema, system: string): Check | undefined =>
  type === 'date' || type === 'time' || type === 'timestamp'
    ? (column, row) => (column.kind === 'bytes' ? changeOf(column, row, type, system) : undefined)
    : undefined;

const changeOf = (
  column: BytesColumn,
  row: number,
  type: 'date' | 'time' | 'timestamp',
  system: string,
): string | undefined => {
  const { data } = column;
  const start = column.starts[row]!;
  const end = column.ends[row]!;
  if (type !== 'time' && !isDigit(data[start])) return `${system} has no signed years`;
  if (type === 'date') return undefined;
  const time = type === 'time' ? start : firstColon(data, start, end) - 2;
  // hh:mm:ss.ffffff: the seconds start at 6, the seventh digit of the fraction is at 15.
  if (data[time + 6] === LEAP) return `${system} has no leap seconds`;
  if (data[time + 8] !== DOT) return undefined;
  for (let at = time + 15; at < end && isDigit(data[at]); at++)
    if (data[at] !== ZERO) return `${system} keeps microseconds, this has more digits`;
  return undefined;
};

const isDigit = (byte: number | undefined) => byte !== undefined && byte >= ZERO && byte <= NINE;

const firstColon = (data: Uint8Array, start: number, end: number): number => {
  let at = start;
  while (at < end && data[at] !== COLON) at++;
  return at;
};

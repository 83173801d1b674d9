import type { Dialect } from '../../shared/sql/query-statement.ts';
import type { TimeKind } from '../../shared/sql/query-table.ts';
import { literal, quote } from './client.ts';

const number = /^-?\d+(\.\d+)?(e[-+]?\d+)?$/i;

/** The sessions are in UTC: a `timestamp` is as it is told. A wall clock is that of `zone`. */
export const dialect: Dialect = {
  quote,
  // The text of a float has six digits; as a double it has all.
  text: (sql, form) => (form === 'float' ? `${sql} + 0e0` : sql),
  literal(text, form) {
    switch (form) {
      case 'number':
        // A number in quotes would be compared as a double.
        return number.test(text) ? text : literal(text);
      case 'float':
        return number.test(text) ? `(${text} + 0e0)` : literal(text);
      case 'bytes':
        return `x'${Buffer.from(text, 'latin1').toString('hex')}'`;
      case 'time':
        return `CAST(${literal(text)} AS DATETIME(6))`;
      case 'text':
        return literal(text);
    }
  },
  bound(time, delayMs, zone) {
    if (time.isDate) return `DATE(${inZone('UTC_TIMESTAMP(6)', time, zone)} - ${interval(delayMs)})`;
    // A time that is cut to seconds is passed when all of its second is.
    const unitMs = 10 ** Math.max(0, 3 - time.digits);
    const now = inZone(`UTC_TIMESTAMP(${time.digits})`, time, zone);
    return `${now} - ${interval(Math.ceil(delayMs / unitMs) * unitMs)}`;
  },
  instant: (time, ms, zone) => inZone(`(CAST('1970-01-01' AS DATETIME(6)) + ${interval(ms)})`, time, zone),
  behind: (columns, values) => compared(columns, values, '>', '>'),
  upTo: (columns, values) => compared(columns, values, '<', '<='),
  order: (sql) => sql,
};

/** Written so that the server takes it for ranges of an index. */
const compared = (
  columns: readonly string[],
  values: readonly string[],
  strict: string,
  last: string,
  i = 0,
): string => {
  const [column, value] = [columns[i]!, values[i]!];
  if (i === columns.length - 1) return `${column} ${last} ${value}`;
  const rest = compared(columns, values, strict, last, i + 1);
  return `${column} ${strict}= ${value} AND (${column} ${strict} ${value} OR (${column} = ${value} AND ${rest}))`;
};

const interval = (ms: number): string => `INTERVAL ${ms * 1000} MICROSECOND`;

const inZone = (utc: string, { isLocal }: TimeKind, zone: string): string =>
  !isLocal || zone === 'UTC' ? utc : `CONVERT_TZ(${utc}, '+00:00', ${literal(zone)})`;

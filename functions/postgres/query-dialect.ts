import type { Dialect } from '../../shared/sql/query-statement.ts';
import { literal, quote } from './client.ts';

/** The sessions are in UTC. A wall clock is that of `zone`. */
export const dialect: Dialect = {
  quote,
  text: (sql) => `(${sql})::text`,
  // A literal without a type is one of the column's.
  literal,
  bound(time, delayMs, zone) {
    const passed = `${time.isLocal ? inZone('now()', zone) : 'now()'} - interval '${delayMs} milliseconds'`;
    // A time that is cut to seconds is passed when all of its second is.
    if (time.isDate) return `date_trunc('day', ${passed})`;
    if (time.digits === 6) return passed;
    return `date_trunc('${time.digits < 3 ? 'second' : 'milliseconds'}', ${passed})`;
  },
  instant({ isLocal }, ms, zone) {
    const instant = `to_timestamp(${ms} / 1000.0)`;
    return isLocal ? inZone(instant, zone) : instant;
  },
  behind: (columns, values) => compared(columns, '>', values),
  upTo: (columns, values) => compared(columns, '<=', values),
  order: (sql, isNullable) => (isNullable ? `${sql} NULLS FIRST` : sql),
};

/** A comparison of rows is a range of an index on these columns, where one of their parts is not. */
const compared = (columns: readonly string[], operator: string, values: readonly string[]): string =>
  columns.length === 1
    ? `${columns[0]} ${operator} ${values[0]}`
    : `(${columns.join(', ')}) ${operator} (${values.join(', ')})`;

/** An offset as a text would be one to the west. */
const inZone = (sql: string, zone: string): string =>
  `(${sql} AT TIME ZONE ${/^[+-]/.test(zone) ? `interval ${literal(zone)}` : literal(zone)})`;

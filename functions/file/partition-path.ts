import type { Column, RecordGroup } from '../../shared/connect/batch.ts';
import { ConnectError, rowError } from '../../shared/connect/errors.ts';
import { valueReader } from '../../shared/connect/record.ts';
import { describeSchema, ExactNumber, isStruct } from '../../shared/connect/schema.ts';

/** Hive's name for the directory of records without a value. It gives the empty string the same one. */
const nullPart = '__HIVE_DEFAULT_PARTITION__';

/** What Hive escapes in a directory name; a name that begins with a dot would be hidden, or lead out of the directory. */
const unsafe = /^\.|[\p{Cc}"#%'*/:=?\\{[\]^]/gu;
const longestName = 255;

/** A text as one name in a path, escaped as Hive does: no text leads anywhere else. */
export const pathPart = (text: string): string =>
  text === ''
    ? nullPart
    : text.replace(unsafe, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);

type TextOf = (row: number) => string | null;

/** How the rows of a group spread over directories, and the rows that have no place in any. */
export interface Partitioned {
  readonly rows: ReadonlyMap<string, readonly number[]>;
  readonly bad: ReadonlyMap<number, ConnectError>;
}

/** The directory of each row: `day=2024-02-29/country=DE`, '' where there is nothing to partition by. */
export const partitionGroup = (group: RecordGroup, partitionBy: readonly string[]): Partitioned => {
  if (partitionBy.length === 0)
    return { rows: new Map([['', Array.from({ length: group.count }, (_, row) => row)]]), bad: new Map() };
  const parts = partitionBy.map((partition) => partReader(group, partition));
  const rows = new Map<string, number[]>();
  const bad = new Map<number, ConnectError>();
  for (let row = 0; row < group.count; row++) {
    try {
      const directory = parts.map((part) => part(row)).join('/');
      const there = rows.get(directory);
      if (there === undefined) rows.set(directory, [row]);
      else there.push(row);
    } catch (error) {
      if (!(error instanceof ConnectError && error.blame === 'row')) throw error;
      bad.set(row, error);
    }
  }
  return { rows, bad };
};

const partReader = (group: RecordGroup, partition: string): ((row: number) => string) => {
  const [, unit, field] = /^(year|month|day|hour)\((.*)\)$/.exec(partition) ?? [];
  const name = unit ?? partition;
  const textOf =
    unit === undefined
      ? fieldText(group, partition)
      : timePart(unit, field === '' ? recordTime(group) : fieldTime(group, field!, partition));
  return (row) => {
    const text = textOf(row);
    const part = `${pathPart(name)}=${text === null ? nullPart : pathPart(text)}`;
    if (Buffer.byteLength(part) > longestName)
      throw rowError(
        `topic ${group.topic}: partitionBy ${partition} makes a directory name of ${Buffer.byteLength(part)} bytes, ${longestName} is the most: partition by a shorter field`,
      );
    return part;
  };
};

const columnOf = (group: RecordGroup, field: string): Column | undefined =>
  isStruct(group.value.schema) ? group.value.columns.find(({ name }) => name === field) : undefined;

/** A field that a schema lacks is null there: fields come and go between schemas of one topic. */
const noValue: TextOf = () => null;

const fieldText = (group: RecordGroup, field: string): TextOf => {
  const column = columnOf(group, field);
  if (column === undefined) return noValue;
  const { type } = column.schema;
  if (type === 'bytes' || type === 'array' || type === 'map' || type === 'struct')
    throw unfit(group, field, column, 'partition by a field that has a text or a number');
  const read = valueReader(column);
  return (row) => {
    const value = read(row);
    if (value !== null && typeof value === 'object' && !(value instanceof ExactNumber))
      throw rowError(
        `topic ${group.topic}: partitionBy ${field} found an object or a list, expected a text or a number`,
      );
    return value === null ? null : String(value);
  };
};

const fieldTime = (group: RecordGroup, field: string, partition: string): TextOf => {
  const column = columnOf(group, field);
  if (column === undefined) return noValue;
  const { type } = column.schema;
  if (type !== 'timestamp' && (type !== 'date' || partition.startsWith('hour')))
    throw unfit(group, partition, column, `declare ${field} as a timestamp, or cast it by a transform`);
  return valueReader(column) as TextOf;
};

const recordTime = ({ timestampsMs, topic }: RecordGroup): TextOf => {
  if (timestampsMs === undefined) return noValue;
  return (row) => {
    const ms = timestampsMs[row]!;
    if (Number.isNaN(ms)) return null;
    if (Math.abs(ms) > 8.64e15) throw rowError(`topic ${topic}: the record timestamp ${ms} ms is beyond any date`);
    return new Date(ms).toISOString();
  };
};

/** 2024, 2024-02, 2024-02-29, 2024-02-29-23: sortable, and each is a prefix of the next. The year may have more digits. */
const timePart =
  (unit: string, timeOf: TextOf): TextOf =>
  (row) => {
    const text = timeOf(row);
    if (text === null) return null;
    const year = text.indexOf('-', 1);
    switch (unit) {
      case 'year':
        return text.slice(0, year);
      case 'month':
        return text.slice(0, year + 3);
      case 'day':
        return text.slice(0, year + 6);
      default:
        return `${text.slice(0, year + 6)}-${text.slice(year + 7, year + 9)}`;
    }
  };

const unfit = (group: RecordGroup, partition: string, column: Column, remedy: string): ConnectError =>
  new ConnectError(
    'CONFIG_INVALID',
    `partitionBy ${partition}: the field ${column.name} of topic ${group.topic} is ${describeSchema(column.schema)}; ${remedy}`,
  );

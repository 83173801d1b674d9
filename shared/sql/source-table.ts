import { batchOfGroups, type Column, type RecordGroup, sliceBatch } from '../connect/batch.ts';
import { isOfSource, sourceNames, withSource } from '../connect/database-config.ts';
import { isEnvelope } from '../connect/envelope.ts';
import { valueReader } from '../connect/record.ts';

/** Records of a group that go to one table. */
export interface TablePart {
  readonly group: RecordGroup;
  /** The template of its name, with what their source says; undefined where the template asks for nothing of it. */
  readonly table: string | undefined;
  readonly isUntold: boolean;
}

/** The records of a group parted by the table that they are changes of, where the template of table names asks for it. */
export const partsByTable = (group: RecordGroup, template: string): readonly TablePart[] => {
  if (!isOfSource(template)) return [{ group, table: undefined, isUntold: false }];
  const tables = tablesOf(group, template);
  const parts: TablePart[] = [];
  const whole = batchOfGroups([group]);
  for (let from = 0, to = 1; from < group.count; from = to++) {
    while (to < group.count && tables[to] === tables[from]) to++;
    const table = tables[from];
    parts.push({ group: sliceBatch(whole, from, to).groups[0]!, table, isUntold: table === undefined });
  }
  return parts;
};

/** Of each record; undefined where it does not say. A tombstone says nothing, and goes where the delete before it went. */
const tablesOf = ({ value, count }: RecordGroup, template: string): readonly (string | undefined)[] => {
  const source = isEnvelope(value.schema) ? value.columns.find(({ name }) => name === 'source') : undefined;
  const fields = source?.kind === 'struct' ? source.columns : [];
  const names = sourceNames.map((name) => [name, readerOf(fields.find((field) => field.name === name))] as const);
  let before: string | undefined;
  return Array.from({ length: count }, (_, row) => {
    const told = Object.fromEntries(names.map(([name, read]) => [name, read(row)]));
    const table = withSource(template, told);
    if (table !== undefined || value.nulls?.[row] !== 1) before = table;
    return before;
  });
};

const readerOf = (column: Column | undefined): ((row: number) => string | undefined) => {
  if (column === undefined) return () => undefined;
  const read = valueReader(column);
  return (row) => {
    const text = read(row);
    return typeof text === 'string' ? text : undefined;
  };
};

import { isOfSource, withSource } from '../connect/database-config.ts';
import { ConnectError } from '../connect/errors.ts';
import type { Schema } from '../connect/schema.ts';
import type { KeyTexts, VerifiedTable } from '../connect/verify.ts';
import type { Evolve } from './evolve.ts';

/** What both sinks of SQL databases refuse to compare: rows that no key finds. */
export const requireComparable = (
  { topic, key }: Pick<VerifiedTable, 'topic' | 'key'>,
  config: {
    readonly mode?: 'insert' | 'upsert' | undefined;
    readonly keyFields?: readonly string[] | undefined;
  },
): void => {
  const refuse = (why: string): never => {
    throw new ConnectError('CONFIG_INVALID', `the rows of topic ${topic} can't be compared: ${why}`);
  };
  if (key.length === 0) refuse('the source table has no primary key');
  if (config.mode === 'insert') refuse('with mode insert each change is a row of its own');
  if (config.keyFields !== undefined && !sameNames(config.keyFields, key))
    refuse(`keyFields is ${config.keyFields.join(', ')}, and the source's key is ${key.join(', ')}`);
};

/** The template of the destination's name, with the names that the table's changes say of it. */
export const templateOf = (
  { table, topic, source = {} }: Pick<VerifiedTable, 'table' | 'topic' | 'source'>,
  { table: template }: { readonly table: string },
): string => {
  if (!isOfSource(template)) return template;
  const told = withSource(template, source);
  if (told !== undefined) return told;
  throw new ConnectError(
    'CONFIG_INVALID',
    `the rows of topic ${topic} go to ${template}, and the records of ${table} do not say all of it`,
  );
};

/** Whether rows stay that the source has no more. */
export const keepsDeleted = (
  { deletes }: Pick<VerifiedTable, 'deletes'>,
  config: { readonly delete: boolean; readonly visibility: 'record' | 'batch' },
): boolean => deletes === 'never' || (deletes === 'with runs' ? config.visibility === 'record' : !config.delete);

const sameNames = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((name) => b.includes(name));

/** Which of the source's columns a table lacks: they are left out where the sink leaves them out too, and else refused. */
export const ignoredColumns = (
  { columns, key }: VerifiedTable,
  { evolve }: { readonly evolve: Evolve },
  has: (column: string) => boolean,
  table: string,
): readonly string[] => {
  const missing = columns.map(({ name }) => name).filter((name) => !has(name));
  if (missing.length > 0 && (evolve !== 'ignore' || missing.some((name) => key.includes(name))))
    throw new ConnectError('CONFIG_INVALID', `${table} has no column ${missing.join(', ')}, which the source has`);
  return missing;
};

const numbers: ReadonlySet<Schema['type']> = new Set([
  ...(['int8', 'int16', 'int32', 'int64', 'decimal', 'float32', 'float64', 'boolean'] as const),
]);

export type KeyForm = 'number' | 'bytes' | 'text';

/** How a key's text stands in a statement: a number as one, for databases compare it with a text as doubles. Undefined: no row can have it. */
const keyForm = (type: Schema['type'], text: string): KeyForm | undefined => {
  if (type === 'bytes') return 'bytes';
  if (!numbers.has(type)) return 'text';
  return /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text) ? 'number' : undefined;
};

/** The condition that finds the row of a key, of one by `equals` for each column; undefined where no row can have it. */
export const keyCondition = <Column extends { readonly type: { readonly schema: Schema } }>(
  columns: readonly Column[],
  texts: KeyTexts,
  equals: (column: Column, text: string, form: KeyForm) => string,
): string | undefined => {
  const parts: string[] = [];
  for (const [i, column] of columns.entries()) {
    const text = texts[i]!;
    const form = keyForm(column.type.schema.type, text);
    if (form === undefined) return undefined;
    parts.push(equals(column, text, form));
  }
  return `(${parts.join(' AND ')})`;
};

export const requireKey = (table: string, key: readonly unknown[]): void => {
  if (key.length === 0)
    throw new ConnectError('CONFIG_INVALID', `${table} has no primary key, by which its rows could be compared`);
};

/** Rows that are read at once, however small they are. */
const maxPageRows = 20_000;

/** Bytes of them. */
export const maxPageBytes = 8 * 1024 * 1024;

/** Of the first page nothing is known: a row may be large. */
export const firstRowBytes = 16 * 1024;

/** So many rows of a size are asked for at once. */
export const pageRowsOf = (rowBytes: number): number =>
  Math.max(1, Math.min(maxPageRows, Math.floor(maxPageBytes / rowBytes)));

import type { BinlogEvent, ColumnInfo, ColumnSchema } from '@vlasky/zongji';
import type { Catalog } from './catalog.ts';
import { isGeometry } from './column-type.ts';
import { code, type LoggedColumn } from './row-image.ts';
import type { TableEntry } from './value-reader.ts';

/** A table as it was when its rows were written. */
export interface BinlogTable {
  readonly database: string;
  readonly name: string;
  readonly columns: readonly LoggedColumn[];
  /** Of the primary key; [] where there is none. */
  readonly keyColumns: readonly string[];
}

/** A table of a description in the binlog. What that does not tell is in the catalogue. */
export const tableOf = (
  { columnSchemas, columns: infos, parentSchema: database, tableName: name }: TableEntry,
  event: BinlogEvent,
  catalog: Catalog,
): BinlogTable => {
  const known = catalog.get(`${database}.${name}`);
  const typesNow = new Map(known?.columns.map((column) => [column.COLUMN_NAME, column.COLUMN_TYPE]));
  const columns = columnSchemas.map((logged, i): LoggedColumn => {
    const { COLUMN_NAME } = logged;
    const type = refined(logged.COLUMN_TYPE, typesNow.get(COLUMN_NAME));
    const schema = { ...logged, COLUMN_TYPE: type };
    return { name: COLUMN_NAME, type, info: rawGeometry(infos![i]!, schema), schema };
  });
  const { primaryKey, columnNames } = event as unknown as { primaryKey?: number[]; columnNames?: string[] };
  // Described as are its columns, where it has one: not the one that the table has now.
  const described = primaryKey?.map((i) => columns[i]!.name) ?? [];
  return { database, name, columns, keyColumns: columnNames === undefined ? known!.key : described };
};

/** MariaDB's uuid and inet are binary columns to the binlog. */
const refined = (logged: string, now: string | undefined): string =>
  now !== undefined && /^(uuid|inet[46])$/.test(now) && logged.startsWith('binary(') ? now : logged;

/** The library would make objects of them, without the SRID. */
const rawGeometry = (info: ColumnInfo, { COLUMN_TYPE }: ColumnSchema): ColumnInfo =>
  info.type === code.GEOMETRY && isGeometry(COLUMN_TYPE.toLowerCase())
    ? { ...info, type: code.BLOB, charset: null }
    : info;

/** A column of the catalogue as the library reads the labels of one that the log describes; from its type it would not take them right. */
export const withLabels = (column: ColumnSchema): ColumnSchema => {
  const [, kind, list = ''] = /^(enum|set)\((.*)\)$/is.exec(column.COLUMN_TYPE) ?? [];
  if (kind === undefined) return { ...column };
  const labels = Array.from(list.matchAll(/'((?:[^'\\]|''|\\.)*)'/gs), ([, label]) => unescaped(label!));
  return { ...column, ...(kind.toLowerCase() === 'enum' ? { ENUM_VALUES: labels } : { SET_VALUES: labels }) };
};

const characters: Readonly<Record<string, string>> = { n: '\n', r: '\r', 0: '\0' };

const unescaped = (label: string): string =>
  label.replace(/''|\\(.)/gs, (pair, escaped?: string) =>
    escaped === undefined ? pair[0]! : (characters[escaped] ?? escaped),
  );

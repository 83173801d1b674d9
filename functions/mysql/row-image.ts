import type { ColumnInfo, ColumnSchema } from '@vlasky/zongji';
import { ConnectError } from '../../shared/connect/errors.ts';

/** A column as the binlog describes it. */
export interface LoggedColumn {
  readonly name: string;
  /** As information_schema writes it. */
  readonly type: string;
  readonly info: ColumnInfo;
  readonly schema: ColumnSchema;
}

/** Types of columns, as the binlog numbers them. */
export const code = {
  TINY: 1,
  SHORT: 2,
  LONG: 3,
  FLOAT: 4,
  DOUBLE: 5,
  TIMESTAMP: 7,
  LONGLONG: 8,
  INT24: 9,
  DATE: 10,
  TIME: 11,
  DATETIME: 12,
  YEAR: 13,
  VARCHAR: 15,
  BIT: 16,
  TIMESTAMP2: 17,
  DATETIME2: 18,
  TIME2: 19,
  BLOB_COMPRESSED: 140,
  VARCHAR_COMPRESSED: 141,
  JSON: 245,
  NEWDECIMAL: 246,
  ENUM: 247,
  SET: 248,
  BLOB: 252,
  STRING: 254,
  GEOMETRY: 255,
} as const;

/**
 * Places of values in the images: of column i, `slots[2 * i]` is where it starts, behind its length where it has one, and `slots[2 * i + 1]`
 * where it ends. A start below zero is one of the next two.
 */
export type Slots = Int32Array;
export const NULL_VALUE = -1;
/** The image has not the column. */
export const UNTOLD = -2;

/** Bytes of a value; below zero: so many bytes before it hold its length. */
export const widthOf = ({ name, info, schema }: LoggedColumn): number => {
  const metadata = info.metadata as Readonly<Record<string, number>> | undefined;
  switch (info.type) {
    case code.TINY:
    case code.YEAR:
      return 1;
    case code.SHORT:
      return 2;
    case code.INT24:
    case code.DATE:
      return 3;
    case code.LONG:
    case code.FLOAT:
      return 4;
    case code.LONGLONG:
    case code.DOUBLE:
      return 8;
    case code.NEWDECIMAL:
      return digitBytes(metadata!.precision! - metadata!.decimals!) + digitBytes(metadata!.decimals!);
    case code.ENUM:
    case code.SET:
      return metadata!.size!;
    case code.BIT:
      return (metadata!.bits! + 7) >> 3;
    case code.TIMESTAMP2:
      return 4 + fractionBytes(metadata!.decimals!);
    case code.DATETIME2:
      return 5 + fractionBytes(metadata!.decimals!);
    case code.TIME2:
      return 3 + fractionBytes(metadata!.decimals!);
    case code.TIMESTAMP:
      return [4, 5, 5, 6, 6, 7, 7][oldPrecision(schema)]!;
    case code.DATETIME:
      return [8, 6, 6, 7, 7, 7, 8][oldPrecision(schema)]!;
    case code.TIME:
      return [3, 4, 4, 5, 5, 5, 6][oldPrecision(schema)]!;
    case code.VARCHAR:
    case code.VARCHAR_COMPRESSED:
    case code.STRING:
      return metadata!.max_length! > 255 ? -2 : -1;
    case code.BLOB:
    case code.BLOB_COMPRESSED:
    case code.JSON:
    case code.GEOMETRY:
      return -metadata!.length_size!;
    default:
      throw new ConnectError(
        'CONFIG_INVALID',
        `column ${name} is of type ${info.type} in the binlog, which is not known: take its table out of tables`,
      );
  }
};

/** A decimal has its digits in groups of nine, four bytes each; those that are over at its ends take as many as they need. */
const digitBytes = (digits: number): number => 4 * Math.floor(digits / 9) + groupBytes[digits % 9]!;
/** By how many digits a group has. */
export const groupBytes: readonly number[] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

export const fractionBytes = (decimals: number): number => (decimals + 1) >> 1;

/** MariaDB before 10.1 had fractions of its own in the types without metadata: only the table's definition tells. */
const oldPrecision = ({ COLUMN_TYPE }: ColumnSchema): number =>
  Number(/^(?:time|datetime|timestamp)\((\d)\)/.exec(COLUMN_TYPE)?.[1] ?? 0);

/** Of `all` columns those that a bitmap has. */
export const presentColumns = (bitmap: Uint8Array, all: readonly number[]): readonly number[] => {
  const isPresent = (i: number) => ((bitmap[i >> 3]! >> (i & 7)) & 1) === 1;
  return all.every(isPresent) ? all : all.filter(isPresent);
};

/** Finds the values of the image that begins at `start`, and answers where it ends. `slots` has two elements for each of `widths`. */
export const readImage = (
  data: Uint8Array,
  start: number,
  end: number,
  { widths, present }: { readonly widths: Int32Array; readonly present: readonly number[] },
  slots: Slots,
): number => {
  const count = present.length;
  if (count < widths.length) slots.fill(UNTOLD);
  let at = start + ((count + 7) >> 3);
  for (let i = 0; i < count; i++) {
    const column = present[i]!;
    if ((data[start + (i >> 3)]! >> (i & 7)) & 1) {
      slots[2 * column] = NULL_VALUE;
      continue;
    }
    const width = widths[column]!;
    let length = width;
    if (width < 0) {
      length = data[at]!;
      if (width < -1) length |= data[at + 1]! << 8;
      if (width < -2) length |= data[at + 2]! << 16;
      if (width < -3) length += data[at + 3]! * 2 ** 24;
      at -= width;
    }
    slots[2 * column] = at;
    at += length;
    slots[2 * column + 1] = at;
  }
  if (at > end) throw new ConnectError('CORRUPT', `a row of the binlog ends ${at - end} bytes behind its event`);
  return at;
};

import { columnKind } from '../../shared/connect/batch.ts';
import type { Schema } from '../../shared/connect/schema.ts';
import type { ColumnType } from './column-type.ts';
import { code, type LoggedColumn, widthOf } from './row-image.ts';

/** How the bytes of a column's values in the binlog become those of its canonical type. */
export type Reading =
  | { readonly form: 'integer'; readonly bytes: number; readonly isSigned: boolean }
  | { readonly form: 'uint32' | 'int64' | 'uint64' | 'year' | 'float' | 'double' | 'boolean' | 'date' }
  | { readonly form: 'datetime' | 'timestamp' | 'time'; readonly decimals: number }
  | { readonly form: 'decimal'; readonly precision: number; readonly scale: number }
  /** Zero bytes at the end of a `binary` are not in the log. */
  | { readonly form: 'bytes'; readonly width?: number }
  | { readonly form: 'utf8' | 'latin1' }
  /** Another character set, in which bytes below 0x80 are ASCII. Texts that may be other ones to the server are refused. */
  | { readonly form: 'ascii'; readonly doubtful: RegExp }
  /** Another one, of which only texts without these bytes are read; the others are refused. */
  | { readonly form: 'some'; readonly unread: RegExp }
  | { readonly form: 'json' }
  | { readonly form: 'label'; readonly labels: Labels }
  /** What is rare, or not as the log's own metadata say: value by value, by the library. */
  | { readonly form: 'value' };

/** The labels of an enum, by their numbers from 1 on. 0, and what the log has no label of, is the empty one. */
export interface Labels {
  readonly data: Buffer;
  readonly ends: readonly number[];
}

/** A column of a table's row images. */
export interface ImageColumn {
  readonly name: string;
  readonly type: ColumnType;
  readonly logged: LoggedColumn;
  /** As `widthOf` has it. */
  readonly width: number;
  readonly reading: Reading;
}

export const imageColumnOf = (logged: LoggedColumn, type: ColumnType): ImageColumn => ({
  name: logged.name,
  type,
  logged,
  width: widthOf(logged),
  reading: readingOf(logged, type.schema),
});

const byValue: Reading = { form: 'value' };

/**
 * The reading of a column whose canonical type is the one that its bytes are of. Where the log keeps no metadata, the type is that of the
 * table now, and may be another one.
 */
const readingOf = (logged: LoggedColumn, schema: Schema): Reading => {
  const { type: canonical } = schema;
  const { info, schema: declared } = logged;
  const metadata = (info.metadata ?? {}) as Readonly<Record<string, number>>;
  const isSigned = !(declared.UNSIGNED ?? declared.COLUMN_TYPE.includes('unsigned'));
  const only = (type: Schema['type'], reading: Reading): Reading => (canonical === type ? reading : byValue);
  switch (info.type) {
    case code.TINY:
      return only(isSigned ? 'int8' : 'int16', { form: 'integer', bytes: 1, isSigned });
    case code.SHORT:
      return only(isSigned ? 'int16' : 'int32', { form: 'integer', bytes: 2, isSigned });
    case code.INT24:
      return only('int32', { form: 'integer', bytes: 3, isSigned });
    case code.LONG:
      return isSigned ? only('int32', { form: 'integer', bytes: 4, isSigned }) : only('int64', { form: 'uint32' });
    case code.LONGLONG:
      return isSigned ? only('int64', { form: 'int64' }) : only('decimal', { form: 'uint64' });
    case code.YEAR:
      return only('int16', { form: 'year' });
    case code.FLOAT:
      return only('float32', { form: 'float' });
    case code.DOUBLE:
      return only('float64', { form: 'double' });
    case code.NEWDECIMAL: {
      const { precision = 0, decimals: scale = 0 } = metadata;
      const isSame = schema.type === 'decimal' && schema.precision === precision && schema.scale === scale;
      return isSame ? { form: 'decimal', precision, scale } : byValue;
    }
    case code.BIT:
      return metadata.bits === 1 ? only('boolean', { form: 'boolean' }) : only('bytes', { form: 'bytes' });
    case code.DATE:
      return only('date', { form: 'date' });
    case code.DATETIME2:
      return schema.type === 'timestamp' && schema.local ? { form: 'datetime', decimals: metadata.decimals! } : byValue;
    case code.TIMESTAMP2:
      return schema.type === 'timestamp' && !schema.local
        ? { form: 'timestamp', decimals: metadata.decimals! }
        : byValue;
    case code.TIME2:
      return only('time', { form: 'time', decimals: metadata.decimals! });
    case code.ENUM:
      return declared.ENUM_VALUES === undefined
        ? byValue
        : only('string', { form: 'label', labels: labelsOf(declared.ENUM_VALUES) });
    case code.STRING:
    case code.VARCHAR: {
      const binary = /^(?:binary\((\d+)\)|varbinary|vector)/.exec(declared.COLUMN_TYPE);
      if (binary !== null) return only('bytes', { form: 'bytes', ...(binary[1] && { width: Number(binary[1]) }) });
      return /^(uuid|inet[46])$/.test(declared.COLUMN_TYPE) ? byValue : only('string', textReading(info.charset));
    }
    case code.JSON:
      return only('any', { form: 'json' });
    case code.BLOB:
      return info.charset === null ? only('bytes', { form: 'bytes' }) : only('string', textReading(info.charset));
    default:
      return byValue;
  }
};

const textReading = (charset: string | null): Reading => {
  if (charset === null || /^(utf8(mb[34])?|ascii)$/.test(charset)) return { form: 'utf8' };
  if (charset === 'latin1') return { form: 'latin1' };
  // Two or four bytes a character.
  if (/^(ucs2|utf16|utf16le|utf32)$/.test(charset)) return byValue;
  const unread = unreadBytes[charset];
  return unread === undefined ? { form: 'ascii', doubtful: doubtful[charset] ?? /\ufffd/ } : { form: 'some', unread };
};

/** What the library reads otherwise than the server, by character set; of those that are not here it knows every character. */
const doubtful: Readonly<Record<string, RegExp>> = {
  sjis: /[\ufffd＼～∥－￠￡￢]/,
  koi8u: /[\ufffd∙]/,
  hebrew: /[\ufffd¯]/,
  greek: /[\ufffd‘’]/,
  cp866: /[\ufffd№¤]/,
  macroman: /[\ufffd\u2126¤]/,
  armscii8: /[\ufffdև֊՚]/,
  gb2312: /[\ufffd·—]/,
  gb18030: /[\ufffd\u3000]/,
};

const noAscii = /[\x80-\xff]/;
/** Character sets that it does not know, or of which it reads too many characters otherwise. swe7 has national letters in place of ASCII's. */
const unreadBytes: Readonly<Record<string, RegExp>> = {
  ...{
    big5: noAscii,
    ujis: noAscii,
    eucjpms: noAscii,
    dec8: noAscii,
    hp8: noAscii,
    geostd8: noAscii,
    keybcs2: noAscii,
  },
  swe7: /[@[\]\\^`{|}~\x80-\xff]/,
};

const labelsOf = (values: readonly string[]): Labels => {
  const ends = [0];
  const labels = ['', ...values].map((label) => Buffer.from(label));
  for (const [i, label] of labels.entries()) ends[i] = (ends[i - 1] ?? 0) + label.length;
  return { data: Buffer.concat(labels), ends };
};

/** The most bytes that a value has beyond those of its image. */
export const extraBytesOf = ({ type, reading, logged }: ImageColumn): number => {
  switch (reading.form) {
    case 'decimal':
      return reading.precision + 3;
    case 'uint64':
      return 20;
    case 'date':
      return 10;
    case 'datetime':
    case 'timestamp':
    case 'time':
      return 27;
    case 'bytes':
      return reading.width ?? 0;
    case 'utf8':
    case 'latin1':
    case 'ascii':
    case 'some':
      return 0;
    // About: numbers are longer as text than as bytes.
    case 'json':
      return 40;
    case 'label':
      return Math.max(...reading.labels.ends.map((end, i, ends) => end - (ends[i - 1] ?? 0)));
    case 'value':
      return logged.info.type === code.SET ? logged.schema.COLUMN_TYPE.length : 40;
    default:
      // A number takes its place where it is null, too.
      return columnKind(type.schema) === 'int32' ? 4 : 8;
  }
};

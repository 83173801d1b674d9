import type { BinlogTable } from './binlog-table.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import { extraBytesOf, type ImageColumn, imageColumnOf } from './image-type.ts';
import type { Slots } from './row-image.ts';
import { type RowSchema, rowSchemaOf } from './row-schema.ts';

/** How the row images of a table become records. */
export interface TableLayout {
  readonly table: BinlogTable;
  readonly schema: RowSchema;
  readonly columns: readonly ImageColumn[];
  /** The indices of all columns. */
  readonly all: readonly number[];
  /** By column, as `widthOf` has them. */
  readonly widths: Int32Array;
  /** For the images of the change that is looked at. */
  readonly old: Slots;
  readonly now: Slots;
  /** The indices of the key's columns, in its order. */
  readonly key: readonly number[];
  /** The most that a record weighs beside the bytes of its images: numbers of fixed width, longer texts, and what `source` repeats. */
  readonly fixedBytes: number;
}

/** Of the operation and of the numbers in `source` and the envelope. */
const envelopeBytes = 48;

export const layoutOf = (
  table: BinlogTable,
  config: Pick<MysqlCdcConfig, 'topic' | 'topicPrefix' | 'zeroDates'>,
): TableLayout => {
  const schema = rowSchemaOf(table, config);
  const columns = table.columns.map((logged, i) => imageColumnOf(logged, schema.columns[i]!.type));
  const key = schema.keyColumns.map((column) => schema.columns.indexOf(column));
  const extra = columns.map(extraBytesOf);
  const sum = (bytes: readonly number[]) => bytes.reduce((a, b) => a + b, 0);
  return {
    table,
    schema,
    columns,
    all: columns.map((_, i) => i),
    old: new Int32Array(2 * columns.length),
    now: new Int32Array(2 * columns.length),
    widths: Int32Array.from(columns, ({ width }) => width),
    key,
    fixedBytes: 2 * sum(extra) + sum(key.map((i) => extra[i]!)) + schema.topic.length + envelopeBytes,
  };
};

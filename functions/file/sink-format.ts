import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { RecordGroup } from '../../shared/connect/batch.ts';
import { ConnectError, rowError } from '../../shared/connect/errors.ts';
import { describeSchema } from '../../shared/connect/schema.ts';
import { createTextOutput, writeByte, writeBytes, written } from '../../shared/connect/text-output.ts';
import { csvColumnNames, csvHeader, toCsv } from '../../shared/connect/to-csv.ts';
import { toJsonLines } from '../../shared/connect/to-json-lines.ts';
import { allBad, type BadRows, type FileBuilder, recordOf } from './file-builder.ts';
import { newParquetFile } from './parquet.ts';
import type { FileSinkConfig } from './sink-config.ts';

export interface Format {
  readonly extension: string;
  newFile(): FileBuilder;
}

export const formatOf = ({ format, compression }: FileSinkConfig): Format => {
  switch (format) {
    case 'jsonl':
      return { extension: textExtension('jsonl', compression), newFile: () => newJsonLinesFile(packing(compression)) };
    case 'csv':
      return { extension: textExtension('csv', compression), newFile: () => newCsvFile(packing(compression)) };
    case 'text':
      return { extension: textExtension('txt', compression), newFile: () => newTextFile(packing(compression)) };
    case 'parquet':
      return {
        extension: 'parquet',
        newFile: () => newParquetFile(compression === 'none' ? 'UNCOMPRESSED' : 'SNAPPY'),
      };
  }
};

type Compression = FileSinkConfig['compression'];
type Pack = (bytes: Uint8Array) => Promise<Uint8Array>;

const textExtension = (extension: string, compression: Compression) =>
  compression === 'gzip' ? `${extension}.gz` : extension;

const packing = (compression: Compression): Pack => (compression === 'gzip' ? promisify(gzip) : async (bytes) => bytes);

const noneBad: BadRows = new Map();

const newJsonLinesFile = (pack: Pack): FileBuilder => {
  const out = createTextOutput();
  return {
    accepts: () => true,
    add(group) {
      toJsonLines(group, out);
      return noneBad;
    },
    finish: () => pack(written(out)),
  };
};

/** The header has the columns of all groups, so nothing is written before the last one is known. */
const newCsvFile = (pack: Pack): FileBuilder => {
  const names = new Set<string>();
  const groups: RecordGroup[] = [];
  return {
    accepts: () => true,
    add(group) {
      if (group.value.columns.length === 0) return allBad(group, 'has no fields, which makes no line of CSV');
      for (const name of csvColumnNames(group.value)) names.add(name);
      groups.push(group);
      return noneBad;
    },
    finish() {
      const out = createTextOutput();
      csvHeader([...names], out);
      for (const group of groups) toCsv(group, [...names], out);
      return pack(written(out));
    },
  };
};

const NEWLINE = 0x0a;

const newTextFile = (pack: Pack): FileBuilder => {
  const out = createTextOutput();
  return {
    accepts: () => true,
    add(group) {
      const column = group.value.columns[0];
      if (column?.kind !== 'bytes' || !['string', 'bytes'].includes(group.value.schema.type))
        throw new ConnectError(
          'CONFIG_INVALID',
          `format text takes values that are plain strings or bytes; those of topic ${group.topic} are ${describeSchema(group.value.schema)}: choose format jsonl, csv or parquet`,
        );
      const bad = new Map<number, ConnectError>();
      for (let row = 0; row < group.count; row++) {
        const line = column.data.subarray(column.starts[row], column.ends[row]);
        if (line.includes(NEWLINE)) {
          bad.set(row, rowError(`${recordOf(group)} holds a line break, which format text would make two lines of`));
          continue;
        }
        writeBytes(out, line, 0, line.length);
        writeByte(out, NEWLINE);
      }
      return bad;
    },
    finish: () => pack(written(out)),
  };
};

import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { type BytesColumn, type RecordGroup, sideBytes } from '../../shared/connect/batch.ts';
import { bufferOf } from '../../shared/connect/buffers.ts';
import { ConnectError, rowError } from '../../shared/connect/errors.ts';
import { describeSchema } from '../../shared/connect/schema.ts';
import {
  createTextOutput,
  releaseTextOutput,
  reserve,
  type TextOutput,
  writeByte,
  writeBytes,
  written,
} from '../../shared/connect/text-output.ts';
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

/** Makes room for a group at once: growing by doubling would copy it all again. `rowBytes`: of a row, beside its values. */
const makeRoom = (out: TextOutput, { value, count }: RecordGroup, rowBytes: number): void =>
  reserve(out, sideBytes(value, count) + count * rowBytes);

const newJsonLinesFile = (pack: Pack): FileBuilder => {
  const out = createTextOutput();
  return {
    accepts: () => true,
    add(group) {
      makeRoom(
        out,
        group,
        group.value.columns.reduce((sum, { name }) => sum + name.length + 6, 3),
      );
      toJsonLines(group, out);
      return noneBad;
    },
    finish: () => pack(written(out)),
    release: () => releaseTextOutput(out),
  };
};

/** The header has the columns of all groups, so nothing is written before the last one is known. */
const newCsvFile = (pack: Pack): FileBuilder => {
  const names = new Set<string>();
  const groups: RecordGroup[] = [];
  const out = createTextOutput();
  return {
    accepts: () => true,
    add(group) {
      if (group.value.columns.length === 0) return allBad(group, 'has no fields, which makes no line of CSV');
      for (const name of csvColumnNames(group.value)) names.add(name);
      groups.push(group);
      return noneBad;
    },
    finish() {
      csvHeader([...names], out);
      for (const group of groups) {
        makeRoom(out, group, names.size + 1);
        toCsv(group, [...names], out);
      }
      return pack(written(out));
    },
    release: () => releaseTextOutput(out),
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
      const bad = linesOfTwo(column, group);
      makeRoom(out, group, 1);
      const data = bufferOf(column.data);
      for (let row = 0; row < group.count; row++) {
        if (bad.has(row)) continue;
        writeBytes(out, data, column.starts[row]!, column.ends[row]!);
        writeByte(out, NEWLINE);
      }
      return bad;
    },
    finish: () => pack(written(out)),
    release: () => releaseTextOutput(out),
  };
};

/** The rows that hold a line break. Hardly any does, and one native search over all of them costs less than one for each. */
const linesOfTwo = ({ data, starts, ends }: BytesColumn, group: RecordGroup): BadRows => {
  let low = data.length;
  let high = 0;
  for (let row = 0; row < group.count; row++) {
    low = Math.min(low, starts[row]!);
    high = Math.max(high, ends[row]!);
  }
  if (high <= low || !data.subarray(low, high).includes(NEWLINE)) return noneBad;
  const bad = new Map<number, ConnectError>();
  for (let row = 0; row < group.count; row++)
    if (data.subarray(starts[row], ends[row]).includes(NEWLINE))
      bad.set(row, rowError(`${recordOf(group)} holds a line break, which format text would make two lines of`));
  return bad;
};

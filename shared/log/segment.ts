import { promisify } from 'node:util';
import { constants, crc32, zstdCompress, zstdDecompress } from 'node:zlib';
import {
  type BytesColumn,
  batchOfGroups,
  type Column,
  columnKind,
  type RecordBatch,
  type RecordGroup,
  type Side,
} from '../connect/batch.ts';
import { bufferOf, freeBuffer } from '../connect/buffers.ts';
import { gatherBytes, placesOf } from '../connect/contiguous.ts';
import { ConnectError } from '../connect/errors.ts';
import { parseJson, writeJson } from '../connect/json.ts';
import type { Header } from '../connect/record.ts';
import { type Field, isStruct, type Schema, type Value } from '../connect/schema.ts';

/**
 * The body of a segment: columns, compressed. It holds no offsets and no name, so that losing the race for a queue's head re-issues
 * the transaction alone (hazard A8).
 *
 *   uint32 LE: length of the header │ header, JSON │ padding to 8 │ arrays, each padded to 8, little-endian
 *
 * The header names each group's count, schemas and which arrays follow. A bytes column is its lengths (uint32) and its bytes without
 * gaps. The version of the layout is the segment item's `v`.
 */
interface GroupHeader {
  readonly count: number;
  readonly key?: SideHeader;
  readonly value: SideHeader;
  readonly headers?: readonly (readonly StoredHeader[])[];
  readonly timestamps?: true;
}

interface SideHeader {
  readonly schema: Schema;
  readonly nulls?: true;
  readonly columns: readonly ColumnHeader[];
}

interface ColumnHeader {
  /** Whether it has a state array. */
  readonly state?: true;
  /** The length of the bytes of a bytes column. */
  readonly bytes?: number;
  /** The fields of a struct column. */
  readonly columns?: readonly ColumnHeader[];
}

/** JSON has neither bytes nor int64: such a value is text, and its type stands beside it. */
type StoredHeader = readonly [key: string, value: Value, type?: 'bytes' | 'int64'];

/** The compressed body, the length of what it decompresses to, and its checksum: all that a pointer must hold to trust the bytes. */
export interface Body {
  readonly bytes: Uint8Array;
  readonly rawLength: number;
  readonly crc32: number;
}

/** In the thread pool: the queues of a commit are compressed at once, and beside the poll of the next batch. */
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** An array of a body: how long it is, and what writes it. */
interface Part {
  readonly bytes: number;
  write(target: Buffer, at: number): void;
}

export const encodeBody = async (groups: readonly RecordGroup[]): Promise<Body> => {
  const parts: Part[] = [];
  const headers = groups.map((group) => groupHeader(group, parts));
  const header = Buffer.from(writeJson(headers as unknown as Value));
  const start = padded(4 + header.length);
  const rawLength = parts.reduce((sum, part) => sum + padded(part.bytes), start);
  const raw = Buffer.allocUnsafeSlow(rawLength);
  try {
    raw.writeUInt32LE(header.length, 0);
    header.copy(raw, 4);
    raw.fill(0, 4 + header.length, start);
    let at = start;
    for (const part of parts) {
      part.write(raw, at);
      const end = at + part.bytes;
      at += padded(part.bytes);
      raw.fill(0, end, at);
    }
    const bytes = await compress(raw, {
      params: { [constants.ZSTD_c_compressionLevel]: 1 },
      // Each chunk of output is a round through the thread pool; a whole body is seldom more than one.
      chunkSize: Math.max(16 * 1024, rawLength >> 2),
    });
    return { bytes, rawLength, crc32: crc32(bytes) };
  } finally {
    freeBuffer(raw);
  }
};

const padded = (length: number): number => (length + 7) & ~7;

const arrayPart = (array: ArrayBufferView): Part => ({
  bytes: array.byteLength,
  write: (target, at) => target.set(bufferOf(array), at),
});

const lengthsPart = ({ starts, ends }: BytesColumn): Part => ({
  bytes: starts.length * 4,
  write(target, at) {
    const lengths = new Uint32Array(target.buffer, target.byteOffset + at, starts.length);
    for (let row = 0; row < starts.length; row++) lengths[row] = ends[row]! - starts[row]!;
  },
});

const bytesPart = (column: BytesColumn): Part => {
  const { starts, ends } = column;
  let bytes = 0;
  for (let row = 0; row < starts.length; row++) bytes += ends[row]! - starts[row]!;
  return { bytes, write: (target, at) => gatherBytes(column, target, at) };
};

const groupHeader = (group: RecordGroup, parts: Part[]): GroupHeader => {
  const key = group.key && sideHeader(group.key, parts);
  const value = sideHeader(group.value, parts);
  if (group.timestampsMs !== undefined) parts.push(arrayPart(group.timestampsMs));
  return {
    count: group.count,
    ...(key === undefined ? {} : { key }),
    value,
    ...(group.headers === undefined ? {} : { headers: group.headers.map((list) => list.map(storeHeader)) }),
    ...(group.timestampsMs === undefined ? {} : { timestamps: true as const }),
  };
};

const storeHeader = ({ key, value }: Header): StoredHeader => {
  if (value instanceof Uint8Array) return [key, value, 'bytes'];
  return typeof value === 'bigint' ? [key, value.toString(), 'int64'] : [key, value];
};

const readHeader = ([key, value, type]: StoredHeader): Header => {
  if (type === 'bytes') return { key, value: Buffer.from(value as string, 'base64') };
  return { key, value: type === 'int64' ? BigInt(value as string) : value };
};

const sideHeader = (side: Side, parts: Part[]): SideHeader => {
  if (side.nulls !== undefined) parts.push(arrayPart(side.nulls));
  const columns = side.columns.map((column) => columnHeader(column, parts));
  return { schema: side.schema, ...(side.nulls === undefined ? {} : { nulls: true as const }), columns };
};

const columnHeader = (column: Column, parts: Part[]): ColumnHeader => {
  if (column.state !== undefined) parts.push(arrayPart(column.state));
  const state = column.state === undefined ? {} : { state: true as const };
  if (column.kind === 'struct') return { ...state, columns: column.columns.map((field) => columnHeader(field, parts)) };
  if (column.kind === 'bytes') {
    const bytes = bytesPart(column);
    parts.push(lengthsPart(column), bytes);
    return { ...state, bytes: bytes.bytes };
  }
  parts.push(arrayPart(column.values));
  return state;
};

/** The records of a body. The columns point into the decompressed buffer. Throws CORRUPT where the bytes are not those that were written. */
export const decodeBody = async (body: Body, topic: string, where: string): Promise<RecordBatch> => {
  const sum = crc32(body.bytes);
  if (sum !== body.crc32)
    throw new ConnectError(
      'CORRUPT',
      `${where}: checksum ${sum} of ${body.bytes.length} bytes, written with ${body.crc32}`,
    );
  // A chunk of the whole length saves a round through the thread pool per 16 KB.
  const raw = await decompress(body.bytes, { chunkSize: Math.max(64, body.rawLength + 64) });
  if (raw.length !== body.rawLength)
    throw new ConnectError('CORRUPT', `${where}: ${raw.length} bytes decompressed, written as ${body.rawLength}`);
  const headerLength = raw.readUInt32LE(0);
  const headers = parseJson(raw.toString('utf8', 4, 4 + headerLength)) as unknown as readonly GroupHeader[];
  // Typed arrays need an aligned buffer: the decompressed one may not be, where it is small.
  const aligned = raw.byteOffset % 8 === 0 ? raw : new Uint8Array(raw);
  const read = arrayReader(aligned, padded(4 + headerLength));
  return batchOfGroups(headers.map((header) => readGroup(header, topic, read)));
};

type ReadArray = (bytes: number) => Uint8Array;

/** Hands out the arrays in the order in which they were written. */
const arrayReader = (raw: Uint8Array, start: number): ReadArray => {
  let at = start;
  return (bytes) => {
    const array = raw.subarray(at, at + bytes);
    at += padded(bytes);
    return array;
  };
};

const readGroup = (header: GroupHeader, topic: string, read: ReadArray): RecordGroup => {
  const key = header.key && readSide(header.key, header.count, read);
  const value = readSide(header.value, header.count, read);
  return {
    topic,
    count: header.count,
    ...(key === undefined ? {} : { key }),
    value,
    ...(header.headers === undefined ? {} : { headers: header.headers.map((list) => list.map(readHeader)) }),
    ...(header.timestamps ? { timestampsMs: view(Float64Array, read(header.count * 8)) } : {}),
  };
};

const view = <A>(type: new (buffer: ArrayBufferLike, offset: number, length: number) => A, bytes: Uint8Array): A =>
  new type(
    bytes.buffer,
    bytes.byteOffset,
    bytes.byteLength / (type as unknown as { BYTES_PER_ELEMENT: number }).BYTES_PER_ELEMENT,
  );

const readSide = (header: SideHeader, count: number, read: ReadArray): Side => {
  const { schema } = header;
  const nulls = header.nulls ? { nulls: read(count) } : {};
  const fields = isStruct(schema) ? schema.fields : [{ name: '', schema }];
  return { schema, columns: readColumns(fields, header.columns, count, read), ...nulls };
};

const readColumns = (
  fields: readonly Field[],
  headers: readonly ColumnHeader[],
  count: number,
  read: ReadArray,
): readonly Column[] => headers.map((header, index) => readColumn(fields[index]!, header, count, read));

const readColumn = (field: Field, { state, bytes, columns }: ColumnHeader, count: number, read: ReadArray): Column => {
  const { schema } = field;
  const common = { ...field, ...(state ? { state: read(count) } : {}) };
  if (columns !== undefined && isStruct(schema))
    return { ...common, schema, kind: 'struct', columns: readColumns(schema.fields, columns, count, read) };
  switch (columnKind(schema)) {
    case 'int32':
      return { ...common, kind: 'int32', values: view(Int32Array, read(count * 4)) };
    case 'int64':
      return { ...common, kind: 'int64', values: view(BigInt64Array, read(count * 8)) };
    case 'float64':
      return { ...common, kind: 'float64', values: view(Float64Array, read(count * 8)) };
    case 'boolean':
      return { ...common, kind: 'boolean', values: read(count) };
    case 'bytes': {
      const places = placesOf(view(Uint32Array, read(count * 4)));
      return { ...common, kind: 'bytes', data: read(bytes ?? 0), ...places };
    }
  }
};

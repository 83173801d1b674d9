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
 * gaps. What all rows have in common is there once: of an envelope that is most. The version of the layout is the segment item's `v`.
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
  /** Whether it has a state array, or one state for all rows. */
  readonly state?: boolean | 'same';
  /** All rows have the value that follows. */
  readonly same?: boolean;
  /** The length of the bytes of a bytes column. */
  readonly bytes?: number;
  /** All texts of a bytes column are so long: it has no lengths. */
  readonly each?: number;
  /** The fields of a struct column. */
  readonly columns?: readonly ColumnHeader[];
}

/** JSON has neither bytes nor int64: such a value is text, and its type stands beside it. */
type StoredHeader = readonly [key: string, value: Value, type?: 'bytes' | 'int64'];

/** The compressed body, and its checksum: all that a pointer must hold to trust the bytes. */
export interface Body {
  readonly bytes: Uint8Array;
  /** What it would decompress to if nothing were there once: what lag and budgets are counted in, for a reader's columns have it all. */
  readonly rawLength: number;
  readonly crc32: number;
}

/** In the thread pool: the queues of a commit are compressed at once, and beside the poll of the next batch. */
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

type NumberArray = Uint8Array | Int32Array | BigInt64Array | Float64Array;

interface ArrayType<A> {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): A;
  new (buffer: ArrayBufferLike, offset: number, length: number): A;
}

/** An array of a body: how long it is, and what writes it. */
interface Part {
  readonly bytes: number;
  /** Where it is there once: what it stands for. */
  readonly fullBytes?: number;
  write(target: Buffer, at: number): void;
}

export const encodeBody = async (groups: readonly RecordGroup[]): Promise<Body> => {
  const parts: Part[] = [];
  const headers = groups.map((group) => groupHeader(group, parts));
  const header = Buffer.from(writeJson(headers as unknown as Value));
  const start = padded(4 + header.length);
  const rawLength = parts.reduce((sum, { bytes, fullBytes = bytes }) => sum + padded(fullBytes), start);
  const length = parts.reduce((sum, { bytes }) => sum + padded(bytes), start);
  const raw = Buffer.allocUnsafeSlow(length);
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
      chunkSize: Math.max(16 * 1024, length >> 2),
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

const lengthsBytesOf = ({ starts }: BytesColumn): number => padded(starts.length * 4);

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
  const state = column.state === undefined ? {} : { state: pushArray(column.state, parts) ? ('same' as const) : true };
  if (column.kind === 'struct') return { ...state, columns: column.columns.map((field) => columnHeader(field, parts)) };
  if (column.kind === 'bytes') return { ...state, ...pushBytes(column, parts) };
  return { ...state, ...(pushArray(column.values, parts) ? { same: true } : {}) };
};

const isUniform = (array: NumberArray | Uint32Array): boolean => {
  const bytes = bufferOf(array);
  const size = array.BYTES_PER_ELEMENT;
  return array.length > 1 && bytes.subarray(size).equals(bytes.subarray(0, -size));
};

/** Whether all elements are the same, and only one is written. */
const pushArray = (array: NumberArray, parts: Part[]): boolean => {
  const isSame = isUniform(array);
  parts.push(isSame ? { ...arrayPart(array.subarray(0, 1)), fullBytes: array.byteLength } : arrayPart(array));
  return isSame;
};

const pushBytes = (column: BytesColumn, parts: Part[]): Pick<ColumnHeader, 'same' | 'bytes' | 'each'> => {
  const { starts, ends, data } = column;
  if (isUniform(starts) && isUniform(ends)) {
    const text = data.subarray(starts[0], ends[0]);
    parts.push({ ...arrayPart(text), fullBytes: lengthsBytesOf(column) + text.length * starts.length });
    return { same: true, bytes: text.length };
  }
  const part = bytesPart(column);
  const each = lengthOfEach(column);
  if (each === undefined) parts.push(lengthsPart(column), part);
  else parts.push({ ...part, fullBytes: lengthsBytesOf(column) + part.bytes });
  return { bytes: part.bytes, ...(each === undefined ? {} : { each }) };
};

const lengthOfEach = ({ starts, ends }: BytesColumn): number | undefined => {
  if (starts.length === 0) return undefined;
  const first = ends[0]! - starts[0]!;
  for (let row = 1; row < starts.length; row++) if (ends[row]! - starts[row]! !== first) return undefined;
  return first;
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
  const headerLength = raw.readUInt32LE(0);
  const headers = parseJson(raw.toString('utf8', 4, 4 + headerLength)) as unknown as readonly GroupHeader[];
  // Typed arrays need an aligned buffer: the decompressed one may not be, where it is small.
  const aligned = raw.byteOffset % 8 === 0 ? raw : new Uint8Array(raw);
  const { read, taken } = arrayReader(aligned, padded(4 + headerLength));
  const groups = headers.map((header) => readGroup(header, topic, read));
  const { bytes, fullBytes } = taken();
  if (bytes !== raw.length || fullBytes !== body.rawLength)
    throw new ConnectError(
      'CORRUPT',
      `${where}: its columns take ${bytes} of ${raw.length} bytes, and stand for ${fullBytes}, written as ${body.rawLength}`,
    );
  return batchOfGroups(groups);
};

type ReadArray = (bytes: number, fullBytes?: number) => Uint8Array;

/** Hands out the arrays in the order in which they were written, and counts what they take and what they stand for. */
const arrayReader = (raw: Uint8Array, start: number) => {
  let at = start;
  let full = start;
  const read: ReadArray = (bytes, fullBytes = bytes) => {
    const array = raw.subarray(at, at + bytes);
    at += padded(bytes);
    full += padded(fullBytes);
    return array;
  };
  return { read, taken: () => ({ bytes: at, fullBytes: full }) };
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

const view = <A>(type: ArrayType<A>, bytes: Uint8Array): A =>
  new type(bytes.buffer, bytes.byteOffset, bytes.byteLength / type.BYTES_PER_ELEMENT);

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

const readColumn = (field: Field, header: ColumnHeader, count: number, read: ReadArray): Column => {
  const { schema } = field;
  const { state, same = false, columns } = header;
  const common = { ...field, ...(state ? { state: readNumbers(Uint8Array, count, state === 'same', read) } : {}) };
  if (columns !== undefined && isStruct(schema))
    return { ...common, schema, kind: 'struct', columns: readColumns(schema.fields, columns, count, read) };
  const kind = columnKind(schema);
  switch (kind) {
    case 'int32':
      return { ...common, kind, values: readNumbers(Int32Array, count, same, read) };
    case 'int64':
      return { ...common, kind, values: readNumbers(BigInt64Array, count, same, read) };
    case 'float64':
      return { ...common, kind, values: readNumbers(Float64Array, count, same, read) };
    case 'boolean':
      return { ...common, kind, values: readNumbers(Uint8Array, count, same, read) };
    case 'bytes':
      return { ...common, kind, ...readBytes(header, count, read) };
  }
};

const readNumbers = <A extends NumberArray>(type: ArrayType<A>, count: number, isSame: boolean, read: ReadArray): A => {
  const size = type.BYTES_PER_ELEMENT;
  const array = view(type, read((isSame ? 1 : count) * size, count * size));
  return isSame ? ((new type(count) as Uint8Array).fill((array as Uint8Array)[0]!) as A) : array;
};

const readBytes = (
  { same = false, bytes = 0, each }: ColumnHeader,
  count: number,
  read: ReadArray,
): Pick<BytesColumn, 'data' | 'starts' | 'ends'> => {
  const lengthsBytes = padded(count * 4);
  if (same)
    return {
      data: read(bytes, lengthsBytes + bytes * count),
      starts: new Uint32Array(count),
      ends: new Uint32Array(count).fill(bytes),
    };
  if (each !== undefined)
    return { data: read(bytes, lengthsBytes + bytes), ...placesOf(new Uint32Array(count).fill(each)) };
  const lengths = view(Uint32Array, read(count * 4));
  return { data: read(bytes), ...placesOf(lengths) };
};

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
import { ConnectError } from '../connect/errors.ts';
import { parseJson, writeJson } from '../connect/json.ts';
import type { Header } from '../connect/record.ts';
import { isStruct, type Schema, type Value } from '../connect/schema.ts';

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
  /** Per column: whether it has a state array, and for bytes columns the bytes' length. */
  readonly columns: readonly { readonly state?: true; readonly bytes?: number }[];
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

export const encodeBody = async (groups: readonly RecordGroup[]): Promise<Body> => {
  const arrays: (Uint8Array | BytesColumn)[] = [];
  const headers = groups.map((group) => groupHeader(group, arrays));
  const header = Buffer.from(writeJson(headers as unknown as Value));
  const start = padded(4 + header.length);
  const rawLength = arrays.reduce((sum, array) => sum + padded(byteLength(array)), start);
  const raw = Buffer.allocUnsafe(rawLength);
  raw.writeUInt32LE(header.length, 0);
  header.copy(raw, 4);
  raw.fill(0, 4 + header.length, start);
  let at = start;
  for (const array of arrays) {
    if (array instanceof Uint8Array) raw.set(array, at);
    else gatherBytes(array, raw, at);
    const end = at + byteLength(array);
    at += padded(byteLength(array));
    raw.fill(0, end, at);
  }
  const bytes = await compress(raw, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  return { bytes, rawLength, crc32: crc32(bytes) };
};

const padded = (length: number): number => (length + 7) & ~7;

const byteLength = (array: Uint8Array | BytesColumn): number =>
  array instanceof Uint8Array ? array.length : bytesLength(array);

const bytesLength = ({ starts, ends }: BytesColumn): number => {
  let length = 0;
  for (let row = 0; row < starts.length; row++) length += ends[row]! - starts[row]!;
  return length;
};

/** Copies the rows' bytes without gaps. Short rows are copied by hand: a call per row costs more than the bytes. */
const gatherBytes = ({ data, starts, ends }: BytesColumn, target: Uint8Array, offset: number): void => {
  let at = offset;
  for (let row = 0; row < starts.length; row++) {
    const from = starts[row]!;
    const to = ends[row]!;
    if (to - from > 64) {
      target.set(data.subarray(from, to), at);
      at += to - from;
    } else for (let i = from; i < to; i++) target[at++] = data[i]!;
  }
};

const bytesOf = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

const groupHeader = (group: RecordGroup, arrays: (Uint8Array | BytesColumn)[]): GroupHeader => {
  const key = group.key && sideHeader(group.key, arrays);
  const value = sideHeader(group.value, arrays);
  if (group.timestampsMs !== undefined) arrays.push(bytesOf(group.timestampsMs));
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

const sideHeader = (side: Side, arrays: (Uint8Array | BytesColumn)[]): SideHeader => {
  if (side.nulls !== undefined) arrays.push(side.nulls);
  const columns = side.columns.map((column) => {
    if (column.state !== undefined) arrays.push(column.state);
    const state = column.state === undefined ? {} : { state: true as const };
    if (column.kind !== 'bytes') {
      arrays.push(bytesOf(column.values));
      return state;
    }
    arrays.push(bytesOf(Uint32Array.from(column.ends, (end, row) => end - column.starts[row]!)), column);
    return { ...state, bytes: bytesLength(column) };
  });
  return { schema: side.schema, ...(side.nulls === undefined ? {} : { nulls: true as const }), columns };
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
  const read = arrayReader(raw, padded(4 + headerLength));
  return batchOfGroups(headers.map((header) => readGroup(header, topic, read)));
};

type ReadArray = (bytes: number) => Uint8Array;

/** Hands out the arrays in the order in which they were written. Typed arrays need an aligned buffer: the decompressed one may not be. */
const arrayReader = (raw: Buffer, start: number): ReadArray => {
  const aligned = raw.byteOffset % 8 === 0 ? raw : new Uint8Array(raw);
  let at = start;
  return (bytes) => {
    const array = aligned.subarray(at, at + bytes);
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
  const columns = header.columns.map((column, index) => {
    const field = isStruct(schema) ? schema.fields[index]! : { name: '', schema };
    const state = column.state ? { state: read(count) } : {};
    return readColumn({ ...field, ...state }, count, column.bytes, read);
  });
  return { schema, columns, ...nulls };
};

const readColumn = (
  common: Pick<Column, 'name' | 'schema' | 'state'>,
  count: number,
  bytes: number | undefined,
  read: ReadArray,
): Column => {
  switch (columnKind(common.schema)) {
    case 'int32':
      return { ...common, kind: 'int32', values: view(Int32Array, read(count * 4)) };
    case 'int64':
      return { ...common, kind: 'int64', values: view(BigInt64Array, read(count * 8)) };
    case 'float64':
      return { ...common, kind: 'float64', values: view(Float64Array, read(count * 8)) };
    case 'boolean':
      return { ...common, kind: 'boolean', values: read(count) };
    case 'bytes': {
      const lengths = view(Uint32Array, read(count * 4));
      const starts = new Uint32Array(count);
      const ends = new Uint32Array(count);
      for (let row = 0, at = 0; row < count; row++) {
        starts[row] = at;
        at += lengths[row]!;
        ends[row] = at;
      }
      return { ...common, kind: 'bytes', data: read(bytes ?? 0), starts, ends };
    }
  }
};

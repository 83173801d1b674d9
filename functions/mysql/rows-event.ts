import { inflateSync } from 'node:zlib';
import { ConnectError } from '../../shared/connect/errors.ts';

/** What a rows event says happened to all of its rows. */
export type RowsOp = 'c' | 'u' | 'd';

/**
 * A rows event of the binlog as it came: images of rows, undecoded, one behind the other in `data[start … end)`. Of an update each row has
 * two, as it was and as it is.
 */
export interface RowsEvent {
  readonly op: RowsOp;
  readonly timestampMs: number;
  /** A bit for each column that the images have. */
  readonly present: Uint8Array;
  /** The same for the second image of an update. */
  readonly presentAfter: Uint8Array;
  readonly data: Buffer;
  readonly start: number;
  readonly end: number;
}

interface Form {
  readonly op: RowsOp;
  readonly hasExtraData: boolean;
  readonly isCompressed: boolean;
}

/** WRITE_ROWS, UPDATE_ROWS and DELETE_ROWS: version 1, version 2, and MariaDB's compressed ones of both versions. */
const firstCodes: readonly (readonly [code: number, hasExtraData: boolean, isCompressed: boolean])[] = [
  [0x17, false, false],
  [0x1e, true, false],
  [0xa6, false, true],
  [0xa9, true, true],
];
const forms: readonly (Form | undefined)[] = (() => {
  const made: (Form | undefined)[] = new Array(256).fill(undefined);
  for (const [code, hasExtraData, isCompressed] of firstCodes)
    for (const [i, op] of (['c', 'u', 'd'] as const).entries()) made[code + i] = { op, hasExtraData, isCompressed };
  return made;
})();

// Behind a packet's first byte: timestamp (4), type (1), server id (4), length (4), position (4), flags (2).
const TIMESTAMP = 1;
const TYPE = 5;
const BODY = 20;
/** A table's id and flags. */
const postHeaderBytes = 8;

const formOf = (buffer: Buffer, start: number): Form | undefined =>
  buffer[start] === 0 ? forms[buffer[start + TYPE]!] : undefined;

/** The id of the table whose rows a packet of the binlog has; undefined where it is something else. */
export const rowsTableOf = (buffer: Buffer, start: number): number | undefined =>
  formOf(buffer, start) && buffer.readUIntLE(start + BODY, 6);

/** A packet that `rowsTableOf` knows. Its bytes are copied: they may be few in a large buffer that would have to stay for them. */
export const readRowsEvent = (buffer: Buffer, start: number, end: number): RowsEvent => {
  const { op, hasExtraData, isCompressed } = formOf(buffer, start)!;
  const bodyAt = start + BODY + postHeaderBytes;
  const body = Buffer.from(buffer.subarray(hasExtraData ? bodyAt + buffer.readUInt16LE(bodyAt) : bodyAt, end));
  const [columns, bitmapsAt] = readLength(body, 0);
  const bitmap = (columns + 7) >> 3;
  const present = body.subarray(bitmapsAt, bitmapsAt + bitmap);
  const presentAfter = op === 'u' ? body.subarray(bitmapsAt + bitmap, bitmapsAt + 2 * bitmap) : present;
  const imagesAt = bitmapsAt + (op === 'u' ? 2 : 1) * bitmap;
  const data = isCompressed ? inflated(body.subarray(imagesAt)) : body;
  return {
    op,
    timestampMs: buffer.readUInt32LE(start + TIMESTAMP) * 1000,
    present,
    presentAfter,
    data,
    start: isCompressed ? 0 : imagesAt,
    end: data.length,
  };
};

/** A number as the protocol packs it, and the place behind it. */
const readLength = (buffer: Buffer, at: number): readonly [number, number] => {
  const first = buffer[at]!;
  if (first < 0xfb) return [first, at + 1];
  const width = first === 0xfc ? 2 : 3;
  return [buffer.readUIntLE(at + 1, width), at + 1 + width];
};

/** Its first byte: 1, the algorithm (3 bits), and how many bytes the length takes that comes before the deflated rest. */
const inflated = (payload: Buffer): Buffer => {
  const header = payload[0] ?? 0;
  if ((header & 0xf0) !== 0x80)
    throw new ConnectError(
      'CORRUPT',
      `a compressed event of the binlog begins with byte ${header}, which is no known form`,
    );
  return inflateSync(payload.subarray(1 + (header & 0x07)));
};

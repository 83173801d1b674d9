import { type BytesColumn, type Column, columnKind, NULL } from '../../shared/connect/batch.ts';
import { type ConnectError, rowError } from '../../shared/connect/errors.ts';
import type { SourceColumn } from './row-schema.ts';

/**
 * Rows of MySQL's text protocol as columns, without a string or an object per value: a row's bytes are copied once, and most columns
 * are where they are in it, because MySQL's texts are the canonical ones.
 */
export interface PacketRows {
  readonly count: number;
  /** Of the packets so far. */
  readonly bytes: number;
  add(buffer: Buffer, start: number, end: number): void;
  columns(): readonly Column[];
  /** By row: why it can be no record. */
  readonly refused: ReadonlyMap<number, ConnectError>;
  /** The text of a row's column; null where it is null. For bytes, one character each. */
  text(row: number, column: number): string | null;
}

const NULL_VALUE = 0xfb;
const TWO_BYTES = 0xfc;
const THREE_BYTES = 0xfd;
const SPACE = 0x20;
const LETTER_T = 0x54;
const LETTER_Z = 0x5a;
const MINUS = 0x2d;
const ZERO = 0x30;
const TWO = 0x32;
const COLON = 0x3a;

/** For at most so many rows. */
export const createPacketRows = (columns: readonly SourceColumn[], capacity: number): PacketRows => {
  // A byte behind each row, for the Z of a timestamp that comes last.
  let data = Buffer.allocUnsafe(64 * 1024);
  let length = 0;
  let count = 0;
  const fields = columns.map(({ name, type }) => ({
    name,
    type,
    starts: new Uint32Array(capacity),
    ends: new Uint32Array(capacity),
    state: new Uint8Array(capacity),
    hasNulls: false,
    isOdd: oddOf(type.schema.type),
  }));
  const refused = new Map<number, ConnectError>();

  const makeRoom = (bytes: number) => {
    if (length + bytes <= data.length) return;
    const larger = Buffer.allocUnsafe(Math.max(data.length * 2, length + bytes));
    data.copy(larger, 0, 0, length);
    data = larger;
  };

  /** Of the row that was added last. */
  const canonize = (field: (typeof fields)[number]) => {
    const start = field.starts[count]!;
    const end = field.ends[count]!;
    if (field.isOdd!(data, start)) {
      try {
        if (field.type.read(data.toString('latin1', start, end)) === null) {
          field.state[count] = NULL;
          field.hasNulls = true;
          return;
        }
      } catch (error) {
        refused.set(count, rowError(`column ${field.name}: ${(error as Error).message}`, error));
      }
    }
    if (field.type.schema.type !== 'timestamp') return;
    if (data[start + 10] === SPACE) data[start + 10] = LETTER_T;
    if (field.type.schema.local) return;
    data[end] = LETTER_Z;
    field.ends[count] = end + 1;
  };

  return {
    get count() {
      return count;
    },
    get bytes() {
      return length;
    },
    refused,
    add(buffer, start, end) {
      makeRoom(end - start + 1);
      buffer.copy(data, length, start, end);
      let at = length;
      for (const field of fields) {
        let bytes = data[at++]!;
        if (bytes === NULL_VALUE) {
          field.state[count] = NULL;
          field.hasNulls = true;
          continue;
        }
        if (bytes >= TWO_BYTES) {
          const width = bytes === TWO_BYTES ? 2 : bytes === THREE_BYTES ? 3 : 8;
          bytes = width === 8 ? Number(data.readBigUInt64LE(at)) : data.readUIntLE(at, width);
          at += width;
        }
        field.starts[count] = at;
        at += bytes;
        field.ends[count] = at;
      }
      length += end - start + 1;
      // Behind the whole row, whose lengths are read: a Z takes the place of the next one's.
      for (const field of fields) if (field.isOdd !== undefined && field.state[count] !== NULL) canonize(field);
      count++;
    },
    columns: () =>
      fields.map(({ name, type, starts, ends, state, hasNulls }) => {
        const places = { starts: starts.subarray(0, count), ends: ends.subarray(0, count) };
        const common = { name, schema: type.schema, ...(hasNulls ? { state: state.subarray(0, count) } : {}) };
        return columnFrom({ ...common, kind: 'bytes', data, ...places }, type.read);
      }),
    text(row, column) {
      const { starts, ends, state, type } = fields[column]!;
      if (state[row] === NULL) return null;
      return data.toString(type.schema.type === 'bytes' ? 'latin1' : 'utf8', starts[row], ends[row]);
    },
  };
};

/** Whether a text, which most are not, may be no date or time elsewhere; only types that have such texts have it. */
const oddOf = (type: string): ((data: Buffer, start: number) => boolean) | undefined => {
  if (type === 'time')
    return (data, start) => data[start + 2] !== COLON || data[start]! >= TWO || data[start] === MINUS;
  if (type !== 'date' && type !== 'timestamp') return undefined;
  const isZero = (data: Buffer, at: number) => data[at] === ZERO && data[at + 1] === ZERO;
  return (data, start) => isZero(data, start) || isZero(data, start + 5) || isZero(data, start + 8);
};

/** The column of texts as one of values. */
const columnFrom = (text: BytesColumn, read: (value: unknown) => unknown): Column => {
  const { name, schema, starts, ends, state } = text;
  const data = text.data as Buffer;
  const common = { name, schema, ...(state === undefined ? {} : { state }) };
  const kind = columnKind(schema);
  if (kind === 'bytes') return text;
  const count = starts.length;
  const isThere = (row: number) => state === undefined || state[row] !== NULL;
  switch (kind) {
    case 'int32': {
      const values = new Int32Array(count);
      for (let row = 0; row < count; row++) if (isThere(row)) values[row] = integerAt(data, starts[row]!, ends[row]!);
      return { ...common, kind, values };
    }
    case 'int64': {
      const values = new BigInt64Array(count);
      for (let row = 0; row < count; row++) {
        if (!isThere(row)) continue;
        const from = starts[row]!;
        const to = ends[row]!;
        values[row] = to - from < 16 ? BigInt(integerAt(data, from, to)) : BigInt(data.toString('latin1', from, to));
      }
      return { ...common, kind, values };
    }
    case 'float64': {
      const values = new Float64Array(count);
      for (let row = 0; row < count; row++)
        if (isThere(row)) values[row] = read(data.toString('latin1', starts[row], ends[row])) as number;
      return { ...common, kind, values };
    }
    case 'boolean': {
      const values = new Uint8Array(count);
      for (let row = 0; row < count; row++) if (isThere(row)) values[row] = data[ends[row]! - 1]! & 1;
      return { ...common, kind, values };
    }
  }
};

const integerAt = (data: Buffer, start: number, end: number): number => {
  const negative = data[start] === MINUS;
  let value = 0;
  for (let i = negative ? start + 1 : start; i < end; i++) value = value * 10 + data[i]! - ZERO;
  return negative ? -value : value;
};

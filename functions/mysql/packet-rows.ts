import { type Column, type ColumnKind, columnKind, NULL } from '../../shared/connect/batch.ts';
import { freeBuffer, shortCopy } from '../../shared/connect/buffers.ts';
import { contiguous } from '../../shared/connect/contiguous.ts';
import { type ConnectError, rowError } from '../../shared/connect/errors.ts';
import type { SourceColumn } from './row-schema.ts';

/**
 * Rows of MySQL's text protocol as columns, without a string or an object per value: a packet's numbers are read where they are, and
 * texts are copied once, to those of their column, because MySQL's texts are the canonical ones.
 */
export interface PacketRows {
  readonly count: number;
  /** Of the packets so far. */
  readonly bytes: number;
  add(packet: Buffer, start: number, end: number): void;
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

/** What a column has so far: only the array of its kind has room. */
interface Field extends SourceColumn {
  readonly kind: ColumnKind;
  readonly ints: Int32Array;
  readonly longs: BigInt64Array;
  /** The same memory as `longs`: the lower half of each, and the upper one. */
  readonly halves: Int32Array;
  readonly doubles: Float64Array;
  readonly flags: Uint8Array;
  /** Where each text ends in `data`, from the second element on. */
  readonly places: Uint32Array;
  data: Buffer;
  readonly state: Uint8Array;
  hasNulls: boolean;
  readonly isOdd: IsOdd | undefined;
}

const fieldOf = ({ name, type }: SourceColumn, capacity: number): Field => {
  const kind = columnKind(type.schema);
  const room = (wanted: ColumnKind, elements = capacity) => (kind === wanted ? elements : 0);
  const longs = new BigInt64Array(room('int64'));
  return {
    name,
    type,
    kind,
    ints: new Int32Array(room('int32')),
    longs,
    halves: new Int32Array(longs.buffer),
    doubles: new Float64Array(room('float64')),
    flags: new Uint8Array(room('boolean')),
    places: new Uint32Array(room('bytes', capacity + 1)),
    data: Buffer.allocUnsafeSlow(room('bytes', Math.max(64, 8 * capacity))),
    state: new Uint8Array(capacity),
    hasNulls: false,
    isOdd: oddOf(type.schema.type),
  };
};

/** For at most so many rows. */
export const createPacketRows = (columns: readonly SourceColumn[], capacity: number): PacketRows => {
  const fields = columns.map((column) => fieldOf(column, capacity));
  const refused = new Map<number, ConnectError>();
  let count = 0;
  let length = 0;

  const setNull = (field: Field) => {
    field.state[count] = NULL;
    field.hasNulls = true;
    if (field.kind === 'bytes') field.places[count + 1] = field.places[count]!;
  };

  /** A value, null where its type takes it for that; where it refuses it, the row is refused. */
  const read = (field: Field, text: string): unknown => {
    try {
      return field.type.read(text);
    } catch (error) {
      refused.set(count, rowError(`column ${field.name}: ${(error as Error).message}`, error));
      return undefined;
    }
  };

  /** With room for a byte behind it. */
  const addText = (field: Field, packet: Buffer, start: number, end: number) => {
    let at = field.places[count]!;
    makeRoom(field, at + end - start + 1);
    const { data } = field;
    if (end - start > shortCopy) at += packet.copy(data, at, start, end);
    else for (let i = start; i < end; i++) data[at++] = packet[i]!;
    field.places[count + 1] = at;
    if (field.isOdd !== undefined) canonize(field, field.isOdd);
  };

  /** A date or time that was added last. */
  const canonize = (field: Field, isOdd: IsOdd) => {
    const { data, places, type } = field;
    const start = places[count]!;
    const end = places[count + 1]!;
    if (isOdd(data, start) && read(field, data.toString('latin1', start, end)) === null) {
      setNull(field);
      return;
    }
    if (type.schema.type !== 'timestamp') return;
    if (data[start + 10] === SPACE) data[start + 10] = LETTER_T;
    if (type.schema.local) return;
    data[end] = LETTER_Z;
    places[count + 1] = end + 1;
  };

  const addValue = (field: Field, packet: Buffer, start: number, end: number) => {
    switch (field.kind) {
      case 'int32':
        field.ints[count] = integerAt(packet, start, end);
        return;
      case 'int64':
        if (end - start >= 16) field.longs[count] = BigInt(packet.toString('latin1', start, end));
        else setHalves(field.halves, 2 * count, integerAt(packet, start, end));
        return;
      case 'float64':
        field.doubles[count] = field.type.read(packet.toString('latin1', start, end)) as number;
        return;
      case 'boolean':
        field.flags[count] = packet[end - 1]! & 1;
        return;
      case 'bytes':
        addText(field, packet, start, end);
    }
  };

  return {
    get count() {
      return count;
    },
    get bytes() {
      return length;
    },
    refused,
    add(packet, start, end) {
      let at = start;
      for (const field of fields) {
        let bytes = packet[at++]!;
        if (bytes === NULL_VALUE) {
          setNull(field);
          continue;
        }
        if (bytes >= TWO_BYTES) {
          const width = bytes === TWO_BYTES ? 2 : bytes === THREE_BYTES ? 3 : 8;
          bytes = width === 8 ? Number(packet.readBigUInt64LE(at)) : packet.readUIntLE(at, width);
          at += width;
        }
        addValue(field, packet, at, at + bytes);
        at += bytes;
      }
      length += end - start;
      count++;
    },
    columns: () => fields.map((field) => columnFrom(field, count)),
    text(row, column) {
      const { kind, state, ints, longs, doubles, flags, places, data, type } = fields[column]!;
      if (state[row] === NULL) return null;
      if (kind === 'int32') return String(ints[row]);
      if (kind === 'int64') return String(longs[row]);
      if (kind === 'float64') return String(doubles[row]);
      if (kind === 'boolean') return String.fromCharCode(flags[row]!);
      return data.toString(type.schema.type === 'bytes' ? 'latin1' : 'utf8', places[row], places[row + 1]);
    },
  };
};

const makeRoom = (field: Field, bytes: number) => {
  const { data } = field;
  if (bytes <= data.length) return;
  const larger = Buffer.allocUnsafeSlow(Math.max(data.length * 2, bytes));
  data.copy(larger);
  freeBuffer(data);
  field.data = larger;
};

const columnFrom = ({ name, type, kind, hasNulls, ...field }: Field, count: number): Column => {
  const { schema } = type;
  const common = { name, schema, ...(hasNulls ? { state: field.state.subarray(0, count) } : {}) };
  switch (kind) {
    case 'int32':
      return { ...common, kind, values: field.ints.subarray(0, count) };
    case 'int64':
      return { ...common, kind, values: field.longs.subarray(0, count) };
    case 'float64':
      return { ...common, kind, values: field.doubles.subarray(0, count) };
    case 'boolean':
      return { ...common, kind, values: field.flags.subarray(0, count) };
    case 'bytes':
      return { ...common, kind, data: field.data, ...contiguous(field.places.subarray(0, count + 1)) };
  }
};

type IsOdd = (data: Buffer, start: number) => boolean;

/** Whether a text, which most are not, may be no date or time elsewhere; only types that have such texts have it. */
const oddOf = (type: string): IsOdd | undefined => {
  if (type === 'time')
    return (data, start) => data[start + 2] !== COLON || data[start]! >= TWO || data[start] === MINUS;
  if (type !== 'date' && type !== 'timestamp') return undefined;
  const isZero = (data: Buffer, at: number) => data[at] === ZERO && data[at + 1] === ZERO;
  return (data, start) => isZero(data, start) || isZero(data, start + 5) || isZero(data, start + 8);
};

const integerAt = (data: Buffer, start: number, end: number): number => {
  const negative = data[start] === MINUS;
  let value = 0;
  for (let i = negative ? start + 1 : start; i < end; i++) value = value * 10 + data[i]! - ZERO;
  return negative ? -value : value;
};

/** An integer that a double holds, as the halves of an int64 in memory: little-endian, as every processor is that Node runs on. */
const setHalves = (halves: Int32Array, at: number, value: number): void => {
  halves[at] = value;
  halves[at + 1] = Math.floor(value / 2 ** 32);
};

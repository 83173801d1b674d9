import { writeJson } from '../../shared/connect/json.ts';
import { decimalWriter } from './image-text.ts';
import { code } from './row-image.ts';

/*
 * MySQL's binary form of JSON. An object or array says how many elements it has and how long it is, and then where each is, counted from its
 * own start; small ones in two bytes a number, large ones in four.
 * https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html
 */
const SMALL_OBJECT = 0;
const LARGE_OBJECT = 1;
const SMALL_ARRAY = 2;
const LARGE_ARRAY = 3;
const LITERAL = 4;
const INT16 = 5;
const UINT16 = 6;
const INT32 = 7;
const UINT32 = 8;
const INT64 = 9;
const UINT64 = 10;
const DOUBLE = 11;
const STRING = 12;
const OPAQUE = 15;

const literals = ['null', 'true', 'false'];

/** The value as text, every number as the server has it. Without a byte it is null, as the server reads it. */
export const jsonText = (data: Buffer, start: number, end: number): string =>
  start === end ? 'null' : valueText(data, data[start]!, start + 1);

const valueText = (data: Buffer, type: number, at: number): string => {
  switch (type) {
    case SMALL_OBJECT:
    case LARGE_OBJECT:
    case SMALL_ARRAY:
    case LARGE_ARRAY:
      return listText(data, at, type);
    case LITERAL:
      return literals[data[at]!]!;
    case INT16:
      return String(data.readInt16LE(at));
    case UINT16:
      return String(data.readUInt16LE(at));
    case INT32:
      return String(data.readInt32LE(at));
    case UINT32:
      return String(data.readUInt32LE(at));
    case INT64:
      return String(data.readBigInt64LE(at));
    case UINT64:
      return String(data.readBigUInt64LE(at));
    case DOUBLE:
      return doubleText(data.readDoubleLE(at));
    case STRING: {
      const [length, from] = readLength(data, at);
      return JSON.stringify(data.toString('utf8', from, from + length));
    }
    case OPAQUE: {
      const [length, from] = readLength(data, at + 1);
      return opaqueText(data, data[at]!, from, from + length);
    }
    default:
      throw new RangeError(`a JSON value of type ${type}, which is not known`);
  }
};

const listText = (data: Buffer, start: number, type: number): string => {
  const isObject = type === SMALL_OBJECT || type === LARGE_OBJECT;
  const isLarge = type === LARGE_OBJECT || type === LARGE_ARRAY;
  const bytes = isLarge ? 4 : 2;
  const count = data.readUIntLE(start, bytes);
  const keysAt = start + 2 * bytes;
  const valuesAt = keysAt + (isObject ? count * (bytes + 2) : 0);
  const items = Array.from({ length: count }, (_, i) => {
    const entry = valuesAt + i * (1 + bytes);
    const item = data[entry]!;
    const isHere =
      item === LITERAL || item === INT16 || item === UINT16 || (isLarge && (item === INT32 || item === UINT32));
    const text = valueText(data, item, isHere ? entry + 1 : start + data.readUIntLE(entry + 1, bytes));
    if (!isObject) return text;
    const key = keysAt + i * (bytes + 2);
    const keyAt = start + data.readUIntLE(key, bytes);
    return `${JSON.stringify(data.toString('utf8', keyAt, keyAt + data.readUInt16LE(key + bytes)))}:${text}`;
  });
  return isObject ? `{${items.join()}}` : `[${items.join()}]`;
};

/** Seven bits a byte, the lowest first; the eighth says that more follow. */
const readLength = (data: Buffer, start: number): readonly [number, number] => {
  let length = 0;
  let at = start;
  for (let factor = 1; ; factor *= 128) {
    const byte = data[at++]!;
    length += (byte & 0x7f) * factor;
    if (byte < 0x80) return [length, at];
  }
};

/** The server tells a double from an integer, and so does this text. */
const doubleText = (value: number): string => {
  if (Object.is(value, -0)) return '-0.0';
  return Number.isInteger(value) && Math.abs(value) < 1e21 ? `${value}.0` : String(value);
};

/** A value of a type that JSON has not. */
const opaqueText = (data: Buffer, type: number, start: number, end: number): string => {
  switch (type) {
    case code.NEWDECIMAL: {
      const out = Buffer.allocUnsafe(data[start]! + 4);
      return out.toString('latin1', 0, decimalWriter(data[start]!, data[start + 1]!)(data, start + 2, out, 0));
    }
    case code.DATE:
      return `"${dayText(data.readBigInt64LE(start))}"`;
    case code.DATETIME:
    case code.TIMESTAMP: {
      const packed = data.readBigInt64LE(start);
      return `"${dayText(packed)} ${clockText(packed & 0x1ffffffffffn)}"`;
    }
    case code.TIME: {
      const packed = data.readBigInt64LE(start);
      return `"${packed < 0n ? `-${clockText(-packed)}` : clockText(packed)}"`;
    }
    default:
      return writeJson(`base64:type${type}:${data.toString('base64', start, end)}`);
  }
};

const two = (value: bigint | number): string => String(value).padStart(2, '0');

/** Behind 24 bits of microseconds: second, minute (6 each), hour. */
const clockText = (packed: bigint): string => {
  const clock = Number(packed >> 24n);
  const micros = String(packed & 0xffffffn).padStart(6, '0');
  return `${two(clock >> 12)}:${two((clock >> 6) & 0x3f)}:${two(clock & 0x3f)}.${micros}`;
};

/** Behind those and 17 bits of the time of day: day (5 bits), year and month together. */
const dayText = (packed: bigint): string => {
  const day = Number(packed >> 41n);
  const yearMonth = day >> 5;
  return `${String(Math.floor(yearMonth / 13)).padStart(4, '0')}-${two(yearMonth % 13)}-${two(day & 0x1f)}`;
};

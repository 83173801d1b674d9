import { freeBuffer, shortCopy } from './buffers.ts';

/** A growing buffer that the text kernels append to. `data` moves when it grows: read it after the last append. */
export interface TextOutput {
  data: Buffer;
  /** The same memory, to write several bytes at once. */
  words: DataView;
  length: number;
}

export const createTextOutput = (capacity = 64 * 1024): TextOutput => {
  const data = Buffer.allocUnsafeSlow(capacity);
  return { data, words: wordsOf(data), length: 0 };
};

const wordsOf = ({ buffer, byteOffset, byteLength }: Buffer): DataView => new DataView(buffer, byteOffset, byteLength);

const moveTo = (out: TextOutput, data: Buffer): void => {
  out.data = data;
  out.words = wordsOf(data);
};

/** Gives the memory back: what was written is gone. */
export const releaseTextOutput = (out: TextOutput): void => {
  freeBuffer(out.data);
  moveTo(out, Buffer.alloc(0));
  out.length = 0;
};

/** Makes room for `more` bytes after `length`. Every writer calls it before it writes. */
export const reserve = (out: TextOutput, more: number): void => {
  const needed = out.length + more;
  if (needed <= out.data.length) return;
  const grown = Buffer.allocUnsafeSlow(Math.max(out.data.length * 2, needed));
  out.data.copy(grown, 0, 0, out.length);
  freeBuffer(out.data);
  moveTo(out, grown);
};

/** What was written, over the same memory. */
export const written = (out: TextOutput): Uint8Array => out.data.subarray(0, out.length);

export const writeByte = (out: TextOutput, byte: number): void => {
  reserve(out, 1);
  out.data[out.length++] = byte;
};

export const writeBytes = (out: TextOutput, data: Buffer, start: number, end: number): void => {
  reserve(out, end - start);
  out.length = putBytes(out.data, out.length, data, start, end);
};

/** Puts bytes where there is room for them, and returns the index behind them; so do its sisters. */
export const putBytes = (target: Buffer, at: number, data: Buffer, start: number, end: number): number => {
  if (end - start > shortCopy) return at + data.copy(target, at, start, end);
  for (let i = start; i < end; i++) target[at++] = data[i]!;
  return at;
};

export const writeAscii = (out: TextOutput, text: string): void => {
  reserve(out, text.length);
  out.length = putAscii(out.data, out.length, text);
};

export const putAscii = (target: Buffer, at: number, text: string): number => {
  for (let i = 0; i < text.length; i++) target[at++] = text.charCodeAt(i);
  return at;
};

const ZERO = 0x30;
const MINUS = 0x2d;

/** Puts the digits of an integer, |value| at most 2^31, where there is room for 11 bytes, and returns the index behind them. */
export const putInt32 = (target: Uint8Array, at: number, value: number): number => {
  if (value < 0) target[at++] = MINUS;
  let rest = Math.abs(value);
  let digits = 1;
  for (let power = 10; rest >= power; power *= 10) digits++;
  for (let i = at + digits - 1; i >= at; i--) {
    const tens = (rest / 10) >>> 0;
    target[i] = ZERO + rest - tens * 10;
    rest = tens;
  }
  return at + digits;
};

export const writeInt32 = (out: TextOutput, value: number): void => {
  reserve(out, 11);
  out.length = putInt32(out.data, out.length, value);
};

const int32Max = 2 ** 31 - 1;

export const writeInt64 = (out: TextOutput, value: bigint): void => {
  const number = Number(value);
  if (number >= -int32Max && number <= int32Max) writeInt32(out, number);
  else writeAscii(out, value.toString());
};

/** Where there is room for 20 bytes. */
export const putInt64 = (target: Buffer, at: number, values: BigInt64Array, row: number): number => {
  const number = Number(values[row]);
  if (number >= -int32Max && number <= int32Max) return putInt32(target, at, number);
  return putAscii(target, at, String(values[row]));
};

/** The shortest decimal text of a double. `String` drops the sign of -0. */
export const floatText = (value: number): string => (Object.is(value, -0) ? '-0' : String(value));

import { fractionBytes, groupBytes } from './row-image.ts';

/*
 * The canonical texts of values of fixed width. Each writes the value that begins at `from` of `data` to `to` of `out`, and answers the place
 * behind it, or -1 where it is none of the canonical type: a zero date, a duration.
 */
export type WriteText = (data: Uint8Array, from: number, out: Uint8Array, to: number) => number;

const ZERO = 0x30;
const MINUS = 0x2d;
const POINT = 0x2e;
const COLON = 0x3a;
const LETTER_T = 0x54;
const LETTER_Z = 0x5a;

/** So many digits of a number, and zeros before it. */
const writeDigits = (value: number, digits: number, out: Uint8Array, to: number): number => {
  let rest = value;
  for (let at = to + digits - 1; at >= to; at--) {
    const next = (rest / 10) | 0;
    out[at] = ZERO + rest - next * 10;
    rest = next;
  }
  return to + digits;
};

const digitsOf = (value: number): number => {
  let digits = 1;
  for (let power = 10; power <= value; power *= 10) digits++;
  return digits;
};

/** Big-endian, of up to four bytes, all bits flipped by `mask`. */
const readBytes = (data: Uint8Array, from: number, bytes: number, mask = 0): number => {
  let value = 0;
  for (let i = from; i < from + bytes; i++) value = value * 256 + (data[i]! ^ mask);
  return value;
};

/**
 * A decimal has its digits in groups of nine, each a number of its own, with what is over at both ends. Its first bit is 1, and below zero
 * all bits are flipped.
 */
export const decimalWriter = (precision: number, scale: number): WriteText => {
  const whole = precision - scale;
  const wholeFirst = whole % 9;
  const wholeGroups = Math.floor(whole / 9);
  const fractionGroups = Math.floor(scale / 9);
  const fractionLast = scale % 9;
  const firstBytes = groupBytes[wholeFirst]!;
  const lastBytes = groupBytes[fractionLast]!;
  // The bit of the sign is in whichever group comes first.
  const sign = 2 ** (8 * (firstBytes || (wholeGroups + fractionGroups > 0 ? 4 : lastBytes)) - 1);
  return (data, from, out, to) => {
    const mask = (data[from]! & 0x80) === 0 ? 0xff : 0;
    let at = to;
    let place = from;
    let bias = sign;
    if (mask !== 0) out[at++] = MINUS;
    const start = at;
    for (let i = firstBytes > 0 ? -1 : 0; i < wholeGroups; i++) {
      const bytes = i < 0 ? firstBytes : 4;
      const value = readBytes(data, place, bytes, mask) - bias;
      bias = 0;
      place += bytes;
      if (at > start) at = writeDigits(value, 9, out, at);
      else if (value > 0) at = writeDigits(value, digitsOf(value), out, at);
    }
    if (at === start) out[at++] = ZERO;
    if (scale === 0) return at;
    out[at++] = POINT;
    for (let i = fractionGroups; i >= 0; i--) {
      const digits = i > 0 ? 9 : fractionLast;
      const bytes = groupBytes[digits]!;
      if (bytes === 0) break;
      at = writeDigits(readBytes(data, place, bytes, mask) - bias, digits, out, at);
      bias = 0;
      place += bytes;
    }
    return at;
  };
};

const writeDay = (year: number, month: number, day: number, out: Uint8Array, to: number): number => {
  writeDigits(year, 4, out, to);
  out[to + 4] = MINUS;
  writeDigits(month, 2, out, to + 5);
  out[to + 7] = MINUS;
  return writeDigits(day, 2, out, to + 8);
};

const writeClock = (hour: number, minute: number, second: number, out: Uint8Array, to: number): number => {
  writeDigits(hour, 2, out, to);
  out[to + 2] = COLON;
  writeDigits(minute, 2, out, to + 3);
  out[to + 5] = COLON;
  return writeDigits(second, 2, out, to + 6);
};

/** Two digits a byte: of an odd number of digits the last one is a zero that is not told. */
const writeFraction = (data: Uint8Array, from: number, decimals: number, out: Uint8Array, to: number): number => {
  if (decimals === 0) return to;
  const stored = readBytes(data, from, fractionBytes(decimals));
  out[to] = POINT;
  return writeDigits(decimals % 2 === 0 ? stored : stored / 10, decimals, out, to + 1);
};

export const writeDate: WriteText = (data, from, out, to) => {
  const packed = data[from]! | (data[from + 1]! << 8) | (data[from + 2]! << 16);
  const year = packed >> 9;
  const month = (packed >> 5) & 0x0f;
  const day = packed & 0x1f;
  return year === 0 || month === 0 || day === 0 ? -1 : writeDay(year, month, day, out, to);
};

/** Year and month together (17 bits), day, hour (5 each), minute, second (6 each). */
export const dateTimeWriter =
  (decimals: number): WriteText =>
  (data, from, out, to) => {
    const yearMonth = (readBytes(data, from, 3) & 0x7fffff) >> 6;
    const rest = readBytes(data, from + 1, 4);
    const year = (yearMonth / 13) | 0;
    const month = yearMonth % 13;
    const day = (rest >>> 17) & 0x1f;
    if (year === 0 || month === 0 || day === 0) return -1;
    writeDay(year, month, day, out, to);
    out[to + 10] = LETTER_T;
    const at = writeClock((rest >>> 12) & 0x1f, (rest >>> 6) & 0x3f, rest & 0x3f, out, to + 11);
    return writeFraction(data, from + 5, decimals, out, at);
  };

const secondsPerDay = 86_400;

/** Seconds since 1970. */
export const timestampWriter =
  (decimals: number): WriteText =>
  (data, from, out, to) => {
    const seconds = readBytes(data, from, 4);
    if (seconds === 0) return -1;
    const days = Math.floor(seconds / secondsPerDay);
    const second = seconds - days * secondsPerDay;
    // The calendar from 0000-03-01 on, in which a leap day is the last of its year: of 400 years, then of one, then of a month.
    const shifted = days + 719_468;
    const era = Math.floor(shifted / 146_097);
    const dayOfEra = shifted - era * 146_097;
    const yearOfEra = Math.floor(
      (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
    );
    const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
    const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153);
    const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
    const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
    writeDay(year, month, dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1, out, to);
    out[to + 10] = LETTER_T;
    const minutes = Math.floor(second / 60);
    const at = writeFraction(
      data,
      from + 4,
      decimals,
      out,
      writeClock(Math.floor(minutes / 60), minutes % 60, second % 60, out, to + 11),
    );
    out[at] = LETTER_Z;
    return at + 1;
  };

/** The first bit is 1 where it is not below zero; then hour (10 bits), minute, second (6 each). */
export const timeWriter =
  (decimals: number): WriteText =>
  (data, from, out, to) => {
    const packed = readBytes(data, from, 3) - 0x800000;
    const hour = (packed >> 12) & 0x3ff;
    if (packed < 0 || hour > 23) return -1;
    const at = writeClock(hour, (packed >> 6) & 0x3f, packed & 0x3f, out, to);
    return writeFraction(data, from + 3, decimals, out, at);
  };

/** Little-endian, of eight bytes. */
export const writeUint64: WriteText = (data, from, out, to) => {
  const low = (data[from]! | (data[from + 1]! << 8) | (data[from + 2]! << 16)) + data[from + 3]! * 2 ** 24;
  const high = (data[from + 4]! | (data[from + 5]! << 8) | (data[from + 6]! << 16)) + data[from + 7]! * 2 ** 24;
  const text = high < 2 ** 21 ? String(high * 2 ** 32 + low) : String((BigInt(high) << 32n) | BigInt(low));
  for (let i = 0; i < text.length; i++) out[to + i] = text.charCodeAt(i);
  return to + text.length;
};

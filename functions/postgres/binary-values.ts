/*
 * Canonical texts in PostgreSQL's binary forms. Each function puts the value of `data[start … end)` where there is room for it and returns
 * the index behind it, or -1 where the text is not written as most are: it may be no value at all.
 */

const MINUS = 0x2d;
const POINT = 0x2e;
const COLON = 0x3a;
const ZERO = 0x30;
const LETTER_T = 0x54;
const LETTER_Z = 0x5a;

/** Longer ones are rare enough, and short ones overflow nothing. */
const mostDigits = 1_000;
const numericHeaderBytes = 8;
const negative = 0x4000;

/** As numeric_recv reads it: how many groups of four digits, the weight of the first, the sign, the digits behind the point; the groups. */
export const binaryNumeric = (data: Buffer, start: number, end: number, target: Buffer, at: number): number => {
  const isNegative = data[start] === MINUS;
  const first = isNegative ? start + 1 : start;
  let point = first;
  while (point < end && data[point] !== POINT) point++;
  const whole = point - first;
  const scale = Math.max(0, end - point - 1);
  if (whole === 0 || whole + scale > mostDigits || point === end - 1) return -1;
  const groups = (whole + 3) >> 2;
  let to = at + numericHeaderBytes;
  let group = 0;
  // The first group may be short, so that one ends at the point.
  let left = whole - 4 * (groups - 1);
  for (let i = first; i < end; i++) {
    if (i === point) continue;
    const digit = data[i]! - ZERO;
    if (digit < 0 || digit > 9) return -1;
    group = group * 10 + digit;
    if (--left > 0) continue;
    to = putInt16(target, to, group);
    group = 0;
    left = 4;
  }
  if (left < 4) {
    for (; left > 0; left--) group *= 10;
    to = putInt16(target, to, group);
  }
  putInt16(target, at, (to - at - numericHeaderBytes) >> 1);
  putInt16(target, at + 2, groups - 1);
  putInt16(target, at + 4, isNegative ? negative : 0);
  putInt16(target, at + 6, scale);
  return to;
};

const putInt16 = (target: Buffer, at: number, value: number): number => {
  target[at] = value >> 8;
  target[at + 1] = value;
  return at + 2;
};

/** Days since 2000-01-01. */
export const binaryDate = (data: Buffer, start: number, end: number, target: Buffer, at: number): number => {
  if (end - start !== dateBytes) return -1;
  const days = daysAt(data, start);
  return days === undefined ? -1 : putInt32(target, at, days);
};

/** Microseconds since midnight. */
export const binaryTime = (data: Buffer, start: number, end: number, target: Buffer, at: number): number => {
  const us = microsecondsAt(data, start, end);
  return us === undefined ? -1 : putInt64(target, at, us);
};

/** Microseconds since 2000-01-01; with or without a zone, which is UTC. */
export const binaryTimestamp = (data: Buffer, start: number, end: number, target: Buffer, at: number): number => {
  if (data[start + dateBytes] !== LETTER_T) return -1;
  const days = daysAt(data, start);
  const us = microsecondsAt(data, start + dateBytes + 1, data[end - 1] === LETTER_Z ? end - 1 : end);
  if (days === undefined || us === undefined) return -1;
  const sum = days * dayUs + us;
  // A double holds those of three centuries.
  if (Number.isSafeInteger(sum)) return putInt64(target, at, sum);
  return target.writeBigInt64BE(BigInt(days) * BigInt(dayUs) + BigInt(us), at);
};

export const binaryUuid = (data: Buffer, start: number, end: number, target: Buffer, at: number): number => {
  if (end - start !== 36) return -1;
  let to = at;
  for (let i = start; i < end; i += 2) {
    const offset = i - start;
    if (offset === 8 || offset === 13 || offset === 18 || offset === 23) {
      if (data[i++] !== MINUS) return -1;
    }
    const [high, low] = [hexValue[data[i]!]!, hexValue[data[i + 1]!]!];
    if (high > 15 || low > 15) return -1;
    target[to++] = (high << 4) | low;
  }
  return to;
};

const hexValue = new Uint8Array(256).fill(0xff);
for (let value = 0; value < 16; value++)
  for (const digit of [value.toString(16), value.toString(16).toUpperCase()]) hexValue[digit.charCodeAt(0)] = value;

const dateBytes = 10;
const dayUs = 86_400_000_000;
/** From 0000-03-01 to 2000-01-01. */
const daysTo2000 = 730_425;

/** Of `YYYY-MM-DD`, from the year 1 on. */
const daysAt = (data: Buffer, at: number): number | undefined => {
  const year = 100 * twoAt(data, at) + twoAt(data, at + 2);
  const month = twoAt(data, at + 5);
  const day = twoAt(data, at + 8);
  if (data[at + 4] !== MINUS || data[at + 7] !== MINUS || year < 1 || year > 9999 || month < 1 || month > 12)
    return undefined;
  if (day < 1 || day > daysOf(year, month)) return undefined;
  // A year that begins in March ends with the leap day (H. Hinnant, "chrono-compatible low-level date algorithms").
  const years = month > 2 ? year : year - 1;
  const dayOfYear = (((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) | 0) + day - 1;
  const leapDays = (years >> 2) - ((years / 100) | 0) + ((years / 400) | 0);
  return 365 * years + leapDays + dayOfYear - daysTo2000;
};

const daysOf = (year: number, month: number): number => {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
};

/** Of `HH:MM:SS`, with up to six digits behind a point. */
const microsecondsAt = (data: Buffer, at: number, end: number): number | undefined => {
  const hours = twoAt(data, at);
  const minutes = twoAt(data, at + 3);
  const seconds = twoAt(data, at + 6);
  if (data[at + 2] !== COLON || data[at + 5] !== COLON || hours > 23 || minutes > 59 || seconds > 59) return undefined;
  const length = end - at;
  if (length !== 8 && (length < 10 || length > 15 || data[at + 8] !== POINT)) return undefined;
  let fraction = 0;
  for (let i = 0; i < 6; i++) {
    const digit = 9 + i < length ? data[at + 9 + i]! - ZERO : 0;
    if (digit < 0 || digit > 9) return undefined;
    fraction = fraction * 10 + digit;
  }
  return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
};

/** More than any sum of what may be there. */
const noDigits = 1_000_000;

/** Two digits; too many where one is none. */
const twoAt = (data: Buffer, at: number): number => {
  const tens = data[at]! - ZERO;
  const ones = data[at + 1]! - ZERO;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? 10 * tens + ones : noDigits;
};

/** Big-endian, as all numbers here. */
export const putInt32 = (target: Buffer, at: number, value: number): number => {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
  return at + 4;
};

/** An integer that a double holds. */
const putInt64 = (target: Buffer, at: number, value: number): number =>
  putInt32(target, putInt32(target, at, Math.floor(value / 2 ** 32)), value);

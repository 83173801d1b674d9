import { COLON, DOT, isDigit, MINUS, UPPER_T, UPPER_Z } from './ascii.ts';

/** Canonical dates and times out of their parts. */

const daysInMonth = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

const isLeapYear = (year: number): boolean => (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;

/** Whether the calendar has this day. */
export const isDate = (year: number, month: number, day: number): boolean =>
  month >= 1 &&
  month <= 12 &&
  day >= 1 &&
  (day <= daysInMonth[month - 1]! || (month === 2 && day === 29 && isLeapYear(year)));

/** Second 60 is a leap second. */
export const isTime = (hour: number, minute: number, second: number): boolean =>
  hour <= 23 && minute <= 59 && second <= 60;

const two = (n: number): string => (n < 10 ? `0${n}` : `${n}`);

export const dateText = (year: number, month: number, day: number): string =>
  `${String(year).padStart(4, '0')}-${two(month)}-${two(day)}`;

/** `fraction` has its point, or is empty. */
export const timeText = (hour: number, minute: number, second: number, fraction: string): string =>
  `${two(hour)}:${two(minute)}:${two(second)}${fraction}`;

const isDigits = (data: Uint8Array, from: number, to: number): boolean => {
  for (let i = from; i < to; i++) if (!isDigit(data[i])) return false;
  return true;
};

const twoDigits = (data: Uint8Array, at: number): number =>
  isDigit(data[at]) && isDigit(data[at + 1]) ? data[at]! * 10 + data[at + 1]! - 0x30 * 11 : Number.NaN;

/** Whether data[from, to) is a date of the form 2024-02-29. */
export const isIsoDate = (data: Uint8Array, from: number, to: number): boolean =>
  to - from === 10 &&
  data[from + 4] === MINUS &&
  data[from + 7] === MINUS &&
  isDate(twoDigits(data, from) * 100 + twoDigits(data, from + 2), twoDigits(data, from + 5), twoDigits(data, from + 8));

/** Whether data[from, to) is a time of the form 23:59:59 or 23:59:59.123456. */
export const isIsoTime = (data: Uint8Array, from: number, to: number): boolean =>
  to - from >= 8 &&
  data[from + 2] === COLON &&
  data[from + 5] === COLON &&
  isTime(twoDigits(data, from), twoDigits(data, from + 3), twoDigits(data, from + 6)) &&
  (to - from === 8 || (data[from + 8] === DOT && to - from >= 10 && to - from <= 18 && isDigits(data, from + 9, to)));

/** Whether data[from, to) is a timestamp in canonical form. */
export const isIsoTimestamp = (data: Uint8Array, from: number, to: number, local: boolean): boolean =>
  data[from + 10] === UPPER_T &&
  (local || data[to - 1] === UPPER_Z) &&
  isIsoTime(data, from + 11, local ? to : to - 1) &&
  isIsoDate(data, from, from + 10);

const isoTimestamp =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)?$/;

/**
 * An ISO 8601 timestamp in canonical form: a `local` one must have no zone, any other must have one, and is moved to UTC.
 * The fraction of the second is kept as written.
 */
export const canonicalTimestamp = (text: string, local: boolean): string | undefined => {
  const match = isoTimestamp.exec(text);
  if (match === null) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => Number(part ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const [fraction = '', zulu, sign, offsetHour = '0', offsetMinute = '0'] = match.slice(7);
  const hasZone = zulu !== undefined || sign !== undefined;
  if (hasZone === local || !isDate(year, month, day) || !isTime(hour, minute, second)) return undefined;
  if (local) return `${dateText(year, month, day)}T${timeText(hour, minute, second, fraction)}`;
  const offset = (sign === '-' ? -1 : 1) * (Number(offsetHour) * 60 + Number(offsetMinute));
  if (Math.abs(offset) > 18 * 60) return undefined;
  const utc = new Date(0);
  utc.setUTCFullYear(year, month - 1, day);
  utc.setUTCHours(hour, minute - offset);
  if (utc.getUTCFullYear() < 0 || utc.getUTCFullYear() > 9999) return undefined;
  const date = dateText(utc.getUTCFullYear(), utc.getUTCMonth() + 1, utc.getUTCDate());
  return `${date}T${timeText(utc.getUTCHours(), utc.getUTCMinutes(), second, fraction)}Z`;
};

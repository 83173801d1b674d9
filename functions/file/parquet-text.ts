import { type ConnectError, rowError } from '../../shared/connect/errors.ts';
import { isDate } from './calendar.ts';

/** Canonical texts as the numbers of Parquet: exactly, or a row error that says why not. */

/** A decimal without its point, as Parquet keeps it: `12.5` with scale 2 is 1250. */
export const unscaled =
  (precision: number, scale: number) =>
  (text: string): bigint => {
    const [, sign, whole = '', fraction = ''] = /^(-?)0*(\d+?)(?:\.(\d+))?$/.exec(text) ?? [];
    const digits = whole === '0' ? 0 : whole.length;
    if (sign === undefined || fraction.length > scale || digits > precision - scale)
      throw refused(text, `is no decimal(${precision},${scale}): declare it wider`);
    return BigInt(sign + whole + fraction.padEnd(scale, '0'));
  };

const datePattern = /^[+-]?\d{4,6}-\d\d-\d\d$/;
const timePattern = /^\d\d:\d\d:\d\d(?:\.\d{1,9})?Z?$/;

/** The digit at a place of a text; 0 where there is none. */
const digitAt = (text: string, at: number): number => {
  const digit = text.charCodeAt(at) - 0x30;
  return digit >= 0 && digit <= 9 ? digit : 0;
};
const twoDigitsAt = (text: string, at: number): number => digitAt(text, at) * 10 + digitAt(text, at + 1);

/** Days since 1970. */
export const daysOf = (text: string, shown = text): number => {
  const year = Number(text.slice(0, -6));
  const month = twoDigitsAt(text, text.length - 5);
  const day = twoDigitsAt(text, text.length - 2);
  if (!datePattern.test(text) || !isDate(year, month, day)) throw refused(shown, 'is no date of the calendar');
  return daysSince1970(year, month, day);
};

/** Microseconds since midnight. */
export const microsOfTime = (text: string, shown = text): bigint => {
  const hour = twoDigitsAt(text, 0);
  const minute = twoDigitsAt(text, 3);
  const second = twoDigitsAt(text, 6);
  if (!timePattern.test(text) || hour > 23 || minute > 59 || second > 59)
    throw refused(shown, 'is no time of a day of 24 hours');
  let micros = (hour * 60 + minute) * 60 + second;
  const fraction = 9;
  for (let at = fraction; at < fraction + 6; at++) micros = micros * 10 + digitAt(text, at);
  for (let at = fraction + 6; at < text.length; at++)
    if (digitAt(text, at) > 0)
      throw refused(shown, 'is finer than a microsecond: round it by a transform, or declare it a string');
  return BigInt(micros);
};

const microsPerDay = 86_400_000_000n;
const int64Max = 2n ** 63n - 1n;

/** Microseconds since 1970; of a local timestamp as if it were UTC. */
export const microsOfTimestamp = (text: string): bigint => {
  const at = text.indexOf('T');
  const micros = BigInt(daysOf(text.slice(0, at), text)) * microsPerDay + microsOfTime(text.slice(at + 1), text);
  if (micros > int64Max || micros < -int64Max)
    throw refused(text, 'is beyond the years that 64 bits of microseconds reach');
  return micros;
};

/** Days of the proleptic Gregorian calendar (Howard Hinnant's days_from_civil): Date.UTC takes 0 to 99 for 1900 to 1999. */
const daysSince1970 = (year: number, month: number, day: number): number => {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
};

const refused = (text: string, problem: string): ConnectError => rowError(`${text.slice(0, 80)} ${problem}`);

import { ConnectError } from '../shared/connect/errors.ts';
import { instantOf, wallOf } from './time-zone.ts';

/**
 * AWS's cron expressions: minutes, hours, day of month, month, day of week, year. Checked when an app is synthesized, and evaluated by
 * the local host: by one reader, so that what is accepted is what is fired.
 */
export interface Cron {
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  /** Whether one of its days is this one; months and days count from 1. */
  isDay(year: number, month: number, day: number): boolean;
}

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  /** Names of the numbers from `min` on. */
  readonly names?: readonly string[];
}

const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const weekDays = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];
const dayOfMonth: Field = { name: 'day of month', min: 1, max: 31 };
const dayOfWeek: Field = { name: 'day of week', min: 1, max: 7, names: weekDays };
const year: Field = { name: 'year', min: 1970, max: 2199 };

/** A day of a month, as the fields of days ask for it. */
interface Day {
  readonly day: number;
  readonly daysInMonth: number;
  /** 1 is Sunday. */
  readonly weekDay: number;
}

type IsDay = (day: Day) => boolean;

/** @throws CONFIG_INVALID with every field that is wrong, by its name */
export const parseCron = (expression: string): Cron => {
  const fields = expression.trim().split(/\s+/);
  if (fields.length !== 6) throw wrong(expression, [countProblem(fields)]);
  const [minute, hour, inMonth, month, inWeek, inYear] = fields as [string, string, string, string, string, string];
  const problems: string[] = [];
  const read = <T>(call: () => T): T | undefined => {
    try {
      return call();
    } catch (thrown) {
      problems.push((thrown as Error).message);
      return undefined;
    }
  };
  const minutes = read(() => numbersOf({ name: 'minutes', min: 0, max: 59 }, minute));
  const hours = read(() => numbersOf({ name: 'hours', min: 0, max: 23 }, hour));
  const inMonths = read(() => new Set(numbersOf({ name: 'month', min: 1, max: 12, names: months }, month)));
  const inYears = read(() => new Set(numbersOf(year, inYear)));
  const isDayOfMonth = inMonth === '?' ? undefined : read(() => anyOf(inMonth, dayOfMonthTest));
  const isDayOfWeek = inWeek === '?' ? undefined : read(() => weekDayTest(inWeek));
  if ((inMonth === '?') === (inWeek === '?'))
    problems.push(`day of month is ${inMonth} and day of week is ${inWeek}: exactly one of them is ?`);
  if (problems.length > 0) throw wrong(expression, problems);
  const isDay = (isDayOfMonth ?? isDayOfWeek)!;
  const cron: Cron = {
    minutes: minutes!,
    hours: hours!,
    isDay: (y, m, day) => inYears!.has(y) && inMonths!.has(m) && isDay(dayAt(y, m, day)),
  };
  if (nextFiring(cron, Date.UTC(year.min, 0, 1) - 1, 'UTC') === undefined)
    throw wrong(expression, [`there is no such day: day of month ${inMonth} in month ${month}`]);
  return cron;
};

const wrong = (expression: string, problems: readonly string[]): ConnectError =>
  new ConnectError('CONFIG_INVALID', `cron "${expression}" is not possible: ${problems.join('; ')}`);

const countProblem = (fields: readonly string[]): string => {
  const expected = 'expected 6 fields: minutes, hours, day of month, month, day of week, year';
  if (fields.length !== 5) return `${expected}; got ${fields.length}`;
  const [minute, hour, inMonth, month, inWeek = ''] = fields;
  // Unix counts the days of a week from 0.
  const named = inWeek.replace(/\d/g, (digit) => weekDays[Number(digit) % 7] ?? digit);
  const days = inWeek !== '*' && inMonth === '*' ? ['?', named] : [inMonth, '?'];
  return `${expected}, one of the two days ?; Unix's 5 fields are "${minute} ${hour} ${days[0]} ${month} ${days[1]} *" here`;
};

/** `*`, `7`, `1-5`, `0/15`, `1-30/5` and lists of them. */
const numbersOf = (field: Field, text: string): readonly number[] => {
  const numbers = new Set(text.split(',').flatMap((part) => rangeOf(field, part)));
  return [...numbers].sort((a, b) => a - b);
};

const rangeOf = (field: Field, text: string): readonly number[] => {
  const { name, min, max } = field;
  const [, range = '', step] = /^([^/]*)(?:\/(\d+))?$/.exec(text) ?? [];
  const [first, last] = range === '*' ? [min, max] : range.split('-').map((one) => numberOf(field, one));
  if (first === undefined || Number.isNaN(first) || Number.isNaN(last) || range.split('-').length > 2)
    throw new Error(
      `${name} is "${text}": use ${min}-${max}${namesOf(field)}, *, ranges, lists and steps such as 0/15`,
    );
  // Whoever gives a step without an end means: to the end.
  const end = last ?? (step === undefined ? first : max);
  if (end < first) throw new Error(`${name} is "${text}": a range goes up; write ${first}-${max},${min}-${end}`);
  if (step === '0') throw new Error(`${name} is "${text}": a step is at least 1`);
  return Array.from(
    { length: Math.floor((end - first) / Number(step ?? 1)) + 1 },
    (_, n) => first + n * Number(step ?? 1),
  );
};

const namesOf = ({ names }: Field): string => (names === undefined ? '' : ` or ${names[0]}-${names.at(-1)}`);

/** NaN where it is none of the field's. */
const numberOf = ({ min, max, names = [] }: Field, text: string): number => {
  const named = names.indexOf(text.toUpperCase());
  const number = named >= 0 ? named + min : /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return number >= min && number <= max ? number : Number.NaN;
};

const anyOf = (text: string, test: (part: string) => IsDay): IsDay => {
  const tests = text.split(',').map(test);
  return (day) => tests.some((one) => one(day));
};

/** `L` is the last day, `15W` the working day nearest to the 15th, within the month. */
const dayOfMonthTest = (text: string): IsDay => {
  if (text === 'L') return ({ day, daysInMonth }) => day === daysInMonth;
  const [, nearest] = /^(\d+)W$/.exec(text) ?? [];
  if (nearest === undefined) {
    const days = new Set(rangeOf(dayOfMonth, text));
    return ({ day }) => days.has(day);
  }
  const target = rangeOf(dayOfMonth, nearest)[0]!;
  return (at) => target <= at.daysInMonth && at.day === nearestWorkingDay(target, at);
};

const nearestWorkingDay = (target: number, { day, weekDay, daysInMonth }: Day): number => {
  const weekDayOfTarget = ((((weekDay - 1 + target - day) % 7) + 7) % 7) + 1;
  if (weekDayOfTarget === 7) return target === 1 ? 3 : target - 1;
  if (weekDayOfTarget === 1) return target === daysInMonth ? target - 2 : target + 1;
  return target;
};

/** `L` is Saturday, `6L` the month's last Friday, `6#3` its third. */
const weekDayTest = (text: string): IsDay => {
  const [, nth, count] = /^([^#,]+)#([1-5])$/.exec(text) ?? [];
  if (nth !== undefined) {
    const target = rangeOf(dayOfWeek, nth)[0];
    return ({ day, weekDay }) => weekDay === target && Math.ceil(day / 7) === Number(count);
  }
  if (text.includes('#')) throw new Error(`day of week is "${text}": a # stands alone, as in 6#3 (the third Friday)`);
  return anyOf(text, (part) => {
    if (part === 'L') return ({ weekDay }) => weekDay === 7;
    const [, last] = /^(.+)L$/.exec(part) ?? [];
    if (last === undefined) {
      const days = new Set(rangeOf(dayOfWeek, part));
      return ({ weekDay }) => days.has(weekDay);
    }
    const target = rangeOf(dayOfWeek, last)[0];
    return ({ day, weekDay, daysInMonth }) => weekDay === target && day + 7 > daysInMonth;
  });
};

const dayAt = (inYear: number, month: number, day: number): Day => ({
  day,
  daysInMonth: new Date(Date.UTC(inYear, month, 0)).getUTCDate(),
  weekDay: new Date(Date.UTC(inYear, month - 1, day)).getUTCDay() + 1,
});

const dayMs = 86_400_000;
/** No clock is set back by more. */
const longestShiftMs = 3 * 3_600_000;

/**
 * The first time after this one, as EventBridge Scheduler has it: what falls into the hour that is skipped in spring is left out, what
 * falls into the hour that comes twice in autumn happens once. Undefined: never again.
 */
export const nextFiring = (cron: Cron, afterMs: number, timeZone: string): number | undefined => {
  const afterWallMs = wallOf(afterMs, timeZone);
  const lastMs = Date.UTC(year.max + 1, 0, 1);
  for (let dateMs = Math.floor(afterWallMs / dayMs) * dayMs; dateMs < lastMs; dateMs += dayMs) {
    const date = new Date(dateMs);
    if (!cron.isDay(date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate())) continue;
    for (const hour of cron.hours)
      for (const minute of cron.minutes) {
        const wallMs = dateMs + hour * 3_600_000 + minute * 60_000;
        if (wallMs < afterWallMs - longestShiftMs) continue;
        const atMs = instantOf(wallMs, timeZone);
        if (atMs !== undefined && atMs > afterMs) return atMs;
      }
  }
  return undefined;
};

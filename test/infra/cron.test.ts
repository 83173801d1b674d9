import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextFiring, parseCron } from '../../infra/cron.ts';
import { instantOf, isTimeZone } from '../../infra/time-zone.ts';
import { messageOf } from './constructs/stack.ts';

/** The next times after one, as ISO text up to the minute. */
const firings = (expression: string, fromIso: string, count = 1, timeZone = 'UTC'): readonly string[] => {
  const cron = parseCron(expression);
  const times: string[] = [];
  for (let atMs = Date.parse(fromIso); times.length < count; ) {
    const next = nextFiring(cron, atMs, timeZone);
    if (next === undefined) break;
    times.push(new Date(next).toISOString().slice(0, 16));
    atMs = next;
  }
  return times;
};

describe("AWS's own examples", () => {
  // 2026-11-21 is a Saturday.
  it.each([
    ['0 10 * * ? *', 'every day at 10:00', ['2026-11-21T10:00', '2026-11-22T10:00']],
    ['15 12 * * ? *', 'every day at 12:15', ['2026-11-21T12:15', '2026-11-22T12:15']],
    ['0 18 ? * MON-FRI *', 'from Monday to Friday', ['2026-11-23T18:00', '2026-11-24T18:00']],
    ['0 8 1 * ? *', 'the first of every month', ['2026-12-01T08:00', '2027-01-01T08:00']],
    ['0/15 * * * ? *', 'every 15 minutes', ['2026-11-21T00:15', '2026-11-21T00:30']],
    ['0/10 * ? * MON-FRI *', 'every 10 minutes of a working day', ['2026-11-23T00:00', '2026-11-23T00:10']],
    ['0/5 8-17 ? * MON-FRI *', 'every 5 minutes from 8 to 17:55', ['2026-11-23T08:00', '2026-11-23T08:05']],
    ['0/30 20-23,0-2 ? * MON-FRI *', 'every 30 minutes from 22:00 to 2:00', ['2026-11-23T00:00', '2026-11-23T00:30']],
    ['15 10 ? * 6L 2026-2029', 'the last Friday of a month', ['2026-11-27T10:15', '2026-12-25T10:15']],
    ['0 17 ? * MON-FRI *', 'at 17:00', ['2026-11-23T17:00', '2026-11-24T17:00']],
    ['0 0 L * ? *', 'the last day of a month', ['2026-11-30T00:00', '2026-12-31T00:00']],
    ['0 0 ? * L *', 'the last day of a week', ['2026-11-28T00:00', '2026-12-05T00:00']],
    ['0 0 ? * 3#2 *', 'the second Tuesday', ['2026-12-08T00:00', '2027-01-12T00:00']],
    ['0 0 ? * FRI#5 *', 'the fifth Friday, where there is one', ['2027-01-29T00:00', '2027-04-30T00:00']],
    ['0 0 3W * ? *', 'the working day nearest to the third', ['2026-12-03T00:00', '2027-01-04T00:00']],
    ['0 0 1W 5,8 ? *', 'which never leaves the month', ['2027-05-03T00:00', '2027-08-02T00:00']],
    ['0 0 31W JAN,OCT ? *', 'at its end neither', ['2027-01-29T00:00', '2027-10-29T00:00']],
    ['0 0 29 FEB ? *', 'leap days', ['2028-02-29T00:00', '2032-02-29T00:00']],
    ['59 23 31 12 ? 2026', 'once, then never', ['2026-12-31T23:59']],
  ])('%s: %s', (expression, _, expected) => {
    expect(firings(expression, '2026-11-21T00:00:00Z', 2)).toEqual(expected);
  });
});

describe('a time zone', () => {
  it('is that of the hours', () => {
    expect(firings('0 2 * * ? *', '2026-11-21T00:00:00Z', 1, 'America/New_York')).toEqual(['2026-11-21T07:00']);
    expect(firings('30 5 * * ? *', '2026-11-21T00:00:00Z', 1, 'Asia/Kolkata')).toEqual(['2026-11-22T00:00']);
  });

  it('leaves out the hour that spring skips', () => {
    expect(firings('30 2 * * ? *', '2026-03-28T00:00:00Z', 2, 'Europe/Berlin')).toEqual([
      '2026-03-28T01:30',
      '2026-03-30T00:30',
    ]);
  });

  it('goes once through the hour that autumn repeats', () => {
    expect(firings('30 2 * * ? *', '2026-10-24T12:00:00Z', 2, 'Europe/Berlin')).toEqual([
      '2026-10-25T00:30',
      '2026-10-26T01:30',
    ]);
  });

  it('that there is not is known', () => {
    expect(isTimeZone('Europe/Berlin')).toBe(true);
    expect(isTimeZone('Europe/Berln')).toBe(false);
  });

  it('of any instant is found again from what its clocks show', () => {
    const zones = ['UTC', 'Europe/Berlin', 'America/St_Johns', 'Australia/Lord_Howe', 'Pacific/Apia', 'Asia/Kathmandu'];
    const minute = fc.integer({ min: Date.UTC(1990, 0, 1) / 60_000, max: Date.UTC(2060, 0, 1) / 60_000 });
    fc.assert(
      fc.property(minute, fc.constantFrom(...zones), (minutes, timeZone) => {
        const atMs = minutes * 60_000;
        const wall = new Date(atMs).toLocaleString('sv-SE', { timeZone });
        const found = instantOf(Date.parse(`${wall.replace(' ', 'T')}Z`), timeZone)!;
        // The hour that comes twice is found as its first.
        expect([0, 1_800_000, 3_600_000]).toContain(atMs - found);
        expect(new Date(found).toLocaleString('sv-SE', { timeZone })).toBe(wall);
      }),
    );
  });
});

describe('any expression', () => {
  const field = (min: number, max: number) => {
    const number = fc.integer({ min, max });
    const range = fc.tuple(number, number).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`);
    const step = fc.tuple(number, fc.integer({ min: 1, max: 20 })).map(([a, n]) => `${a}/${n}`);
    return fc.oneof(
      fc.constant('*'),
      fc
        .array(fc.oneof(number.map(String), range, step), { minLength: 1, maxLength: 3 })
        .map((parts) => parts.join(',')),
    );
  };
  /** Numbers of a field by another way: each is asked for. */
  const has = (text: string, at: number, max: number): boolean =>
    text === '*' ||
    text.split(',').some((part) => {
      const [range, step = '1'] = part.split('/');
      const [first, last = part.includes('/') ? String(max) : range] = range!.split('-');
      return at >= Number(first) && at <= Number(last) && (at - Number(first)) % Number(step) === 0;
    });

  it('fires at the first minute that fits all its fields', () => {
    const start = fc.integer({ min: Date.UTC(2020, 0, 1) / 60_000, max: Date.UTC(2040, 0, 1) / 60_000 });
    const daily = fc.tuple(field(0, 59), field(0, 23), field(1, 7), start);
    fc.assert(
      fc.property(daily, ([minute, hour, weekDay, minutes]) => {
        const next = nextFiring(parseCron(`${minute} ${hour} ? * ${weekDay} *`), minutes * 60_000, 'UTC')!;
        for (let at = minutes + 1; ; at++) {
          const date = new Date(at * 60_000);
          const fits =
            has(minute, date.getUTCMinutes(), 59) &&
            has(hour, date.getUTCHours(), 23) &&
            has(weekDay, date.getUTCDay() + 1, 7);
          if (!fits) continue;
          expect(next).toBe(at * 60_000);
          return;
        }
      }),
      { numRuns: 50 },
    );
  });

  it('of days of months and years, too', () => {
    const start = fc.integer({ min: 0, max: 20_000 });
    fc.assert(
      fc.property(field(1, 28), field(1, 12), start, (day, month, days) => {
        const next = nextFiring(parseCron(`0 0 ${day} ${month} ? *`), days * 86_400_000, 'UTC')!;
        for (let at = days + 1; ; at++) {
          const date = new Date(at * 86_400_000);
          if (!has(day, date.getUTCDate(), 31) || !has(month, date.getUTCMonth() + 1, 12)) continue;
          expect(next).toBe(at * 86_400_000);
          return;
        }
      }),
    );
  });
});

describe('what is refused names its field', () => {
  it.each([
    ['61 2 * * ? *', 'minutes is "61": use 0-59, *, ranges, lists and steps such as 0/15'],
    ['0 24 * * ? *', 'hours is "24": use 0-23'],
    ['0 2 32 * ? *', 'day of month is "32": use 1-31'],
    ['0 2 * 13 ? *', 'month is "13": use 1-12 or JAN-DEC'],
    ['0 2 ? * 0 *', 'day of week is "0": use 1-7 or SUN-SAT'],
    ['0 2 ? * FRI-MON *', 'day of week is "FRI-MON": a range goes up; write 6-7,1-2'],
    ['0 2 * * ? 1969', 'year is "1969": use 1970-2199'],
    ['0/0 2 * * ? *', 'minutes is "0/0": a step is at least 1'],
    ['0 2 ? * 3#1,6#3 *', 'day of week is "3#1,6#3": a # stands alone'],
    ['0 2 * * * *', 'day of month is * and day of week is *: exactly one of them is ?'],
    ['0 2 ? * ? *', 'day of month is ? and day of week is ?: exactly one of them is ?'],
    ['0 2 30 FEB ? *', 'there is no such day: day of month 30 in month FEB'],
    ['0 2 LW * ? *', 'day of month is "LW"'],
    [
      '0 2 * * *',
      'expected 6 fields: minutes, hours, day of month, month, day of week, year, one of the two days ?; Unix\'s 5 fields are "0 2 * * ? *" here',
    ],
    ['0 2 * * 1-5', '"0 2 ? * MON-FRI *" here'],
    ['0 2', 'got 2'],
  ])('%s', (expression, message) => {
    expect(messageOf(() => parseCron(expression))).toContain(`cron "${expression}" is not possible: `);
    expect(messageOf(() => parseCron(expression))).toContain(message);
  });

  it('every one of them at once', () => {
    expect(messageOf(() => parseCron('x 25 0 * ? *'))).toMatch(
      /minutes is "x".*; hours is "25".*; day of month is "0"/,
    );
  });
});

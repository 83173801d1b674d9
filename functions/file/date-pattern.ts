import { isDigit } from './ascii.ts';
import { dateText, isDate, isTime, timeText } from './calendar.ts';

/** The canonical text of the date or time in data[from, to); undefined where it does not fit the pattern or the calendar. */
export type DatePattern = (data: Uint8Array, from: number, to: number) => string | undefined;

export type PatternType = 'date' | 'time' | 'timestamp' | 'timestamp local';

const parts = { y: 0, M: 1, d: 2, H: 3, h: 4, m: 5, s: 6 } as const;
const MINUTES = parts.m;
const AFTERNOON = 7;
const FRACTION = 8;

/** What each token reads, by how often its letter is repeated. */
type Step =
  | { readonly read: 'byte'; readonly byte: number }
  | { readonly read: 'digits'; readonly part: number; readonly min: number; readonly max: number }
  | { readonly read: 'name'; readonly part: number; readonly names: readonly string[]; readonly first: number }
  | { readonly read: 'fraction'; readonly digits: number };

const months = [
  'january',
  'february',
  'march',
  'april',
  'may',
  'june',
  'july',
  'august',
  'september',
  'october',
  'november',
  'december',
];
const shortMonths = months.map((name) => name.slice(0, 3));

const tokenStep = (letter: string, count: number): Step | string => {
  const token = letter.repeat(count);
  if (token === 'yy') return 'yy does not say the century; write the year with yyyy';
  if (token === 'y' || token === 'yyyy') return { read: 'digits', part: parts.y, min: 4, max: 4 };
  if (token === 'MMM') return { read: 'name', part: parts.M, names: shortMonths, first: 1 };
  if (token === 'MMMM') return { read: 'name', part: parts.M, names: months, first: 1 };
  if (token === 'a') return { read: 'name', part: AFTERNOON, names: ['am', 'pm'], first: 0 };
  if (letter === 'S' && count <= 9) return { read: 'fraction', digits: count };
  if ('MdHhms'.includes(letter) && count <= 2)
    return { read: 'digits', part: parts[letter as keyof typeof parts], min: count, max: 2 };
  return `${token} is none of the tokens y yyyy M MM MMM MMMM d dd H HH h hh m mm s ss S… a; put other letters in single quotes`;
};

const stepsOf = (pattern: string): Step[] | string => {
  const steps: Step[] = [];
  const literal = (text: string) => {
    for (const byte of Buffer.from(text)) steps.push({ read: 'byte', byte });
  };
  for (const [piece, quoted, letter] of pattern.matchAll(/'([^']*)'|([A-Za-z])\2*|[^A-Za-z']|'/g)) {
    if (piece === "'") return "a single quote is not closed; write a quote as ''";
    if (quoted !== undefined) literal(quoted === '' ? "'" : quoted);
    else if (letter === undefined) literal(piece);
    else {
      const step = tokenStep(letter, piece.length);
      if (typeof step === 'string') return step;
      steps.push(step);
    }
  }
  return steps;
};

const problemOf = (steps: readonly Step[], type: PatternType): string | undefined => {
  const read = new Set(
    steps.map((step) => (step.read === 'fraction' ? FRACTION : step.read === 'byte' ? -1 : step.part)),
  );
  const has = (...wanted: readonly number[]) => wanted.every((part) => read.has(part));
  const hasHour = has(parts.H) || has(parts.h, AFTERNOON);
  if (type !== 'time' && !has(parts.y, parts.M, parts.d)) return `a ${type} needs y, M and d`;
  if (type === 'time' && !(hasHour && has(MINUTES))) return 'a time needs H (or h and a) and m';
  const clock = [parts.H, parts.h, parts.m, parts.s, AFTERNOON, FRACTION].some((part) => read.has(part));
  if (type === 'date' && clock) return 'a date has no clock: its hours would be lost; declare a timestamp';
  if (type === 'time' && [parts.y, parts.M, parts.d].some((part) => read.has(part)))
    return 'a time has no day: it would be lost; declare a timestamp';
  if (clock && !hasHour) return 'the clock needs H, or h and a';
  if (has(FRACTION) && !has(parts.s)) return 'S needs s';
  return undefined;
};

/**
 * Compiles a pattern such as `MMM d yyyy` or `dd.MM.yyyy HH:mm`; a text answer says why it is none. A token of one letter takes
 * one or two digits, of two letters exactly two; names are English, in any case. For a `timestamp` the pattern's clock reads UTC.
 */
export const compileDatePattern = (pattern: string, type: PatternType): DatePattern | string => {
  const steps = stepsOf(pattern);
  if (typeof steps === 'string') return steps;
  const problem = problemOf(steps, type);
  if (problem !== undefined) return problem;
  const values = new Int32Array(FRACTION);
  const hasHour12 = steps.some((step) => step.read === 'digits' && step.part === parts.h);
  return (data, from, to) => {
    values.fill(0);
    let fraction = '';
    let at = from;
    for (const step of steps) {
      const start = at;
      at = readStep(step, data, at, to, values);
      if (at < 0) return undefined;
      if (step.read === 'fraction') fraction = `.${Buffer.from(data.subarray(start, at)).toString('latin1')}`;
    }
    if (at !== to) return undefined;
    const [year, month, day, hour24, hour12, minute, second, afternoon] = values as unknown as number[];
    if (hasHour12 && (hour12! < 1 || hour12! > 12)) return undefined;
    const hour = hasHour12 ? (hour12! % 12) + 12 * afternoon! : hour24!;
    if (type !== 'time' && !isDate(year!, month!, day!)) return undefined;
    if (!isTime(hour, minute!, second!)) return undefined;
    const date = type === 'time' ? '' : dateText(year!, month!, day!);
    if (type === 'date') return date;
    const time = timeText(hour, minute!, second!, fraction);
    return type === 'time' ? time : `${date}T${time}${type === 'timestamp' ? 'Z' : ''}`;
  };
};

/** The index after what the step read; -1 where it does not fit. */
const readStep = (step: Step, data: Uint8Array, at: number, to: number, values: Int32Array): number => {
  switch (step.read) {
    case 'byte':
      return at < to && data[at] === step.byte ? at + 1 : -1;
    case 'digits': {
      let value = 0;
      let i = at;
      while (i < to && i - at < step.max && isDigit(data[i])) value = value * 10 + data[i++]! - 0x30;
      values[step.part] = value;
      return i - at >= step.min ? i : -1;
    }
    case 'name': {
      const index = step.names.findIndex((name) => at + name.length <= to && startsWith(data, at, name));
      if (index < 0) return -1;
      values[step.part] = index + step.first;
      return at + step.names[index]!.length;
    }
    case 'fraction': {
      let i = at;
      while (i < to && i - at < step.digits && isDigit(data[i])) i++;
      return i - at === step.digits ? i : -1;
    }
  }
};

const startsWith = (data: Uint8Array, at: number, lowerCase: string): boolean => {
  for (let i = 0; i < lowerCase.length; i++) if ((data[at + i]! | 0x20) !== lowerCase.charCodeAt(i)) return false;
  return true;
};

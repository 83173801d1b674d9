import { describeSchema, type PrimitiveSchema } from '../../shared/connect/schema.ts';
import { canonicalTimestamp, isIsoDate } from './calendar.ts';
import { compileDatePattern } from './date-pattern.ts';
import type { FieldTypeText } from './field-type.ts';

/** A form of dates: what to declare for it, and whether a text has it. */
interface DateForm {
  readonly type: FieldTypeText;
  fits(text: string): boolean;
}

const patternForm = (type: 'date' | 'timestamp local', format: string): DateForm => {
  const pattern = compileDatePattern(format, type);
  if (typeof pattern === 'string') throw new Error(pattern);
  return {
    type: { type, format },
    fits(text) {
      const bytes = Buffer.from(text);
      return pattern(bytes, 0, bytes.length) !== undefined;
    },
  };
};

const days = ['yyyy/MM/dd', 'dd.MM.yyyy', 'd.M.yyyy', 'MM/dd/yyyy', 'M/d/yyyy', 'dd/MM/yyyy', 'd/M/yyyy'];
const namedDays = ['MMM d yyyy', 'MMM d, yyyy', 'MMMM d, yyyy', 'd MMM yyyy', 'd-MMM-yyyy'];

/** In this order: of forms that all values have, the first is taken. */
const dateForms: readonly DateForm[] = [
  { type: 'date', fits: (text) => isIsoDate(Buffer.from(text), 0, text.length) },
  { type: 'timestamp', fits: (text) => canonicalTimestamp(text, false) !== undefined },
  { type: 'timestamp local', fits: (text) => canonicalTimestamp(text, true) !== undefined },
  ...[...days, ...namedDays].map((format) => patternForm('date', format)),
  ...days.map((format) => patternForm('timestamp local', `${format} HH:mm:ss`)),
];

/** What the values of one field are. */
export interface Seen {
  numbers: number;
  booleans: number;
  nested: number;
  texts: number;
  /** Of the texts: the empty ones, and those that hold a number or a boolean. */
  empty: number;
  numberTexts: number;
  booleanTexts: number;
  /** By form, how many texts have it; and how many have any. */
  readonly dates: number[];
  dated: number;
  /** Of all numbers: the most digits before and after the point, and the extent. */
  whole: number;
  fraction: number;
  exponent: boolean;
  /** A number that a double changes. */
  beyondDouble: boolean;
  min: bigint;
  max: bigint;
  /** CSV: all values are texts. */
  untyped: boolean;
}

export const createSeen = (): Seen => ({
  numbers: 0,
  booleans: 0,
  nested: 0,
  texts: 0,
  empty: 0,
  numberTexts: 0,
  booleanTexts: 0,
  dates: dateForms.map(() => 0),
  dated: 0,
  whole: 1,
  fraction: 0,
  exponent: false,
  beyondDouble: false,
  min: 0n,
  max: 0n,
  untyped: true,
});

const numberText = /^-?(0|[1-9]\d*)(?:\.(\d+))?([eE][+-]?\d+)?$/;

/** Adds one value: its JSON text, or its plain text. */
export const see = (seen: Seen, text: string, isJson: boolean): void => {
  const first = isJson ? text[0] : undefined;
  if (isJson) seen.untyped = false;
  if (first === undefined) seeText(seen, text);
  else if (first === '"') seeText(seen, JSON.parse(text));
  else if (first === '{' || first === '[') seen.nested++;
  else if (first === 't' || first === 'f') seen.booleans++;
  else {
    seen.numbers++;
    seeNumber(seen, text);
  }
};

const seeText = (seen: Seen, text: string): void => {
  seen.texts++;
  if (text === '') seen.empty++;
  else if (numberText.test(text)) {
    seen.numberTexts++;
    seeNumber(seen, text);
  } else if (/^(true|false)$/i.test(text)) seen.booleanTexts++;
  else if (text.length <= 40 && /\d/.test(text)) {
    let dated = false;
    for (const [i, form] of dateForms.entries())
      if (form.fits(text)) {
        seen.dates[i]!++;
        dated = true;
      }
    if (dated) seen.dated++;
  }
};

const seeNumber = (seen: Seen, text: string): void => {
  const [, whole = '', fraction = '', exponent] = numberText.exec(text)!;
  seen.whole = Math.max(seen.whole, whole.length);
  seen.fraction = Math.max(seen.fraction, fraction.length);
  if (exponent !== undefined) seen.exponent = true;
  if (whole.length + fraction.length > 15 && String(Number(text)) !== text) seen.beyondDouble = true;
  if (fraction !== '' || exponent !== undefined) return;
  const value = BigInt(text);
  if (value < seen.min) seen.min = value;
  if (value > seen.max) seen.max = value;
};

const numberType = ({ whole, fraction, exponent, beyondDouble, min, max }: Seen): PrimitiveSchema => {
  if (exponent) return { type: 'float64' };
  if (fraction > 0)
    return whole + fraction > 15 && !beyondDouble
      ? { type: 'float64' }
      : { type: 'decimal', precision: whole + fraction, scale: fraction };
  if (BigInt.asIntN(32, min) === min && BigInt.asIntN(32, max) === max) return { type: 'int32' };
  if (BigInt.asIntN(64, min) === min && BigInt.asIntN(64, max) === max) return { type: 'int64' };
  return { type: 'decimal', precision: whole, scale: 0 };
};

/** The narrowest type, and why where the values disagree. */
export const decideType = (name: string, seen: Seen, rows: number): { type: FieldTypeText; notes: string[] } => {
  const { type, note } = decide(seen);
  // An empty CSV field is null for any type but string.
  const present = seen.numbers + seen.booleans + seen.nested + seen.texts;
  const absent = rows - present + (seen.untyped && type !== 'string' ? seen.empty : 0);
  const mark = absent > 0 && type !== 'any' ? '?' : '';
  const full = typeof type === 'string' ? `${type}${mark}` : { ...type, type: `${type.type}${mark}` };
  const shown = typeof full === 'string' ? full : `${full.type} (${full.format})`;
  return { type: full, notes: note === undefined ? [] : [`${name}: ${note(rows)}, declared ${shown}`] };
};

type Decision = { readonly type: FieldTypeText; readonly note?: (rows: number) => string };

const decide = (seen: Seen): Decision => {
  const { numbers, booleans, nested, texts, numberTexts } = seen;
  const kinds = [numbers, booleans, nested, texts].filter((count) => count > 0).length;
  if (kinds === 0) return { type: 'any' };
  if (nested > 0 || (booleans > 0 && kinds > 1))
    return kinds === 1
      ? { type: 'any' }
      : {
          type: 'any',
          note: (rows) =>
            `${numbers} numbers, ${texts} strings, ${booleans} booleans and ${nested} nested values in ${rows}`,
        };
  if (booleans > 0) return { type: 'boolean' };
  if (texts === 0) return { type: describeSchema(numberType(seen)) };
  if (numbers === 0) return decideText(seen);
  return numberTexts === texts
    ? {
        type: describeSchema(numberType(seen)),
        note: (rows) => `${texts} of ${rows} values are text that holds a number`,
      }
    : { type: 'string', note: (rows) => `${numbers} of ${rows} values are numbers` };
};

const decideText = (seen: Seen): Decision => {
  const { texts, empty, numberTexts, booleanTexts, dated, untyped } = seen;
  const filled = untyped ? texts - empty : texts;
  if (filled === 0) return { type: 'string' };
  // A JSON text that looks like a number was made a text on purpose; in CSV everything is text.
  if (untyped && numberTexts === filled) return { type: describeSchema(numberType(seen)) };
  if (untyped && booleanTexts === filled) return { type: 'boolean' };
  const forms = dateForms.filter((_, i) => seen.dates[i] === filled).map(({ type }) => type);
  if (forms.length > 0 && isAmbiguous(forms))
    return {
      type: 'string',
      note: () =>
        `all values fit both ${formatOf(forms[0]!)} and another order of day and month; declare the one it is`,
    };
  if (forms.length > 0) return { type: forms[0]! };
  if (dated > 0) {
    const found = dateForms.flatMap(({ type }, i) =>
      seen.dates[i]! > 0 ? [`${seen.dates[i]} like ${formatOf(type)}`] : [],
    );
    return {
      type: 'string',
      note: (rows) => `of ${rows} values ${found.join(', ')}, ${filled - dated} of no known form of dates`,
    };
  }
  const other = untyped ? numberTexts : 0;
  return other === 0
    ? { type: 'string' }
    : { type: 'string', note: (rows) => `${other} of ${rows} values are numbers` };
};

const formatOf = (type: FieldTypeText): string => (typeof type === 'string' ? `an ISO ${type}` : type.format);

const dayFirst = /^d+\/M/;
const monthFirst = /^M+\/d/;
const isAmbiguous = (forms: readonly FieldTypeText[]): boolean =>
  forms.some((form) => dayFirst.test(formatOf(form))) && forms.some((form) => monthFirst.test(formatOf(form)));

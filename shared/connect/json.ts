import { ExactNumber, type Value } from './schema.ts';

/** Node has it since 21, TypeScript's library does not know it yet. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

/** Only a text with a number of 16 digits or more, or with an exponent, can hold one that a double cannot. */
const mayNeedExactNumbers = /[0-9.]{16}|[0-9][eE]/;

/** Whether writing the double gives the same decimal value as the text did. */
const roundTrips = (number: number, source: string): boolean => {
  if (String(number) === source) return true;
  return Number.isFinite(number) && normalizeDecimal(String(number)) === normalizeDecimal(source);
};

/** The digits and exponent of a decimal number, without leading and trailing zeros: equal for equal values. */
export const normalizeDecimal = (text: string): string => {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (!match) return text;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = (whole + fraction).replace(/^0+/, '');
  const trimmed = digits.replace(/0+$/, '');
  if (trimmed === '') return '0';
  return `${sign}${trimmed}e${Number(exponent) - fraction.length + (digits.length - trimmed.length)}`;
};

const exactReviver = (_key: string, value: unknown, context?: { source?: string }): unknown => {
  const source = context?.source;
  if (typeof value !== 'number' || source === undefined) return value;
  // A large double may print the source's digits and still be another number: 117763516396321980 is ...984.
  if (/^-?\d+$/.test(source)) return Number.isSafeInteger(value) ? value : BigInt(source);
  return roundTrips(value, source) ? value : new ExactNumber(source);
};

/**
 * Parses JSON without losing a number: integers beyond 2^53 come as bigint, other numbers that a double cannot hold as
 * `ExactNumber`. Throws SyntaxError.
 */
export const parseJson = (text: string): Value =>
  mayNeedExactNumbers.test(text) ? JSON.parse(text, exactReviver as never) : JSON.parse(text);

const replacer = (_key: string, value: unknown): unknown => {
  switch (typeof value) {
    case 'bigint':
      return rawJSON(value.toString());
    case 'number':
      if (Object.is(value, -0)) return rawJSON('-0');
      return Number.isFinite(value) ? value : String(value);
    case 'object':
      if (value instanceof ExactNumber) return rawJSON(value.text);
      return value;
    default:
      return value;
  }
};

/** Bytes become base64 before JSON.stringify sees them: Buffer's own toJSON would win over the replacer. */
const withoutBytes = (value: Value): Value => {
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  if (Array.isArray(value)) return value.map(withoutBytes);
  if (value !== null && typeof value === 'object' && !(value instanceof ExactNumber)) {
    const copy: Record<string, Value> = Object.create(null);
    for (const [field, inner] of Object.entries(value)) copy[field] = withoutBytes(inner);
    return copy;
  }
  return value;
};

/** JSON text of a value: bigint and exact numbers keep their digits, bytes are base64, NaN and infinities are strings. */
export const writeJson = (value: Value): string => {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return JSON.stringify(value);
    case 'number':
      if (Object.is(value, -0)) return '-0';
      return Number.isFinite(value) ? String(value) : `"${value}"`;
    case 'bigint':
      return String(value);
    default:
      return JSON.stringify(withoutBytes(value), replacer);
  }
};

/** JSON text with sorted keys and no spaces: equal values give equal text. The string form of partitions and keys. */
export const canonicalJson = (value: Value): string => {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (
    value !== null &&
    typeof value === 'object' &&
    !(value instanceof Uint8Array) &&
    !(value instanceof ExactNumber)
  ) {
    const fields = value as { readonly [field: string]: Value };
    const members = Object.keys(fields)
      .sort()
      .map((field) => `${JSON.stringify(field)}:${canonicalJson(fields[field] ?? null)}`);
    return `{${members.join(',')}}`;
  }
  return writeJson(value instanceof ExactNumber ? normalExact(value) : value);
};

/** One form for all ways to write the number. */
const normalExact = ({ text }: ExactNumber): Value => {
  const value = parseJson(text);
  return value instanceof ExactNumber ? new ExactNumber(normalizeDecimal(text)) : value;
};

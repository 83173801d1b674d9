import fc from 'fast-check';
import type { Value } from '../../shared/connect/schema.ts';

/** Any text of UTF-8, which has no halves of a surrogate pair. */
export const anyText = fc
  .oneof(
    fc.string({ unit: 'binary' }),
    fc.string({
      unit: fc.constantFrom('\\', '\t', '\n', '\r', "'", '"', 'N', '.', '😀', '\u007f', '\u0001', '{', ',', ' '),
    }),
  )
  .filter((s) => s.isWellFormed());
const pad = (n: number, length: number) => String(n).padStart(length, '0');
export const digits = (min: number, max: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: min, maxLength: max });
export const date = fc
  .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
  .map((d) => d.toISOString().slice(0, 10));
export const clock = fc
  .tuple(fc.nat(23), fc.nat(59), fc.nat(59), fc.option(digits(1, 6)), fc.constantFrom('', '0', '000'))
  .map(
    ([h, m, s, fraction, zeros]) =>
      `${pad(h, 2)}:${pad(m, 2)}:${pad(s, 2)}${fraction === null ? '' : `.${fraction}${zeros}`}`,
  )
  .filter((t) => t.length <= 18);
export const json = fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)) as Value);
export const int = (bits: number) => fc.integer({ min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 });

/**
 * An object of integers. Not by JSON.parse as a whole: where V8 13.6 has seen the key of one backslash, it takes an escaped key of one
 * character for that.
 */
export const entriesOf = (json: string) =>
  Object.fromEntries(
    Array.from(json.matchAll(/("(?:[^"\\]|\\.)*"): (-?\d+)/g), ([, key, n]) => [JSON.parse(key!), Number(n)]),
  );

/** A time without the zeros at the end. */
export const printed = (t: string) => t.replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '');
/** Sign, whole digits and fraction of a decimal without the zeros that do not count. */
export const decimalParts = (s: string) => {
  const [, sign = '', whole = '', fraction = ''] = /^(-?)0*(\d*)\.?(\d*?)0*$/.exec(s)!;
  return `${whole === '' && fraction === '' ? '' : sign}${whole}.${fraction}`;
};

/** Decimals of so many digits before and after the point. */
export const decimals = (whole: number, fraction: number) =>
  fc
    .tuple(fc.constantFrom('', '-'), digits(1, whole), digits(0, fraction))
    .map(([sign, before, after]) => `${sign}${before}${after === '' ? '' : `.${after}`}`);

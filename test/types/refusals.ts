/** What a refusal's message says is wrong, in the document's words. */
const refusals: readonly (readonly [RegExp, string])[] = [
  [/is no date/, 'zero dates'],
  [/is no time of day/, 'below 0, from 24:00:00 on'],
  [/a decimal has digits only|MySQL has no (NaN|-?Infinity)/, 'NaN, infinities'],
  [/no place in the calendar/, 'infinities, BC'],
  [/is no list/, 'several dimensions'],
  [/not read from the binlog exactly/, 'in the binlog: characters that are read otherwise'],
  [/years have four digits/, 'years from 10000 on'],
  [/digits after the point, this has more/, 'more than 30 digits after the point'],
  [/Out of range|Incorrect decimal value/, 'more than 35 digits before the point'],
  [/0x00|\\u0000/, 'U+0000'],
];

/** Throws where it is not one that is known. */
export const refusalOf = (message: string): string => {
  const known = refusals.find(([pattern]) => pattern.test(message));
  if (known === undefined) throw new Error(`refused, and not known why: ${message}`);
  return known[1];
};

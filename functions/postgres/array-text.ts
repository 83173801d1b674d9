const QUOTE = '"';
const BACKSLASH = '\\';

/**
 * The items of an array as PostgreSQL writes it, `{a,"b c",NULL}`; null is an item that is null. Undefined where it has more than one
 * dimension, or one that does not begin at 1: a list can't say that.
 */
export const arrayItems = (text: string, delimiter: string): readonly (string | null)[] | undefined => {
  if (text === '{}') return [];
  if (text[0] !== '{' || text[1] === '{') return undefined;
  const items: (string | null)[] = [];
  for (let at = 1; at < text.length; at++) {
    if (text[at] === QUOTE) {
      const end = closingQuote(text, at + 1);
      items.push(text.slice(at + 1, end).replace(/\\(.)/gs, '$1'));
      at = end + 1;
    } else {
      const start = at;
      while (at < text.length && text[at] !== delimiter && text[at] !== '}') at += text[at] === BACKSLASH ? 2 : 1;
      const item = text.slice(start, at);
      items.push(item === 'NULL' ? null : item.replace(/\\(.)/gs, '$1'));
    }
  }
  return items;
};

const closingQuote = (text: string, from: number): number => {
  let at = from;
  while (text[at] !== QUOTE) at += text[at] === BACKSLASH ? 2 : 1;
  return at;
};

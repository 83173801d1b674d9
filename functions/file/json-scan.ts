import {
  BACKSLASH,
  byteTable,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  DOT,
  isDigit,
  MINUS,
  NEWLINE,
  OPEN_BRACE,
  OPEN_BRACKET,
  PLUS,
  QUOTE,
  RETURN,
  SPACE,
  TAB,
  ZERO,
} from './ascii.ts';

/*
 * Finds where a JSON value ends, and accepts exactly what JSON.parse accepts. Every function returns the index after what it
 * read, or ~i where byte i can't be. The byte after the last one must be 0, which is valid nowhere: a scanner that ran out of
 * bytes fails at their end, and needs no other bounds check.
 */

/** What may stand between tokens. In JSON Lines a newline ends the row, so it is not among them. */
export const lineSpace = byteTable([SPACE, TAB, RETURN]);
export const arraySpace = byteTable([SPACE, TAB, RETURN, NEWLINE]);

/** Bytes that stand for themselves in a string. */
const plain = byteTable(Array.from({ length: 256 - 0x20 }, (_, i) => i + 0x20));
plain[QUOTE] = 0;
plain[BACKSLASH] = 0;

/** Passes bytes that stand for themselves. Four at a time: twice as fast as a plain loop, and most bytes are passed here. */
export const skipPlain = (data: Uint8Array, i: number): number => {
  for (;;) {
    if (plain[data[i]!] === 0) return i;
    if (plain[data[i + 1]!] === 0) return i + 1;
    if (plain[data[i + 2]!] === 0) return i + 2;
    if (plain[data[i + 3]!] === 0) return i + 3;
    i += 4;
  }
};

const escapes = byteTable(Buffer.from('"\\/bfnrt'));
const hexDigits = byteTable(Buffer.from('0123456789abcdefABCDEF'));
const LOWER_U = 0x75;

/** `i` is after the opening quote, or anywhere in the string that is no middle of an escape. */
export const skipString = (data: Uint8Array, i: number): number => {
  for (;;) {
    i = skipPlain(data, i);
    if (data[i] === QUOTE) return i + 1;
    if (data[i] !== BACKSLASH) return ~i;
    i++;
    if (data[i] === LOWER_U) {
      for (let digit = 1; digit <= 4; digit++) if (hexDigits[data[i + digit]!] !== 1) return ~(i + digit);
      i += 5;
    } else if (escapes[data[i]!] === 1) i++;
    else return ~i;
  }
};

const skipDigits = (data: Uint8Array, i: number): number => {
  if (!isDigit(data[i])) return ~i;
  while (isDigit(data[i])) i++;
  return i;
};

export const skipNumber = (data: Uint8Array, i: number): number => {
  if (data[i] === MINUS) i++;
  i = data[i] === ZERO ? i + 1 : skipDigits(data, i);
  if (i >= 0 && data[i] === DOT) i = skipDigits(data, i + 1);
  if (i >= 0 && (data[i]! | 0x20) === 0x65) {
    i++;
    if (data[i] === PLUS || data[i] === MINUS) i++;
    i = skipDigits(data, i);
  }
  return i;
};

const words = { t: Buffer.from('true'), f: Buffer.from('false'), n: Buffer.from('null') };

const skipWord = (data: Uint8Array, i: number, word: Uint8Array): number => {
  for (let k = 0; k < word.length; k++) if (data[i + k] !== word[k]) return ~(i + k);
  return i + word.length;
};

const skipScalar = (data: Uint8Array, i: number): number => {
  switch (data[i]) {
    case QUOTE:
      return skipString(data, i + 1);
    case 0x74:
      return skipWord(data, i, words.t);
    case 0x66:
      return skipWord(data, i, words.f);
    case 0x6e:
      return skipWord(data, i, words.n);
    default:
      return skipNumber(data, i);
  }
};

export const skipSpace = (data: Uint8Array, i: number, space: Uint8Array): number => {
  while (space[data[i]!] === 1) i++;
  return i;
};

/** Any value; `i` is its first byte. */
export const skipValue = (data: Uint8Array, i: number, space: Uint8Array): number =>
  data[i] === OPEN_BRACE || data[i] === OPEN_BRACKET ? skipContainer(data, i, space) : skipScalar(data, i);

/** The closing bytes of the containers that are open. One for all scans: a scan never waits. Its depth has no limit, as JSON.parse's. */
let open = new Uint8Array(64);

const skipContainer = (data: Uint8Array, i: number, space: Uint8Array): number => {
  let depth = 0;
  for (;;) {
    // At a value.
    const first = data[i];
    if (first === OPEN_BRACE || first === OPEN_BRACKET) {
      const close = first === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET;
      i = skipSpace(data, i + 1, space);
      if (data[i] === close) i++;
      else {
        if (depth === open.length) open = Buffer.concat([open, new Uint8Array(depth)]);
        open[depth++] = close;
        if (close === CLOSE_BRACE) i = skipKey(data, i, space);
        if (i < 0) return i;
        continue;
      }
    } else {
      i = skipScalar(data, i);
      if (i < 0) return i;
    }
    // After a value: close what ends here, and go on to the next one.
    for (;;) {
      if (depth === 0) return i;
      i = skipSpace(data, i, space);
      if (data[i] !== open[depth - 1]) break;
      depth--;
      i++;
    }
    if (data[i] !== COMMA) return ~i;
    i = skipSpace(data, i + 1, space);
    if (open[depth - 1] === CLOSE_BRACE) i = skipKey(data, i, space);
    if (i < 0) return i;
  }
};

/** A key, its colon and the space before the value. */
const skipKey = (data: Uint8Array, i: number, space: Uint8Array): number => {
  if (data[i] !== QUOTE) return ~i;
  i = skipString(data, i + 1);
  if (i < 0) return i;
  i = skipSpace(data, i, space);
  return data[i] === COLON ? skipSpace(data, i + 1, space) : ~i;
};

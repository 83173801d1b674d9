import { isUtf8 } from 'node:buffer';
import { BACKSLASH, CLOSE_BRACE, COLON, COMMA, LOWER_N, OPEN_BRACE, OPEN_BRACKET, QUOTE } from './ascii.ts';
import {
  type Cells,
  CONTAINER_KIND,
  createCells,
  ESCAPED,
  NULL_KIND,
  reserveRow,
  STRING_KIND,
  widen,
} from './cells.ts';
import { skipPlain, skipSpace, skipString, skipValue } from './json-scan.ts';

/** The object would add a column beyond `maxLearned` to rows that are there already. */
export const TOO_WIDE = -0x80000000;

/** Undeclared columns in one group: records with ever new keys (maps used as objects) must not make it wider and wider. */
const maxLearned = 1000;

export interface JsonObjects {
  readonly names: readonly string[];
  readonly cells: Cells;
  /**
   * Reads the object at data[at] into the cells of a row: the index after it; ~i where byte i can't be, and then no column was
   * learned; or TOO_WIDE. Absent fields have end 0, of a repeated key the last value counts, as for JSON.parse.
   */
  scan(data: Buffer, at: number, row: number): number;
  /** Forgets the undeclared columns. */
  forget(): void;
}

/**
 * Scans objects whose keys mostly come in one order: which key follows which is learned, so a key costs one comparison of bytes.
 * Any other order is found in a map, and learned in turn.
 */
export const createJsonObjects = (declared: readonly string[], space: Uint8Array): JsonObjects => {
  const cells = createCells(Math.max(declared.length, 8));
  const names: string[] = [];
  /** The bytes of `name":`, as JSON writes them. */
  const keys: Uint8Array[] = [];
  const columns = new Map<string, number>();
  /** By the column before, plus one: the column expected next. */
  let next = new Int32Array(64);

  const learn = (name: string): number => {
    const column = names.push(name) - 1;
    columns.set(name, column);
    keys.push(Buffer.from(`${JSON.stringify(name).slice(1)}:`));
    if (column + 1 >= next.length) {
      const grown = new Int32Array(next.length * 2);
      grown.set(next);
      next = grown;
    }
    next[column + 1] = column + 1;
    return column;
  };
  const unlearn = (count: number) => {
    for (const name of names.splice(count)) columns.delete(name);
    keys.length = count;
  };
  for (const name of declared) learn(name);

  /** The column of the key between two quotes; ~i for a key that is no text. */
  const find = (data: Buffer, from: number, to: number, row: number): number => {
    const bytes = data.subarray(from, to);
    const text = bytes.toString('utf8');
    const name: string = bytes.includes(BACKSLASH) ? JSON.parse(`"${text}"`) : text;
    const known = columns.get(name);
    if (known !== undefined) return known;
    if (!isUtf8(bytes) || !name.isWellFormed()) return ~from;
    if (row > 0 && names.length - declared.length >= maxLearned) return TOO_WIDE;
    const column = learn(name);
    if (column >= cells.width) widen(cells, column * 2, row);
    return column;
  };

  const scanObject = (data: Buffer, at: number, row: number): number => {
    reserveRow(cells, row);
    let { flat } = cells;
    let stride = cells.width * 2;
    let base = row * stride;
    for (let k = base; k < base + stride; k++) flat[k] = 0;
    let previous = 0;
    let i = skipSpace(data, at + 1, space);
    if (data[i] === CLOSE_BRACE) return i + 1;
    for (;;) {
      if (data[i] !== QUOTE) return ~i;
      let column = next[previous]!;
      let j = i + 1;
      if (column < keys.length) {
        const key = keys[column]!;
        let k = 0;
        while (k < key.length && data[j] === key[k]) {
          j++;
          k++;
        }
        if (k < key.length) column = keys.length;
      }
      if (column >= keys.length) {
        j = skipString(data, i + 1);
        if (j < 0) return j;
        column = find(data, i + 1, j - 1, row);
        if (column < 0) return column;
        flat = cells.flat;
        stride = cells.width * 2;
        base = row * stride;
        next[previous] = column;
        while (space[data[j]!] === 1) j++;
        if (data[j] !== COLON) return ~j;
        j++;
      }
      while (space[data[j]!] === 1) j++;
      const first = data[j];
      let end: number;
      let kind = 0;
      let escaped = 0;
      if (first === QUOTE) {
        kind = STRING_KIND;
        end = skipPlain(data, j + 1);
        if (data[end] === QUOTE) end++;
        else {
          end = skipString(data, end);
          escaped = ESCAPED;
        }
      } else {
        if (first === LOWER_N) kind = NULL_KIND;
        else if (first === OPEN_BRACE || first === OPEN_BRACKET) kind = CONTAINER_KIND;
        end = skipValue(data, j, space);
      }
      if (end < 0) return end;
      flat[base + column * 2] = j | kind;
      flat[base + column * 2 + 1] = end | escaped;
      previous = column + 1;
      while (space[data[end]!] === 1) end++;
      if (data[end] === CLOSE_BRACE) return end + 1;
      if (data[end] !== COMMA) return ~end;
      i = end + 1;
      while (space[data[i]!] === 1) i++;
    }
  };

  return {
    names,
    cells,
    scan(data, at, row) {
      const known = names.length;
      const end = scanObject(data, at, row);
      if (end < 0) unlearn(known);
      return end;
    },
    forget: () => unlearn(declared.length),
  };
};

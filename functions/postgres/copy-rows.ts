import type { Pages } from './copy-out.ts';
import { NULL_VALUE, type Slots } from './pgoutput.ts';

/** Where rows go. `take` answers false where there is no room for the row. */
export interface RowTaker {
  take(page: Buffer, row: Slots, bytes: number): boolean;
  /** Nothing of this page comes any more. */
  leave(page: Buffer): void;
}

/** The rows of one COPY in text format, in order, to be read in portions. */
export interface CopyRows {
  /** Takes rows until there is no room for one, or until the end. */
  read(taker: RowTaker): Promise<'full' | 'end'>;
}

const TAB = 0x09;
const LINE_END = 0x0a;
const BACKSLASH = 0x5c;
const LETTER_N = 0x4e;

export const createCopyRows = (pages: Pages, columns: number): CopyRows => {
  const row: Slots = new Int32Array(2 * columns);
  let page: Buffer | undefined;
  let at = 0;
  /** Behind the row that is read and not taken yet: reading changes its bytes, and so is done once. */
  let next = 0;
  return {
    async read(taker) {
      for (;;) {
        if (page === undefined || at >= page.length) {
          if (page !== undefined) taker.leave(page);
          page = await pages.next();
          at = 0;
          next = 0;
          if (page === undefined) return 'end';
        }
        if (next === at) next = readRow(page, at, row);
        if (!taker.take(page, row, next - at)) return 'full';
        at = next;
      }
    },
  };
};

/** Where the texts of a row are, and as the answer where it ends. What is escaped becomes itself, in its place. */
const readRow = (page: Buffer, start: number, row: Slots): number => {
  let begin = start;
  let isEscaped = false;
  for (let at = start, slot = 0; ; at++) {
    const byte = page[at]!;
    if (byte === BACKSLASH) {
      isEscaped = true;
      at++;
    } else if (byte === TAB || byte === LINE_END) {
      row[slot] = begin;
      row[slot + 1] = at;
      if (isEscaped) {
        if (at === begin + 2 && page[begin + 1] === LETTER_N) row[slot] = NULL_VALUE;
        else row[slot + 1] = unescaped(page, begin, at);
        isEscaped = false;
      }
      if (byte === LINE_END) return at + 1;
      slot += 2;
      begin = at + 1;
    }
  }
};

/** What a letter behind a backslash stands for; every other byte stands for itself. */
const controls: ReadonlyMap<number, number> = new Map([
  [0x62, 0x08],
  [0x66, 0x0c],
  [0x6e, 0x0a],
  [0x72, 0x0d],
  [0x74, 0x09],
  [0x76, 0x0b],
]);

const unescaped = (page: Buffer, start: number, end: number): number => {
  let to = start;
  for (let from = start; from < end; from++, to++) {
    const byte = page[from]!;
    page[to] = byte === BACKSLASH ? (controls.get(page[++from]!) ?? page[from]!) : byte;
  }
  return to;
};

import type { Pages } from './copy-out.ts';
import { NULL_VALUE, type Slots } from './pgoutput.ts';

/** Rows of COPY … TO STDOUT (FORMAT binary) whose values are texts. */
export interface CopyRows {
  readonly page: Buffer;
  /** Where the values of a row begin and end in it, one after the other. */
  readonly slots: Slots;
  readonly count: number;
  /** There was more than was to be kept. */
  readonly isCut: boolean;
}

/** The signature, flags and length of nothing. */
const headerBytes = 19;
const END = -1;

/** Reads all that comes, and keeps pages until they have so many bytes, and one more. */
export const readCopy = async (pages: Pages, width: number, maxBytes: number): Promise<CopyRows> => {
  const kept: Buffer[] = [];
  let bytes = 0;
  let isFull = false;
  let isCut = false;
  for (let page = await pages.next(); page !== undefined; page = await pages.next()) {
    // The end alone is nothing.
    if (isFull && page.length > 2) isCut = true;
    if (isFull) continue;
    isFull = bytes >= maxBytes;
    kept.push(page);
    bytes += page.length;
  }
  const page = kept.length === 1 ? kept[0]! : joined(kept, bytes);
  return { page, isCut, ...rowsOf(page, width) };
};

/** Memory of its own, so that it can be freed at once. */
const joined = (pages: readonly Buffer[], bytes: number): Buffer => {
  const all = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  for (const page of pages) at += page.copy(all, at);
  return all;
};

const rowsOf = (page: Buffer, width: number): Pick<CopyRows, 'slots' | 'count'> => {
  let slots = new Int32Array(2 * width * 1024);
  let count = 0;
  let to = 0;
  for (let at = headerBytes; at < page.length && page.readInt16BE(at) !== END; count++) {
    at += 2;
    if (to + 2 * width > slots.length) {
      const larger = new Int32Array(2 * slots.length);
      larger.set(slots);
      slots = larger;
    }
    for (let column = 0; column < width; column++) {
      const length = page.readInt32BE(at);
      at += 4;
      slots[to++] = length < 0 ? NULL_VALUE : at;
      if (length > 0) at += length;
      slots[to++] = at;
    }
  }
  return { slots, count };
};

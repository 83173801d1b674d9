import { expect, test } from 'vitest';
import { readCopy } from '../../../functions/postgres/copy-binary.ts';

/** One row of one text. */
const rowOf = (text: string): Buffer => {
  const row = Buffer.alloc(6 + text.length);
  row.writeInt16BE(1, 0);
  row.writeInt32BE(text.length, 2);
  row.write(text, 6);
  return row;
};
const header = Buffer.alloc(19);
const end = Buffer.from([0xff, 0xff]);

const pagesOf = (...pages: Buffer[]) => {
  let asked = 0;
  return { next: async () => pages[asked++], asked: () => asked };
};

const textsOf = ({ page, slots, count }: Awaited<ReturnType<typeof readCopy>>) =>
  Array.from({ length: count }, (_, row) => page.toString('latin1', slots[2 * row], slots[2 * row + 1]));

test('keeps what has so many bytes, and a page more; the rest is read and let go', async () => {
  const rows = ['a', 'b', 'c', 'd', 'e'].map((letter) => rowOf(letter.repeat(100)));
  const pages = pagesOf(Buffer.concat([header, rows[0]!]), ...rows.slice(1), end);
  const read = await readCopy(pages, 1, 150);
  expect(textsOf(read).map((text) => text[0])).toEqual(['a', 'b', 'c']);
  expect(read.page.length).toBeLessThan(400);
  expect(read.isCut).toBe(true);
  expect(pages.asked()).toBe(7);
});

test.each([
  ['in a page of its own', [Buffer.concat([header, rowOf('a')]), end]],
  ['behind the rows', [Buffer.concat([header, rowOf('a'), end])]],
])('the end, %s, is no row', async (_where, pages) => {
  const read = await readCopy(pagesOf(...pages), 1, 1);
  expect(textsOf(read)).toEqual(['a']);
  expect(read.isCut).toBe(false);
});

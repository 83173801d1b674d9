import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mulberry32 } from '../infra/local/mulberry32.ts';

/**
 * Rows like TPC-H's lineitem, as JSON lines of about 418 bytes: 17 fields, 4 integers, 4 decimals, 3 dates, 5 texts, a timestamp. The
 * same `rows` give the same file.
 */
export const writeLineitem = async (path: string, rows: number): Promise<void> => {
  const out = createWriteStream(path, { highWaterMark: 1 << 20 });
  const random = mulberry32(42);
  let chunk = '';
  for (let row = 0; row < rows; row++) {
    chunk += `${line(row, random)}\n`;
    if (chunk.length < 1 << 20) continue;
    if (!out.write(chunk)) await once(out, 'drain');
    chunk = '';
  }
  out.end(chunk);
  await once(out, 'finish');
};

const modes = ['AIR', 'SHIP', 'RAIL', 'TRUCK', 'MAIL', 'FOB', 'REG AIR'];
const instructions = ['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'];
const words =
  'quickly final deposits sleep across the ironic requests furiously über bold pinto beans – carefully regular accounts haggle'.split(
    ' ',
  );

const line = (row: number, random: () => number): string => {
  const integer = (below: number) => Math.floor(random() * below);
  const decimal = (below: number) => (random() * below).toFixed(2);
  const date = () => new Date(Date.UTC(1992, 0, 1) + integer(2500) * 86_400_000).toISOString().slice(0, 10);
  const comment = Array.from({ length: 4 + integer(3) }, () => words[integer(words.length)]).join(' ');
  return JSON.stringify({
    l_orderkey: (row >> 2) + 1,
    l_partkey: integer(200_000),
    l_suppkey: integer(10_000),
    l_linenumber: (row & 3) + 1,
    l_quantity: decimal(50),
    l_extendedprice: decimal(100_000),
    l_discount: decimal(0.1),
    l_tax: decimal(0.08),
    l_returnflag: 'ANR'[integer(3)],
    l_linestatus: 'OF'[integer(2)],
    l_shipdate: date(),
    l_commitdate: date(),
    l_receiptdate: date(),
    l_shipinstruct: instructions[integer(4)],
    l_shipmode: modes[integer(7)],
    l_comment: comment,
    l_updated: `${date()}T12:34:56.${String(integer(1e6)).padStart(6, '0')}Z`,
  });
};

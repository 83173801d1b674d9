import { hash } from 'node:crypto';
import { createTextOutput, reserve, type TextOutput, writeByte, written } from '../connect/text-output.ts';
import type { KeyTexts, RowPart, VerifiedTable } from '../connect/verify.ts';
import { murmur2 } from '../log/murmur2.ts';
import { writersOf } from './canonical.ts';

/**
 * Rows are counted and summed by a hash of their key: the order in which a database keeps keys does not matter then. Of buckets that
 * differ all rows are listed, so that many buckets make short lists; those of all fit one answer.
 */
const buckets = 65_536;

/** One row in canonical form. Valid until the next one. */
export interface RowForm {
  readonly bucket: number;
  /** 64 bits of a SHA-256 of all its columns. */
  readonly hash: Buffer;
  key(): KeyTexts;
  /** By column of the table: its canonical bytes, null where it is null. */
  values(): readonly (Buffer | null)[];
}

const NULL_MARK = 0;
const VALUE_MARK = 1;
const lengthBytes = 4;

/** Goes through rows. `columns` are those to compare, without what the destination may lack; the key's come first. */
export const rowForms = (table: VerifiedTable): ((part: RowPart) => Iterable<RowForm>) => {
  const { key, columns } = table;
  const ordered = [
    ...key.map((name) => columns.find((column) => column.name === name)!),
    ...columns.filter(({ name }) => !key.includes(name)),
  ];
  const place = columns.map((column) => ordered.indexOf(column));
  const isBytes = key.map((name) => columns.find((column) => column.name === name)!.type === 'bytes');
  const out = createTextOutput();
  /** Where each column's mark is. */
  const starts = new Uint32Array(ordered.length + 1);
  const bytesAt = (column: number): Buffer | null =>
    out.data[starts[column]!] === NULL_MARK
      ? null
      : out.data.subarray(starts[column]! + 1 + lengthBytes, starts[column + 1]);
  return function* (part) {
    const writers = writersOf(part, ordered);
    for (let row = 0; row < part.count; row++) {
      out.length = 0;
      for (let i = 0; i < writers.length; i++) {
        starts[i] = out.length;
        writeMarked(out, () => writers[i]!(out, row));
      }
      starts[ordered.length] = out.length;
      yield {
        bucket: (murmur2(out.data, 0, starts[key.length]) & 0x7fffffff) % buckets,
        hash: hash('sha256', written(out), 'buffer').subarray(0, 8),
        key: () => isBytes.map((bytes, i) => bytesAt(i)!.toString(bytes ? 'latin1' : 'utf8')),
        values: () => place.map(bytesAt),
      };
    }
  };
};

/** A mark, and before the value its length: of two rows whose values run on differently none is taken for the other. */
const writeMarked = (out: TextOutput, write: () => boolean): void => {
  const at = out.length;
  writeByte(out, VALUE_MARK);
  reserve(out, lengthBytes);
  out.length += lengthBytes;
  if (write()) {
    out.words.setUint32(at + 1, out.length - at - 1 - lengthBytes);
    return;
  }
  out.data[at] = NULL_MARK;
  out.length = at + 1;
};

/** A bucket that has rows: its number, their count, and the sum of their hashes modulo 2^64, which no order of rows changes, in hexadecimal. */
export type BucketSum = readonly [bucket: number, count: number, sum: string];

export interface Sums {
  add(bucket: number, hash: Buffer): void;
  all(): readonly BucketSum[];
}

export const createSums = (): Sums => {
  const counts = new Uint32Array(buckets);
  const sums = new BigUint64Array(buckets);
  return {
    add(bucket, rowHash) {
      counts[bucket]!++;
      sums[bucket]! += rowHash.readBigUInt64BE(0);
    },
    all: () =>
      Array.from(counts.entries()).flatMap(([bucket, count]) =>
        count === 0 ? [] : [[bucket, count, sums[bucket]!.toString(16)] as const],
      ),
  };
};

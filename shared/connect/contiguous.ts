import type { BytesColumn } from './batch.ts';
import { bufferOf, shortCopy } from './buffers.ts';

type Bytes = Pick<BytesColumn, 'data' | 'starts' | 'ends'>;
type Places = Pick<Bytes, 'starts' | 'ends'>;

/*
 * Rows whose bytes lie one behind the other: each ends where the next one starts, so one array holds the starts and, from its second
 * element on, the ends. They are known by that.
 */

const isContiguous = ({ starts, ends }: Places): boolean =>
  starts.buffer === ends.buffer && ends.byteOffset === starts.byteOffset + starts.BYTES_PER_ELEMENT;

/** The rows whose places are these: row i's bytes are from element i to the next one. */
export const contiguous = (places: Uint32Array): Places => ({
  starts: places.subarray(0, -1),
  ends: places.subarray(1),
});

/** The places of contiguous rows of these lengths. */
export const placesOf = (lengths: Uint32Array): Places => {
  const places = new Uint32Array(lengths.length + 1);
  for (let row = 0, at = 0; row < lengths.length; row++) places[row + 1] = at += lengths[row]!;
  return contiguous(places);
};

/** The same rows, contiguous, in memory of their own. */
export const toContiguous = (rows: Bytes): Bytes => {
  const { starts, ends } = rows;
  // From Node's pool where they are small: thousands of columns would be thousands of array buffers.
  const { buffer, byteOffset } = Buffer.allocUnsafe((starts.length + 1) * 4);
  const places = new Uint32Array(buffer, byteOffset, starts.length + 1);
  let at = 0;
  places[0] = 0;
  for (let row = 0; row < starts.length; row++) places[row + 1] = at += ends[row]! - starts[row]!;
  const data = Buffer.allocUnsafe(at);
  gatherBytes(rows, data, 0);
  return { data, ...contiguous(places) };
};

/** Copies the rows' bytes without gaps. Short rows are copied by hand: a call per row costs more than the bytes. */
export const gatherBytes = (rows: Bytes, target: Buffer, offset: number): void => {
  const { data, starts, ends } = rows;
  const source = bufferOf(data);
  if (isContiguous(rows)) {
    source.copy(target, offset, starts[0] ?? 0, ends.at(-1) ?? 0);
    return;
  }
  let at = offset;
  for (let row = 0; row < starts.length; row++) {
    const from = starts[row]!;
    const to = ends[row]!;
    if (to - from > shortCopy) at += source.copy(target, at, from, to);
    else for (let i = from; i < to; i++) target[at++] = data[i]!;
  }
};

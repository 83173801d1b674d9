import { batchBytes, type RecordBatch, sliceBatch } from './batch.ts';

/** How many records of a batch reach so many bytes: all, where they do not, and at least one. */
export const fitting = (batch: RecordBatch, maxBytes: number): number => {
  if (batch.count <= 1 || batchBytes(sliceBatch(batch, 0, batch.count - 1)) < maxBytes) return batch.count;
  let low = 1;
  let high = batch.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (batchBytes(sliceBatch(batch, 0, middle)) < maxBytes) low = middle + 1;
    else high = middle;
  }
  return low;
};

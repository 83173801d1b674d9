import { batchOfGroups, gatherBatch } from '../connect/batch.ts';
import { truncatesOf, unwrapped } from '../connect/envelope.ts';
import type { Transform } from '../connect/transform.ts';

/**
 * Changes as the rows that they leave: Debezium's ExtractNewRecordState. What is no change stays as it is. A row that was deleted becomes a
 * record without value, and so do the tombstones behind it: to delete twice does no harm. That a table was emptied is no row: it is left out, as there.
 */
const unwrap: Transform = {
  name: 'unwrap',
  stage: 'TRANSFORMATION',
  apply({ groups }) {
    const batch = batchOfGroups(groups.map(unwrapped));
    const truncates = new Set<number>();
    let start = 0;
    for (const group of groups) {
      for (const row of truncatesOf(group)) truncates.add(start + row);
      start += group.count;
    }
    if (truncates.size === 0) return { batch };
    const origin = Uint32Array.from({ length: start }, (_, row) => row).filter((row) => !truncates.has(row));
    return { batch: gatherBatch(batch, origin), origin };
  },
};

export default unwrap;

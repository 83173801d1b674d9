import { batchOfGroups } from '../connect/batch.ts';
import { unwrapped } from '../connect/envelope.ts';
import type { Transform } from '../connect/transform.ts';

/**
 * Changes as the rows that they leave: Debezium's ExtractNewRecordState. What is no change stays as it is. A row that was deleted becomes a
 * record without value, and so do the tombstones behind it: to delete twice does no harm.
 */
const unwrap: Transform = {
  name: 'unwrap',
  stage: 'TRANSFORMATION',
  apply: ({ groups }) => ({ batch: batchOfGroups(groups.map(unwrapped)) }),
};

export default unwrap;

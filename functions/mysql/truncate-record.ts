import { batchOf } from '../../shared/connect/build.ts';
import type { RowGroup, RowOrigin } from './row-columns.ts';
import type { RowSchema, TableDefinition } from './row-schema.ts';

/** The record of a table that was emptied, as Debezium tells it: without key, and without a row before and after. */
export const truncateGroup = <Origin extends RowOrigin>(
  { topic, topicPrefix, key, envelope }: RowSchema,
  { database, name }: TableDefinition,
  origin: Origin,
  record: number,
): RowGroup<Origin> => {
  const { timestampMs, gtid, file, pos } = origin;
  const ts_ms = BigInt(timestampMs);
  const source = {
    ...{ connector: 'mysql', name: topicPrefix, ts_ms, snapshot: false, db: database, table: name },
    ...{ gtid: gtid ?? null, file, pos: BigInt(pos), row: null },
  };
  const value = { before: null, after: null, source, transaction: null, op: 't', ts_ms };
  const { groups } = batchOf([{ topic, key: null, keySchema: key, value, valueSchema: envelope, timestampMs }]);
  return { group: groups[0], placeOf: () => ({ origin, record }), bad: [] };
};

import type { RecordGroup } from '../../shared/connect/batch.ts';
import { batchOf } from '../../shared/connect/build.ts';
import type { TransactionOrder } from '../../shared/connect/envelope.ts';
import { type RowOrigin, transactionId } from './row-columns.ts';
import type { RowSchema, TableDefinition } from './row-schema.ts';

/** The record of a table that was emptied, as Debezium tells it: without key, and without a row before and after. */
export const truncateGroup = (
  { topic, topicPrefix, key, envelope }: RowSchema,
  { database, name }: TableDefinition,
  origin: RowOrigin,
  order: TransactionOrder | undefined,
): RecordGroup => {
  const { timestampMs, gtid, file, pos } = origin;
  const ts_ms = BigInt(timestampMs);
  const source = {
    ...{ connector: 'mysql', name: topicPrefix, ts_ms, snapshot: false, db: database, table: name },
    ...{ gtid: gtid ?? null, file, pos: BigInt(pos), row: null },
  };
  const transaction = order && {
    id: transactionId(origin),
    total_order: BigInt(order.total),
    data_collection_order: BigInt(order.collection),
  };
  const value = { before: null, after: null, source, transaction: transaction ?? null, op: 't', ts_ms };
  const { groups } = batchOf([{ topic, key: null, keySchema: key, value, valueSchema: envelope, timestampMs }]);
  return groups[0]!;
};

import { gatherGroup } from '../../shared/connect/batch.ts';
import type { Budget, Poll } from '../../shared/connect/connector.ts';
import { keyIdsOf, keysOf, type Repair, repairPoll } from '../../shared/sql/repair.ts';
import type { BinlogPlace } from './binlog.ts';
import type { MysqlCdcOffset } from './cdc-offset.ts';
import { conditionOf } from './key-condition.ts';
import { createPacketRows } from './packet-rows.ts';
import type { View } from './server.ts';
import { groupOf, pageQuery, type SnapshotTable } from './snapshot.ts';

/** The rows of an order's next keys as they are in the view. */
export const pollRepair = async (
  table: SnapshotTable,
  { connection, place }: View,
  repair: Repair<BinlogPlace>,
  budget: Budget,
): Promise<Poll<MysqlCdcOffset>> => {
  const { schema, database, name } = table;
  const keys = keysOf(repair, budget);
  const where = keys.flatMap((key) => conditionOf(schema.keyColumns, key) ?? []);
  const rows = createPacketRows(schema.columns, where.length);
  if (where.length > 0) {
    const { sql } = pageQuery(table, schema.columns, { after: null, to: null, limit: where.length, where });
    await connection.rows(sql, [], rows.add);
  }
  const all = groupOf(rows, table);
  const good = Uint32Array.from({ length: rows.count }, (_, row) => row).filter((row) => !rows.refused.has(row));
  const ids = keyIdsOf(all);
  return repairPoll(
    repair,
    keys,
    {
      view: place,
      groups: [gatherGroup(all, good)],
      refused: new Set(Array.from(rows.refused.keys(), (row) => ids[row]!)),
      topic: schema.topic,
      keySchema: schema.key!,
      valueSchema: schema.envelope,
      source: {
        ...{ connector: 'mysql', name: schema.topicPrefix, snapshot: true, db: database, table: name },
        ...{ ts_ms: null, gtid: null, file: null, pos: null, row: null },
      },
    },
    budget,
  );
};

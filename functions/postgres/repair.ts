import type { Budget, Poll } from '../../shared/connect/connector.ts';
import { keyIdsOf, keysOf, type Repair, repairPoll } from '../../shared/sql/repair.ts';
import type { PostgresCdcOffset, StreamOffset, View } from './cdc-offset.ts';
import { createCopyRows } from './copy-rows.ts';
import { conditionOf } from './key-condition.ts';
import { lost, readSlot, requirePosition } from './slot.ts';
import { openView, type SnapshotOptions } from './snapshot.ts';
import { writersEnded } from './snapshot-plan.ts';
import { readTable, selectRows } from './snapshot-table.ts';
import { createTaker } from './verify.ts';

/** The rows of an order's next keys, in a view that has every change up to the stream's position. */
export const pollRepair = (
  { names, session, layouts }: Omit<SnapshotOptions, 'incarnation'>,
  topicPrefix: string,
  repair: Repair<View>,
  stored: StreamOffset | undefined,
  budget: Budget,
): Promise<Poll<PostgresCdcOffset>> =>
  session.use(budget.signal, async (connection) => {
    // A commit is in the WAL, and may be told, before it is visible: who has written by now keeps the table's lock until it is.
    await writersEnded(connection, { name: repair.table });
    const seen = await openView(connection, repair.table);
    try {
      const state = await readSlot(connection, names.slot);
      if (stored === undefined) throw lost(`rows of ${repair.table} are to be sent again, and no change is read yet`);
      requirePosition(state, names, stored);
      const table = await readTable(connection, layouts, repair.table, names.publication);
      const keys = keysOf(repair, budget);
      const where = keys.flatMap((key) => conditionOf(table.layout.key, key) ?? []);
      const said = { version: state.version, name: topicPrefix, db: state.database };
      const taker = createTaker(table, said);
      if (where.length > 0) {
        const query = selectRows(table, [`(${where.join(' OR ')})`]);
        await createCopyRows(connection.copyOut(`COPY (${query}) TO STDOUT`), table.layout.fields.length).read(taker);
      }
      const { groups, bad } = taker.finish();
      const found = new Set(groups.flatMap(keyIdsOf));
      return repairPoll(
        repair,
        keys,
        {
          view: { ...seen, timeline: state.timeline },
          groups,
          // Which keys the bad rows have is not told: none of those that were not found is taken for deleted.
          refused: new Set(bad === 0 ? [] : keys.map((key) => JSON.stringify(key)).filter((id) => !found.has(id))),
          topic: table.layout.topic,
          keySchema: table.layout.keySchema,
          valueSchema: table.layout.valueSchema,
          source: {
            ...{ ...said, connector: 'postgresql', snapshot: 'false', ts_ms: null, txId: null, lsn: null },
            ...{ schema: table.layout.relation.schema, table: table.layout.relation.table },
          },
        },
        budget,
      );
    } finally {
      await session.close();
    }
  });

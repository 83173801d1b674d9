import { batchOfGroups } from '../connect/batch.ts';
import type { Poll } from '../connect/connector.ts';
import { commitGroups } from '../connect/control.ts';
import type { TransactionOrder } from '../connect/envelope.ts';

/**
 * Counts the changes of a transaction as it is read. What is passed over (a skipped operation, a change that a snapshot's row has already,
 * what was read by a run before) counts like the others, so that a change has one place however often it is read.
 */
export interface TransactionCount {
  begin(): void;
  /** The topics with changes of it. */
  readonly topics: ReadonlySet<string>;
  /** The place of the change that comes `ahead` behind those that are passed: 1 is the next one. */
  placeOf(table: string, ahead: number): TransactionOrder;
  pass(table: string, topic: string, changes: number): void;
}

export const createTransactionCount = (): TransactionCount => {
  const topics = new Set<string>();
  const ofTable = new Map<string, number>();
  let total = 0;
  return {
    topics,
    begin() {
      topics.clear();
      ofTable.clear();
      total = 0;
    },
    placeOf: (table, ahead) => ({ total: total + ahead, collection: (ofTable.get(table) ?? 0) + ahead }),
    pass(table, topic, changes) {
      topics.add(topic);
      ofTable.set(table, (ofTable.get(table) ?? 0) + changes);
      total += changes;
    },
  };
};

/**
 * Where all changes go to one topic, an end is told after so many records, or where nothing stands behind it in its poll. Those between are
 * passed over: each is a group by itself, and of many only the last one matters. What stands behind an end in a poll has an end to come,
 * which ends what was passed over as well. Several topics may be read by several sinks, so there each end is told.
 */
export const recordsPerEnd = 100;

/**
 * Rows of a snapshot are of no transaction. Each poll of them ends as one does, or a sink that waits for ends would hold all of them until
 * the first change, in partitions in which none comes. The end shares the offset of the last row: how the rows are cut moves no offset.
 */
export const endingAsTransaction = <Offset>(poll: Poll<Offset>): Poll<Offset> => {
  const { batch } = poll;
  const last = batch.groups.at(-1);
  if (last === undefined) return poll;
  return {
    ...poll,
    batch: batchOfGroups([...batch.groups, ...commitGroups([last.topic], 'snapshot')]),
    position: (index) => poll.position(Math.min(index, batch.count - 1)),
  };
};

import { batchBytes, batchOfGroups } from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import type { Budget, Poll, RejectedSourceRecord } from '../../shared/connect/connector.ts';
import { commitGroups } from '../../shared/connect/control.ts';
import { rowError } from '../../shared/connect/errors.ts';
import { recordsPerEnd } from '../../shared/sql/transactions.ts';
import type { PostgresCdcOffset, StreamOffset } from './cdc-offset.ts';
import type { Place, Taker } from './changes.ts';
import { type Transaction, transactionId } from './pgoutput.ts';
import { createGroup, type GroupBuilder, type RowGroup, type RowPlace, type SourceNames } from './row-columns.ts';

/** One poll's records in the making. */
export interface ChangeBatch extends Taker {
  /** Records taken, those that will be refused included. */
  readonly count: number;
  finish(offsetAt: (place: Place) => StreamOffset): FinishedBatch;
}

export type FinishedBatch = Pick<Poll<PostgresCdcOffset>, 'batch' | 'position' | 'release'> & {
  readonly rejected: readonly RejectedSourceRecord<PostgresCdcOffset>[];
};

export const createBatch = (
  { maxRecords, maxBytes }: Pick<Budget, 'maxRecords' | 'maxBytes'>,
  partition: { readonly server: string },
  names: SourceNames,
  isOneTopic = false,
): ChangeBatch => {
  const finished: { readonly rows: RowGroup; readonly topic: string }[] = [];
  /** Pages that nothing else reads. */
  const left: Buffer[] = [];
  let current: GroupBuilder | undefined;
  let count = 0;
  let bytes = 0;
  /** The end of a transaction that nothing stands behind. */
  let ended:
    | { readonly topics: ReadonlySet<string>; readonly transaction: Transaction; readonly lsn: bigint }
    | undefined;
  /** Records up to the last end that is told. */
  let told = 0;

  const isFull = () => count >= maxRecords || (count > 0 && bytes >= maxBytes);

  const settle = () => {
    if (current !== undefined) finished.push({ rows: current.finish(), topic: current.layout.topic });
    current = undefined;
  };

  const tellEnd = () => {
    if (ended === undefined) return;
    const { topics, transaction, lsn } = ended;
    ended = undefined;
    settle();
    const place = { transaction: { ...transaction, lsn }, row: 0, record: 0 };
    const ends = commitGroups(topics, transactionId(transaction));
    for (const group of ends)
      finished.push({ rows: { group, placeOf: () => place, bad: [], free: () => {} }, topic: group.topic });
    count += topics.size;
    told = count;
    bytes += batchBytes(batchOfGroups(ends));
  };

  return {
    get count() {
      return count;
    },
    take(layout, page, row, place, size) {
      if (isFull()) return false;
      ended = undefined;
      if (current?.layout !== layout || current.page !== page) {
        settle();
        current = createGroup(layout, page, names);
      }
      current.add(row, place);
      count++;
      bytes += size;
      return true;
    },
    end(topics, transaction, lsn) {
      if (isFull()) return false;
      ended = { topics: new Set(topics), transaction, lsn };
      // One that a full batch had no room for is the first of the next.
      if (!isOneTopic || count === 0 || count - told >= recordsPerEnd) tellEnd();
      return true;
    },
    leave(page) {
      settle();
      left.push(page);
    },
    finish(offsetAt) {
      tellEnd();
      settle();
      const at = ({ transaction, row, record }: RowPlace) => ({
        partition,
        offset: offsetAt({ lsn: transaction.lsn, row, record }),
      });
      const filled = finished.flatMap(({ rows }) => (rows.group === undefined ? [] : [{ rows, group: rows.group }]));
      return {
        batch: batchOfGroups(filled.map(({ group }) => group)),
        position(index) {
          let row = index;
          for (const { rows, group } of filled) {
            if (row < group.count) return at(rows.placeOf(row));
            row -= group.count;
          }
          throw new RangeError(`record ${index} of a batch of ${index - row}`);
        },
        rejected: rejectedOf(finished, at),
        release() {
          for (const { rows } of finished) rows.free();
          for (const page of left) freeBuffer(page);
        },
      };
    },
  };
};

const rejectedOf = (
  finished: readonly { readonly rows: RowGroup; readonly topic: string }[],
  at: (place: RowPlace) => Pick<RejectedSourceRecord<PostgresCdcOffset>, 'partition' | 'offset'>,
): RejectedSourceRecord<PostgresCdcOffset>[] => {
  let before = 0;
  return finished.flatMap(({ rows, topic }) => {
    const rejected = rows.bad.map(({ index, place, problem, raw }) => ({
      index: before + index,
      error: rowError(`a change of topic ${topic}: ${problem}`),
      raw,
      topic,
      ...at(place),
    }));
    before += rows.group?.count ?? 0;
    return rejected;
  });
};

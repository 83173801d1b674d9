import { batchBytes, batchOfGroups, freeGroup, type RecordGroup } from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import type { Budget, Partition, Poll, RejectedSourceRecord } from '../../shared/connect/connector.ts';
import { commitGroups } from '../../shared/connect/control.ts';
import type { TransactionOrder } from '../../shared/connect/envelope.ts';
import { rowError } from '../../shared/connect/errors.ts';
import { recordsPerEnd } from '../../shared/sql/transactions.ts';
import type { StreamOffset } from './cdc-offset.ts';
import { createGroup, type GroupBuilder, type Row, type RowOrigin } from './row-columns.ts';
import type { RowSchema, TableDefinition } from './row-schema.ts';
import type { TableLayout } from './table-layout.ts';
import { truncateGroup } from './truncate-record.ts';
import type { ReadValues } from './value-column.ts';

/** Where the records of a transaction's rows resume: behind so many of its records. */
export interface Origin extends RowOrigin {
  offsetAt(record: number): StreamOffset;
}

/** One poll's records in the making. */
export interface ChangeBatch {
  /** Records taken, those that will be refused included. */
  readonly count: number;
  readonly isFull: boolean;
  /** Copies row images, and answers where they are now. */
  copy(data: Buffer, start: number, end: number): number;
  /** Takes a record whose values lie from `base` on; `bytes` it weighs at most. `order`: where transactions are told. */
  take(
    layout: TableLayout,
    row: Row,
    base: number,
    origin: Origin,
    record: number,
    bytes: number,
    order: TransactionOrder | undefined,
  ): void;
  /** Takes the record of a table that was emptied. */
  takeTruncate(
    schema: RowSchema,
    table: TableDefinition,
    origin: Origin,
    record: number,
    order: TransactionOrder | undefined,
  ): void;
  /** The end of a transaction that changed tables of these topics, behind which reading goes on at `offset`. */
  end(topics: ReadonlySet<string>, transaction: string, offset: StreamOffset): void;
  finish(): Pick<Poll<StreamOffset>, 'batch' | 'position' | 'rejected' | 'release'>;
}

/** Records that are no rows, and share a place: the end of a transaction in the topic of one table, a table that was emptied. */
interface MadeGroup {
  readonly layout: undefined;
  readonly group: RecordGroup;
  readonly offset: StreamOffset;
}

const finishedMade = ({ group, offset }: MadeGroup) => {
  const place = { origin: { offsetAt: () => offset }, record: 0 };
  return { topic: group.topic, group, bad: [], placeOf: () => place };
};

const firstBytes = 64 * 1024;

export const createBatch = (
  { maxRecords, maxBytes }: Pick<Budget, 'maxRecords' | 'maxBytes'>,
  partition: Partition,
  read: ReadValues,
  isOneTopic: boolean,
): ChangeBatch => {
  const groups: (GroupBuilder<Origin> | MadeGroup)[] = [];
  let data = Buffer.allocUnsafeSlow(firstBytes);
  let length = 0;
  let count = 0;
  let bytes = 0;
  /** The end of a transaction that nothing stands behind. */
  let ended:
    | { readonly topics: ReadonlySet<string>; readonly transaction: string; readonly offset: StreamOffset }
    | undefined;
  /** Records up to the last end that is told. */
  let told = 0;

  const makeRoom = (more: number) => {
    if (length + more <= data.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * data.length, length + more));
    data.copy(larger, 0, 0, length);
    freeBuffer(data);
    data = larger;
  };

  const tellEnd = () => {
    if (ended === undefined) return;
    const { topics, transaction, offset } = ended;
    ended = undefined;
    const ends = commitGroups(topics, transaction);
    for (const group of ends) groups.push({ layout: undefined, group, offset });
    count += topics.size;
    told = count;
    bytes += batchBytes(batchOfGroups(ends));
  };

  return {
    get count() {
      return count;
    },
    get isFull() {
      return count >= maxRecords || bytes >= maxBytes;
    },
    copy(source, start, end) {
      makeRoom(end - start);
      const at = length;
      length += source.copy(data, at, start, end);
      return at;
    },
    take(layout, row, base, origin, record, size, order) {
      ended = undefined;
      let group = groups.at(-1);
      if (group?.layout !== layout) {
        group = createGroup(layout, read);
        groups.push(group);
      }
      group.add(row, base, origin, record, order);
      count++;
      bytes += size;
    },
    takeTruncate(schema, table, origin, record, order) {
      const group = truncateGroup(schema, table, origin, order);
      groups.push({ layout: undefined, group, offset: origin.offsetAt(record) });
      count++;
      bytes += batchBytes(batchOfGroups([group]));
    },
    end(topics, transaction, offset) {
      ended = { topics, transaction, offset };
      // One that a full batch had no room for is the first of the next.
      if (!isOneTopic || count === 0 || count - told >= recordsPerEnd) tellEnd();
    },
    finish() {
      tellEnd();
      const finished = groups.map((group) =>
        group.layout === undefined ? finishedMade(group) : { topic: group.layout.schema.topic, ...group.finish(data) },
      );
      const filled = finished.flatMap(({ group, placeOf }) => (group === undefined ? [] : [{ group, placeOf }]));
      const at = ({ origin, record }: { readonly origin: Pick<Origin, 'offsetAt'>; readonly record: number }) => ({
        partition,
        offset: origin.offsetAt(record),
      });
      const rejected: RejectedSourceRecord<StreamOffset>[] = [];
      let before = 0;
      for (const { topic, bad, group } of finished) {
        for (const { index, problem, raw, ...place } of bad)
          rejected.push({ index: before + index, error: rowError(problem), raw, topic, ...at(place) });
        before += group?.count ?? 0;
      }
      return {
        batch: batchOfGroups(filled.map(({ group }) => group)),
        position(index) {
          let row = index;
          for (const { group, placeOf } of filled) {
            if (row < group.count) return at(placeOf(row));
            row -= group.count;
          }
          throw new RangeError(`record ${index} of a batch of ${index - row}`);
        },
        ...(rejected.length === 0 ? {} : { rejected }),
        release() {
          freeBuffer(data);
          for (const { group } of filled) freeGroup(group);
        },
      };
    },
  };
};

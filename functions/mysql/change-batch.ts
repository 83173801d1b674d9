import { batchOfGroups, freeGroup } from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import type { Budget, Partition, Poll, RejectedSourceRecord } from '../../shared/connect/connector.ts';
import { rowError } from '../../shared/connect/errors.ts';
import type { StreamOffset } from './cdc-offset.ts';
import { createGroup, type GroupBuilder, type Row, type RowGroup, type RowOrigin } from './row-columns.ts';
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
  /** Takes a record whose values lie from `base` on; `bytes` it weighs at most. */
  take(layout: TableLayout, row: Row, base: number, origin: Origin, record: number, bytes: number): void;
  /** Takes the record of a table that was emptied. */
  takeTruncate(schema: RowSchema, table: TableDefinition, origin: Origin, record: number): void;
  finish(): Pick<Poll<StreamOffset>, 'batch' | 'position' | 'rejected' | 'release'>;
}

const firstBytes = 64 * 1024;

export const createBatch = (
  { maxRecords, maxBytes }: Pick<Budget, 'maxRecords' | 'maxBytes'>,
  partition: Partition,
  read: ReadValues,
): ChangeBatch => {
  const groups: { readonly topic: string; finish(data: Buffer): RowGroup<Origin> }[] = [];
  let open: GroupBuilder<Origin> | undefined;
  let data = Buffer.allocUnsafeSlow(firstBytes);
  let length = 0;
  let count = 0;
  let bytes = 0;

  const makeRoom = (more: number) => {
    if (length + more <= data.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * data.length, length + more));
    data.copy(larger, 0, 0, length);
    freeBuffer(data);
    data = larger;
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
    take(layout, row, base, origin, record, size) {
      if (open?.layout !== layout) {
        open = createGroup(layout, read);
        groups.push({ topic: layout.schema.topic, finish: open.finish });
      }
      open.add(row, base, origin, record);
      count++;
      bytes += size;
    },
    takeTruncate(schema, table, origin, record) {
      open = undefined;
      groups.push({ topic: schema.topic, finish: () => truncateGroup(schema, table, origin, record) });
      count++;
    },
    finish() {
      const finished = groups.map(({ topic, finish }) => ({ topic, ...finish(data) }));
      const filled = finished.flatMap(({ group, placeOf }) => (group === undefined ? [] : [{ group, placeOf }]));
      const at = ({ origin, record }: { readonly origin: Origin; readonly record: number }) => ({
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

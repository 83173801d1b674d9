import { batchOfGroups } from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import type { Budget, Poll, Position, RejectedSourceRecord } from '../../shared/connect/connector.ts';
import { rowError } from '../../shared/connect/errors.ts';
import type { PostgresCdcOffset } from './cdc-offset.ts';
import type { RowTaker } from './copy-rows.ts';
import type { SourceNames } from './row-columns.ts';
import { createSnapshotGroup, type SnapshotGroup, type SnapshotRows } from './snapshot-rows.ts';
import type { SnapshotTable } from './snapshot-table.ts';

/** One poll's rows in the making. */
export interface SnapshotBatch extends RowTaker {
  /** Rows taken, those that will be refused included. */
  readonly count: number;
  /** `positionAt` is asked for the place behind a row, given its key and how many rows were taken up to it. */
  finish(positionAt: (key: readonly string[], rows: number) => Position<PostgresCdcOffset>): FinishedRows;
}

export type FinishedRows = Pick<Poll<PostgresCdcOffset>, 'batch' | 'position' | 'release'> & {
  readonly rejected: readonly RejectedSourceRecord<PostgresCdcOffset>[];
  /** Of the last row; undefined where none was taken. */
  readonly last: Position<PostgresCdcOffset> | undefined;
};

/** Rows of one page, of which so many were taken before. */
interface Part extends SnapshotRows {
  readonly before: number;
}

export const createSnapshotBatch = (
  { maxRecords, maxBytes }: Pick<Budget, 'maxRecords' | 'maxBytes'>,
  table: SnapshotTable,
  names: SourceNames,
): SnapshotBatch => {
  const parts: Part[] = [];
  const left: Buffer[] = [];
  const { fields, key } = table.layout;
  // There is no row before.
  const fixedBytes = table.layout.fixedBytes - 8 * fields.length;
  const keyFields = key.map((field) => fields.indexOf(field));
  let current: SnapshotGroup | undefined;
  let count = 0;
  let bytes = 0;

  const settle = () => {
    if (current !== undefined) parts.push({ ...current.finish(), before: count - current.count });
    current = undefined;
  };

  return {
    get count() {
      return count;
    },
    take(page, row, size) {
      if (count >= maxRecords || (count > 0 && bytes >= maxBytes)) return false;
      if (current?.page !== page) {
        settle();
        current = createSnapshotGroup(table, page, names);
      }
      current.add(row);
      count++;
      bytes += size + fixedBytes;
      for (const field of keyFields) bytes += row[2 * field + 1]! - row[2 * field]!;
      return true;
    },
    leave(page) {
      settle();
      left.push(page);
    },
    finish(positionAt) {
      settle();
      const at = (part: Part, row: number) => positionAt(part.keyOf(row), part.before + row + 1);
      const filled = parts.flatMap((part) => (part.group === undefined ? [] : [{ part, group: part.group }]));
      const last = parts.at(-1);
      return {
        batch: batchOfGroups(filled.map(({ group }) => group)),
        position(index) {
          let row = index;
          for (const { part, group } of filled) {
            if (row < group.count) return at(part, goodRow(part, row));
            row -= group.count;
          }
          throw new RangeError(`record ${index} of a batch of ${index - row}`);
        },
        rejected: parts.flatMap((part) => rejectedOf(part, table, parts, at)),
        last: last && at(last, last.count - 1),
        release() {
          for (const part of parts) part.free();
          for (const page of left) freeBuffer(page);
        },
      };
    },
  };
};

/** The row of a part that is its record `index`. */
const goodRow = ({ bad }: Part, index: number): number => {
  let row = index;
  for (const one of [...bad.keys()].sort((a, b) => a - b)) if (one <= row) row++;
  return row;
};

const rejectedOf = (
  part: Part,
  { layout: { topic } }: SnapshotTable,
  parts: readonly Part[],
  at: (part: Part, row: number) => Position<PostgresCdcOffset>,
): readonly RejectedSourceRecord<PostgresCdcOffset>[] => {
  const goodBefore = parts.slice(0, parts.indexOf(part)).reduce((sum, { count, bad }) => sum + count - bad.size, 0);
  return [...part.bad]
    .sort(([a], [b]) => a - b)
    .map(([row, problem], i) => ({
      index: goodBefore + row - i,
      error: rowError(`a row of topic ${topic}: ${problem}`),
      raw: part.rawOf(row),
      topic,
      ...at(part, row),
    }));
};

import type { RecordGroup } from '../../shared/connect/batch.ts';
import { type ConnectError, rowError } from '../../shared/connect/errors.ts';

/** The rows of a group that could not be written: row errors. */
export type BadRows = ReadonlyMap<number, ConnectError>;

/** One file in the making. It may keep the groups' buffers until `finish` settles. */
export interface FileBuilder {
  /** Whether records of this schema may follow those that are there. Always true of the first. */
  accepts(group: RecordGroup): boolean;
  /** Adds the records of an accepted group, without tombstones, and answers which rows it left out. */
  add(group: RecordGroup): BadRows;
  finish(): Promise<Uint8Array>;
  /** The bytes that it finished with are written: their memory may be used again. */
  release?(): void;
}

/** How a message names a record. */
export const recordOf = (group: RecordGroup) => `a record of topic ${group.topic}`;

/** Every row of a group, for one reason. */
export const allBad = (group: RecordGroup, problem: string): BadRows => {
  const error = rowError(`${recordOf(group)} ${problem}`);
  return new Map(Array.from({ length: group.count }, (_, row) => [row, error]));
};

import * as z from 'zod';
import { repairOffset } from '../../shared/sql/repair.ts';
import { PlanOffset, rangeOffset } from '../../shared/sql/snapshot.ts';
import { ColumnHistory } from './column-history.ts';

const place = {
  file: z.string(),
  pos: z.number().int(),
  gtids: z.string().optional(),
};

/** Where the binlog is read: a place between two transactions, and how many records of the next one are done. */
export const StreamOffset = z.strictObject({
  /** MySQL's server_uuid; of MariaDB its server_id. */
  server: z.string(),
  ...place,
  record: z.number().int().nonnegative(),
  /** Inside a transaction: what records are counted by. */
  tables: z.string().optional(),
  /** Of tables here, where the binlog has no names of columns. */
  columns: ColumnHistory.optional(),
});
export type StreamOffset = z.output<typeof StreamOffset>;

/** How far a range of a table is read. Keys are texts; bytes as Latin-1. A view is the place before which all, and behind which nothing, was visible in it. */
export const RangeOffset = rangeOffset(z.strictObject(place));

const RepairOffset = repairOffset(z.strictObject(place));

export const MysqlCdcOffset = z.union([StreamOffset, PlanOffset, RangeOffset, RepairOffset]);
export type MysqlCdcOffset = z.output<typeof MysqlCdcOffset>;

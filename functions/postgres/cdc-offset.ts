import * as z from 'zod';
import { repairOffset } from '../../shared/sql/repair.ts';
import { PlanOffset, rangeOffset } from '../../shared/sql/snapshot.ts';

const count = z.int().nonnegative();
const lsn = z.string().regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/);
const timeline = count.describe('Changes with every failover to a standby and every restore.');

/** A place in the changes of one slot. Stored: a change of its shape needs a reader for this one. */
export const StreamOffset = z.object({
  lsn: lsn.describe('All transactions whose commit record begins before it are passed.'),
  row: count
    .optional()
    .describe(
      'Inside the transaction whose commit record begins at `lsn`: how many of its changes are passed, of all tables.',
    ),
  record: count.optional().describe('How many records of the change after those are passed.'),
  system: z.string().describe("The server's system identifier: another one has other changes at the same place."),
  timeline,
  slot: z.string().describe('What a slot has let go it never gives again, and another slot may begin later.'),
});
export type StreamOffset = z.output<typeof StreamOffset>;

/** Which transactions rows were read with. */
export const View = z.strictObject({
  xids: z
    .string()
    .regex(/^\d+:\d+:[\d,]*$/)
    .describe(
      'pg_current_snapshot(): all below the first one are visible, none from the second one on, nor those listed.',
    ),
  lsn: lsn.describe('No transaction whose commit record begins here or later is visible.'),
  timeline,
});
export type View = z.output<typeof View>;

const RangeOffset = rangeOffset(View);
export type RangeOffset = z.output<typeof RangeOffset>;

const RepairOffset = repairOffset(View);

export const PostgresCdcOffset = z.union([PlanOffset, RangeOffset, RepairOffset, StreamOffset]);
export type PostgresCdcOffset = z.output<typeof PostgresCdcOffset>;

import * as z from 'zod';
import { connectionKeys, databaseRules } from '../../shared/connect/database-config.ts';
import { PlanOffset, rangeOffset } from '../../shared/sql/snapshot.ts';
import { mysqlServer } from './config.ts';

const tableName = /^[^.]+\.[^.]+$/;

export const MysqlCdcConfig = z
  .strictObject({
    ...connectionKeys(mysqlServer),
    tables: z
      .array(z.string().regex(tableName, 'a table is written as database.table'))
      .min(1)
      .describe('tables whose rows are captured, as `database.table`'),
    topicPrefix: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,60}$/, 'a prefix is 1 to 60 of the characters A-Z a-z 0-9 . _ -')
      .describe(
        'the name of this server in topics: the rows of a table go to topic `<topicPrefix>.<database>.<table>`',
      ),
    serverId: z
      .number()
      .int()
      .min(1)
      .max(4_294_967_295)
      .optional()
      .describe('the id that this connector has among the server’s replicas. Default: made from its name'),
    snapshotMode: z
      .enum(['initial', 'no_data', 'never'])
      .default('initial')
      .describe(
        'initial: all rows that are there, then the changes; no_data: changes from now on; never: changes from the beginning of the server’s binlog on',
      ),
    tombstonesOnDelete: z
      .boolean()
      .default(true)
      .describe('a deleted row is followed by a record without value, at which a compacted topic forgets the key'),
    zeroDates: z
      .enum(['refuse', 'null'])
      .default('refuse')
      .describe('what becomes of a date like 0000-00-00. refuse: its record is rejected; null: it is null'),
  })
  .refine(...databaseRules.server)
  .refine(...databaseRules.iamHasNoSecret)
  .refine(...databaseRules.iamIsEncrypted);

export type MysqlCdcConfig = z.output<typeof MysqlCdcConfig>;

/** One per table. */
export const topicsOf = ({ topicPrefix, tables }: MysqlCdcConfig): readonly string[] =>
  tables.map((table) => `${topicPrefix}.${table}`);

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
});
export type StreamOffset = z.output<typeof StreamOffset>;

/** How far a range of a table is read. Keys are texts; bytes as Latin-1. A view is the place before which all, and behind which nothing, was visible in it. */
export const RangeOffset = rangeOffset(z.strictObject(place));

export const MysqlCdcOffset = z.union([StreamOffset, PlanOffset, RangeOffset]);
export type MysqlCdcOffset = z.output<typeof MysqlCdcOffset>;

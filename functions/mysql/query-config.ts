import * as z from 'zod';
import { connectionKeys, databaseRules } from '../../shared/connect/database-config.ts';
import { queryKeys, refineQuery } from '../../shared/connect/query-config.ts';
import { mysqlServer } from './config.ts';

export const MysqlQueryConfig = z
  .strictObject({
    ...connectionKeys(mysqlServer),
    ...queryKeys('database.table'),
    zeroDates: z
      .enum(['refuse', 'null'])
      .default('refuse')
      .describe('what becomes of a date like 0000-00-00. refuse: its record is rejected; null: it is null'),
  })
  .refine(...databaseRules.server)
  .refine(...databaseRules.iamHasNoSecret)
  .refine(...databaseRules.iamIsEncrypted)
  .superRefine(refineQuery);

export type MysqlQueryConfig = z.output<typeof MysqlQueryConfig>;

import * as z from 'zod';
import { connectionKeys, databaseRules } from '../../shared/connect/database-config.ts';
import { queryKeys, refineQuery } from '../../shared/connect/query-config.ts';
import { mysqlServer, zeroDates } from './config.ts';

export const MysqlQueryConfig = z
  .strictObject({
    ...connectionKeys(mysqlServer),
    ...queryKeys('database.table'),
    zeroDates,
  })
  .refine(...databaseRules.server)
  .refine(...databaseRules.iamHasNoSecret)
  .refine(...databaseRules.iamIsEncrypted)
  .superRefine(refineQuery);

export type MysqlQueryConfig = z.output<typeof MysqlQueryConfig>;

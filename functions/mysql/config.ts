import * as z from 'zod';
import { connectionKeys, type DatabaseServer, databaseRules, rowKeys } from '../../shared/connect/database-config.ts';

export const mysqlServer: DatabaseServer = { system: 'MySQL', scheme: 'mysql', port: 3306, account: 'user' };

export const MysqlSinkConfig = z
  .strictObject({ ...connectionKeys(mysqlServer), ...rowKeys('database.table') })
  .refine(...databaseRules.address)
  .refine(...databaseRules.iamHasNoSecret)
  .refine(...databaseRules.iamIsEncrypted)
  .refine(...databaseRules.keyFieldsNeedUpsert)
  .refine(...databaseRules.wholeRunsOrTransactions)
  .refine(...databaseRules.runsByTopic);

export type MysqlSinkConfig = z.output<typeof MysqlSinkConfig>;

/** Of the sources. */
export const zeroDates = z
  .enum(['refuse', 'null'])
  .default('refuse')
  .describe('what becomes of a date like 0000-00-00. refuse: its record is rejected; null: it is null');

import * as z from 'zod';
import { connectionKeys, type DatabaseServer, databaseRules, rowKeys } from '../../shared/connect/database-config.ts';

export const postgresServer: DatabaseServer = {
  system: 'PostgreSQL',
  scheme: 'postgres',
  port: 5432,
  account: 'role',
};

export const PostgresSinkConfig = z
  .strictObject({
    ...connectionKeys(postgresServer),
    schema: z.string().min(1).default('public').describe('schema of sluice_offsets, and of tables named without one'),
    ...rowKeys('schema.table'),
  })
  .refine(...databaseRules.address)
  .refine(...databaseRules.iamHasNoSecret)
  .refine(...databaseRules.iamIsEncrypted)
  .refine(...databaseRules.keyFieldsNeedUpsert)
  .refine(...databaseRules.wholeRunsOrTransactions)
  .refine(...databaseRules.runsByTopic);

export type PostgresSinkConfig = z.output<typeof PostgresSinkConfig>;

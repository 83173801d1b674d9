import * as z from 'zod';
import { connectionKeys, databaseRules } from '../../shared/connect/database-config.ts';
import { queryKeys, refineQuery } from '../../shared/connect/query-config.ts';
import { postgresServer } from './config.ts';

export const PostgresQueryConfig = z
  .strictObject({ ...connectionKeys(postgresServer), ...queryKeys('schema.table') })
  .refine(...databaseRules.address)
  .refine(...databaseRules.iamHasNoSecret)
  .refine(...databaseRules.iamIsEncrypted)
  .superRefine(refineQuery);

export type PostgresQueryConfig = z.output<typeof PostgresQueryConfig>;

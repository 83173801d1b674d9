import * as z from 'zod';
import { connectionKeys, databaseRules } from '../../shared/connect/database-config.ts';
import { patternsNeedTopic, runsNeedTopics } from '../../shared/connect/table-names.ts';
import { mysqlServer, zeroDates } from './config.ts';

const tableName = z
  .string()
  .regex(/^[^.]+\.[^.]+$/, 'a table is written as database.table; * stands for any characters');

export const MysqlCdcConfig = z
  .strictObject({
    ...connectionKeys(mysqlServer),
    tables: z
      .array(tableName)
      .min(1)
      .describe('tables whose rows are captured, as `database.table`; with a * it is a pattern, which needs `topic`'),
    excludeTables: z.array(tableName).default([]).describe('tables to leave out of a pattern'),
    topicPrefix: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,60}$/, 'a prefix is 1 to 60 of the characters A-Z a-z 0-9 . _ -')
      .describe(
        'the name of this server in topics: the rows of a table go to topic `<topicPrefix>.<database>.<table>`',
      ),
    topic: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,200}$/, 'a topic is 1 to 200 of the characters A-Z a-z 0-9 . _ -')
      .optional()
      .describe('one topic for all tables. Default: a topic for each'),
    serverId: z
      .number()
      .int()
      .min(1)
      .max(4_294_967_295)
      .optional()
      .describe(
        'the id that this connector has among the server’s replicas. Default: a random one each time, above 2147483647',
      ),
    snapshotMode: z
      .enum(['initial', 'no_data', 'never'])
      .default('initial')
      .describe(
        'initial: all rows that are there, then the changes; no_data: changes from now on; never: changes from the beginning of the server’s binlog on',
      ),
    runs: z
      .boolean()
      .default(false)
      .describe(
        'the rows of a table that were there travel as one run, between two control records: a sink with `visibility: batch` shows them together',
      ),
    skippedOperations: z
      .array(z.enum(['c', 'u', 'd', 't']))
      .default([])
      .describe('changes to pass over: c inserts, u updates, d deletes, t truncates. Default: none'),
    transactions: z
      .boolean()
      .default(false)
      .describe(
        'the end of each transaction is told by a control record, and each change has its place in it (`transaction`): a sink with `transactions: atomic` writes them whole',
      ),
    tombstonesOnDelete: z
      .boolean()
      .default(true)
      .describe('a deleted row is followed by a record without value, at which a compacted topic forgets the key'),
    zeroDates,
  })
  .refine(...databaseRules.server)
  .refine(...databaseRules.iamHasNoSecret)
  .refine(...databaseRules.iamIsEncrypted)
  .refine(...runsNeedTopics)
  .superRefine(patternsNeedTopic);

export type MysqlCdcConfig = z.output<typeof MysqlCdcConfig>;

export const topicOf = ({ topic, topicPrefix }: Pick<MysqlCdcConfig, 'topic' | 'topicPrefix'>, table: string): string =>
  topic ?? `${topicPrefix}.${table}`;

export const topicsOf = (config: MysqlCdcConfig): readonly string[] => [
  ...new Set(config.tables.map((table) => topicOf(config, table))),
];

import * as z from 'zod';
import { connectionKeys, databaseRules } from '../../shared/connect/database-config.ts';
import { patternsNeedTopic, runsNeedTopics, topicOf } from '../../shared/connect/table-names.ts';
import { postgresServer } from './config.ts';

const tableName = z.string().regex(/^[^.]+\..+$/, 'a table is schema.table; * stands for any characters');

export const PostgresCdcConfig = z
  .strictObject({
    ...connectionKeys(postgresServer),
    topicPrefix: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,100}$/, '1 to 100 of the characters A-Z a-z 0-9 . _ -')
      .describe(
        'name of this server in topics, offsets and records: a table goes to the topic <prefix>.<schema>.<table>',
      ),
    tables: z
      .array(tableName)
      .min(1)
      .describe('tables to read, as schema.table; with a * it is a pattern, which needs `topic`'),
    excludeTables: z.array(tableName).default([]).describe('tables to leave out of a pattern'),
    excludeColumns: z
      .array(z.string().regex(/^[^.]+\..+\..+$/, 'a column is schema.table.column'))
      .default([])
      .describe('columns to leave out of rows, as schema.table.column; those of the key stay'),
    topic: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,200}$/, 'a topic is 1 to 200 of the characters A-Z a-z 0-9 . _ -')
      .optional()
      .describe('one topic for all tables. Default: a topic for each'),
    slotName: z
      .string()
      .regex(/^[a-z0-9_]{1,63}$/, '1 to 63 of the characters a-z 0-9 _')
      .optional()
      .describe('replication slot. Default: made of the names of deployment and connector'),
    slotFailover: z
      .boolean()
      .default(false)
      .describe('make the slot one that standbys keep (PostgreSQL 17): reading goes on after a failover'),
    publicationName: z
      .string()
      .min(1)
      .max(63)
      .optional()
      .describe('publication to read; one that is missing is made. Default: that of the slot'),
    snapshotMode: z
      .enum(['initial', 'no_data'])
      .default('initial')
      .describe('initial: all rows that are there, then the changes; no_data: changes from now on'),
    skippedOperations: z
      .array(z.enum(['c', 'u', 'd', 't']))
      .default([])
      .describe('changes to pass over: c inserts, u updates, d deletes, t truncates. Default: none'),
    runs: z
      .boolean()
      .default(false)
      .describe(
        'the rows of a table that were there travel as one run, between two control records: a sink with `visibility: batch` shows them together',
      ),
    transactions: z
      .boolean()
      .default(false)
      .describe(
        'the end of each transaction is told by a control record, and each change has its place in it (`transaction`): a sink with `transactions: atomic` writes them whole',
      ),
    tombstonesOnDelete: z
      .boolean()
      .default(true)
      .describe('after a delete a record without value follows, which deletes the row in sinks for tables'),
  })
  .refine(...databaseRules.address)
  .refine(...databaseRules.iamHasNoSecret)
  .refine(...databaseRules.iamIsEncrypted)
  .refine(...runsNeedTopics)
  .superRefine(patternsNeedTopic);

export type PostgresCdcConfig = z.output<typeof PostgresCdcConfig>;

export const topicsOf = (config: PostgresCdcConfig): readonly string[] => [
  ...new Set(config.tables.map((table) => topicOf(config, table))),
];

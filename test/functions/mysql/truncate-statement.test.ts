import { expect, test } from 'vitest';
import { truncatedTable } from '../../../functions/mysql/truncate-statement.ts';

test.each([
  ['TRUNCATE TABLE t', 'shop', 't'],
  ['truncate t', 'shop', 't'],
  ['TRUNCATE\n\tTABLE other . t', 'other', 't'],
  ['TRUNCATE TABLE `a``b`.`c.d`', 'a`b', 'c.d'],
  ['TRUNCATE "t"', 'shop', 't'],
  ['/* by app */ TRUNCATE /* all */ TABLE/**/t', 'shop', 't'],
  ['-- TRUNCATE u\nTRUNCATE t', 'shop', 't'],
  ['/*!40000 TRUNCATE TABLE t */', 'shop', 't'],
  ['TRUNCATE t WAIT 5', 'shop', 't'],
  ['SET STATEMENT max_statement_time=1 FOR TRUNCATE TABLE ä', 'shop', 'ä'],
  ['TRUNCATE `table`', 'shop', 'table'],
])('%s empties a table', (query, database, name) => {
  expect(truncatedTable(query, 'shop')).toEqual({ database, name });
});

test.each([
  '/* TRUNCATE t */ SELECT 1',
  'ALTER TABLE t TRUNCATE PARTITION p',
  'CREATE TABLE truncate_t (id int)',
  'BEGIN',
  "INSERT INTO t VALUES ('TRUNCATE t')",
])('%s does not', (query) => {
  expect(truncatedTable(query, 'shop')).toBeUndefined();
});

import { describe } from 'vitest';
import { describeQueryTables } from '../../kit/describe-query-tables.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeQueryTables(flavour, useQueryServer(flavour));
});

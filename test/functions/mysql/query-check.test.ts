import { describe } from 'vitest';
import { describeQueryCheck } from '../../kit/describe-query-check.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeQueryCheck(flavour, useQueryServer(flavour));
});

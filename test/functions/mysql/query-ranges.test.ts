import { describe } from 'vitest';
import { describeQueryRanges } from '../../kit/describe-query-ranges.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeQueryRanges(flavour, useQueryServer(flavour));
});

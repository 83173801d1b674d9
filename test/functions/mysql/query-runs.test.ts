import { describe } from 'vitest';
import { describeQueryRuns } from '../../kit/describe-query-runs.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeQueryRuns(flavour, useQueryServer(flavour));
});

import { describe } from 'vitest';
import { describeQueryContract } from '../../kit/describe-query-contract.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeQueryContract(flavour, useQueryServer(flavour));
});

import { describe } from 'vitest';
import { describeQueryVerify } from '../../kit/describe-query-verify.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeQueryVerify(flavour, useQueryServer(flavour));
});

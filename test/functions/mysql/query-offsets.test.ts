import { describe } from 'vitest';
import { describeQueryOffsets } from '../../kit/describe-query-offsets.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeQueryOffsets(flavour, useQueryServer(flavour));
});

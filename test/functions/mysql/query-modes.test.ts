import { describe } from 'vitest';
import { describeQueryModes } from '../../kit/describe-query-modes.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeQueryModes(flavour, useQueryServer(flavour));
});

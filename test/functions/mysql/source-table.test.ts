import { describe } from 'vitest';
import { describeSourceTable } from '../../kit/describe-source-table.ts';
import { useSink } from './sink-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeSourceTable(flavour, useSink(flavour));
});

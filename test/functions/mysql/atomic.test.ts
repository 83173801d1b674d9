import { describe } from 'vitest';
import { describeAtomic } from '../../kit/describe-atomic.ts';
import { useSink } from './sink-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeAtomic(flavour, useSink(flavour, ['--max-allowed-packet=1M']));
});

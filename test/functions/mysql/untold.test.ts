import { describe } from 'vitest';
import { describeUntold } from '../../kit/describe-untold.ts';
import { useSink } from './sink-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeUntold(flavour, useSink(flavour, ['--max-allowed-packet=1M']));
});

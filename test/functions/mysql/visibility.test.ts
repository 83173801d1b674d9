import { describe } from 'vitest';
import { describeVisibility } from '../../kit/describe-visibility.ts';
import { useSink } from './sink-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeVisibility(flavour, useSink(flavour));
});

import { describeAtomic } from '../../kit/describe-atomic.ts';
import { useSink } from './sink-fixture.ts';

describeAtomic('PostgreSQL', useSink());

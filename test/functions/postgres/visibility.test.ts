import { describeVisibility } from '../../kit/describe-visibility.ts';
import { useSink } from './sink-fixture.ts';

describeVisibility('PostgreSQL', useSink());

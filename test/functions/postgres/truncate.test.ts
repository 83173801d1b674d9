import { describeTruncate } from '../../kit/describe-truncate.ts';
import { useSink } from './sink-fixture.ts';

describeTruncate('postgres', useSink());

import { describeQueryRanges } from '../../kit/describe-query-ranges.ts';
import { useQueryServer } from './query-server.ts';

describeQueryRanges('postgres', useQueryServer());

import { describeQueryRuns } from '../../kit/describe-query-runs.ts';
import { useQueryServer } from './query-server.ts';

describeQueryRuns('postgres', useQueryServer());

import { describeQueryCheck } from '../../kit/describe-query-check.ts';
import { useQueryServer } from './query-server.ts';

describeQueryCheck('postgres', useQueryServer());

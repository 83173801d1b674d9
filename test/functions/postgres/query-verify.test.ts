import { describeQueryVerify } from '../../kit/describe-query-verify.ts';
import { useQueryServer } from './query-server.ts';

describeQueryVerify('postgres', useQueryServer());

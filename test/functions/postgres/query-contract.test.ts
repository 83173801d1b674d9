import { describeQueryContract } from '../../kit/describe-query-contract.ts';
import { useQueryServer } from './query-server.ts';

describeQueryContract('postgres', useQueryServer());

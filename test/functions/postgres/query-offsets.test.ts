import { describeQueryOffsets } from '../../kit/describe-query-offsets.ts';
import { useQueryServer } from './query-server.ts';

describeQueryOffsets('postgres', useQueryServer());

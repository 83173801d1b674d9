import { describeQueryModes } from '../../kit/describe-query-modes.ts';
import { useQueryServer } from './query-server.ts';

describeQueryModes('postgres', useQueryServer());

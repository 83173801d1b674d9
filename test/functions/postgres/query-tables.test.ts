import { describeQueryTables } from '../../kit/describe-query-tables.ts';
import { useQueryServer } from './query-server.ts';

describeQueryTables('postgres', useQueryServer());

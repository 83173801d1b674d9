import { describeSourceTable } from '../../kit/describe-source-table.ts';
import { useSink } from './sink-fixture.ts';

describeSourceTable('PostgreSQL', useSink());

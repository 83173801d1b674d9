import { memoryTable } from '../../../shared/state/memory/table.ts';
import { describeUnread } from '../../kit/describe-unread.ts';

describeUnread('memory', async () => memoryTable());

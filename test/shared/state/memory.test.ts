import { memoryTable } from '../../../shared/state/memory/table.ts';
import { describeStateStore } from '../../kit/describe-state-store.ts';

describeStateStore('memory', async () => memoryTable());

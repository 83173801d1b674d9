import { memoryObjects } from '../../../shared/log/objects.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { describeLog } from '../../kit/describe-log.ts';

describeLog('memory', async () => ({ table: memoryTable(), objects: memoryObjects() }));

import { describeTransactions } from '../../kit/describe-transactions.ts';
import { useCdc } from './cdc-fixture.ts';

const { run, capture } = useCdc();

describeTransactions('PostgreSQL', /^\d+:\d+$/, {
  run,
  async capture(config) {
    const { withTask, readAll } = await capture(['a', 'b'], config);
    return async (limits = {}) => (await withTask((task) => readAll(task, new Map(), limits))).records;
  },
});

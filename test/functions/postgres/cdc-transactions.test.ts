import { describeTransactions } from '../../kit/describe-transactions.ts';
import { type Delivered, withEnds } from '../../kit/source-runner.ts';
import { useCdc } from './cdc-fixture.ts';

const { run, capture } = useCdc();

describeTransactions('PostgreSQL', /^\d+:\d+$/, {
  run,
  async capture(config) {
    const { withTask, readAll } = await capture(['a', 'b'], config);
    return async (limits = {}) => {
      const records: Delivered[] = [];
      await withTask((task) => readAll(task, new Map(), limits, (poll) => records.push(...withEnds(poll))));
      return records;
    };
  },
});

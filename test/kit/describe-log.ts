import { describe } from 'vitest';
import { describeAppend } from './describe-log-append.ts';
import { describeLogLoss } from './describe-log-loss.ts';
import { describeLogQueues } from './describe-log-queues.ts';
import { describeLogRead } from './describe-log-read.ts';
import type { LogStore } from './log-kit.ts';

/** The contract of the topic log over a table and an object store. `makeStore` gives empty ones each time. */
export const describeLog = (name: string, makeStore: () => Promise<LogStore>): void => {
  describe(`${name}: the topic log`, () => {
    describeAppend(makeStore);
    describeLogRead(makeStore);
    describeLogLoss(makeStore);
    describeLogQueues(makeStore);
  });
};

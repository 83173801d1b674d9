import { leaseGraceMs } from '../../shared/lambda/deadline.ts';
import type { Log } from '../../shared/runtime/run.ts';
import { readConnector } from '../../shared/state/connectors.ts';
import { clearDeadLease, readTask } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';

/** What Lambda sends of an event that a function failed at, as far as it is read. */
export interface FailedRun {
  readonly requestContext: { readonly requestId: string; readonly functionArn: string };
}

/**
 * An invocation that died (of its memory, of its time) may hold a lease that lasts as long as it could have run. It is known to be dead:
 * its lease ends when nothing that it sent can be on its way any more, and the sweep wakes its task then (hazard B9). The lease is found
 * by its owner, because what it was invoked with need not say which task it ran.
 */
export const endFailedRun = async (
  table: Table,
  { requestContext: { requestId, functionArn } }: FailedRun,
  nowMs: number,
  log: Log,
): Promise<void> => {
  const parts = functionArn.split(':');
  const names = [parts[6], parts.slice(0, 7).join(':')];
  for (const name of await table.names('connector')) {
    const row = await readConnector(table, name);
    if (row === undefined || !names.includes(row.functionName)) continue;
    for (let task = 0; task < row.tasks; task++) {
      if ((await readTask(table, name, task)).owner !== requestId) continue;
      await clearDeadLease(table, name, task, requestId, nowMs + leaseGraceMs);
      log('warn', 'a run died', { connector: name, task, requestId });
    }
  }
};

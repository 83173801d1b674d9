import { readStates } from '../../shared/management/status.ts';
import { dynamoTable } from '../../shared/state/dynamodb/table.ts';
import { clearDeadLease } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';
import { clientAt, findTable } from './platform.ts';

/**
 * Frees the leases of invocations that are known to be dead, so that nobody waits until they expire, which is longer than a function may
 * run. A host knows: before its functions start it has the lock, and those of the host before ended with it; later it sees them die.
 */
export interface DeadLeases {
  /** Frees all: nothing runs yet. */
  clear(endpoint: string): Promise<void>;
  /** Frees what an invocation held, after it is over. */
  died(requestId: string): void;
  close(): void;
}

export const deadLeases = (): DeadLeases => {
  let client: ReturnType<typeof clientAt> | undefined;
  let table: Table | undefined;
  return {
    async clear(endpoint) {
      client = clientAt(endpoint);
      table = dynamoTable({ client, tableName: await findTable(client) });
      await free(table, () => true);
    },
    died(requestId) {
      if (table === undefined) return;
      void free(table, (owner) => owner === requestId).catch(({ message }: Error) => {
        process.stderr.write(`a function died, and its lease is held until it expires: ${message}\n`);
      });
    },
    close: () => client?.destroy(),
  };
};

const free = async (table: Table, isDead: (owner: string) => boolean): Promise<void> => {
  for (const { row, tasks } of await readStates(table, Date.now()))
    for (const { task, row: lease } of tasks)
      if (lease.owner !== undefined && isDead(lease.owner))
        await clearDeadLease(table, row.name, task, lease.owner, Date.now());
};

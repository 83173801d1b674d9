import type { PutContext, Rejected } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import type { OffsetTable } from './offsets.ts';
import { byTable, type Plan, type Run, type Target } from './plan.ts';
import type { Connection } from './session.ts';

/** Writes runs of rows inside an open transaction. */
export interface Writer<T extends Target> {
  /** Everything at once, with `last` statements in the last round trip. Throws what the server refuses. */
  write(runs: readonly Run<T>[], last: readonly string[]): Promise<void>;
  /** Rows that are refused are found and left out. Throws errors that are not a row's. */
  writeApart(runs: readonly Run<T>[]): Promise<readonly Rejected[]>;
}

/**
 * Rows and offsets in one transaction, in two round trips for a batch of one table. Only when the server refuses a row is the batch
 * written again row by row where it must be, and at last in source order, for keys that depend on each other across rows and tables.
 */
export const commitPlan = async <C extends Connection, T extends Target>(
  plan: Plan<T>,
  context: PutContext,
  connection: C,
  offsets: OffsetTable<C>,
  writer: Writer<T>,
): Promise<void> => {
  /** Writes behind the compared offsets; nothing where the commit had succeeded before. */
  const begin = async (write: () => Promise<void>): Promise<void> => {
    if ((await offsets.begin(connection, context.offsets)) === 'new') return write();
    await connection.run('ROLLBACK');
  };

  /** Invariant 8: no letter is lost, so they are durable before the offset is. */
  const rejectAndCommit = async (rejected: readonly Rejected[]) => {
    if (rejected.length > 0) await context.reject([...rejected].sort((a, b) => a.index - b.index));
    await connection.run('COMMIT');
  };

  const apart = async (orders: readonly (readonly Run<T>[])[]): Promise<void> => {
    const [runs, ...others] = orders;
    await connection.run('ROLLBACK');
    await begin(async () => {
      const found = await writer.writeApart(runs!).catch((error: unknown) => {
        if (others.length > 0 && blameOf(error) === 'order') return undefined;
        throw error;
      });
      if (found === undefined) return apart(others);
      await rejectAndCommit([...plan.rejected, ...found]);
    });
  };

  const { parts, rejected } = plan;
  const runs = byTable(parts);
  await begin(async () => {
    const blame = await writer.write(runs, rejected.length === 0 ? ['COMMIT'] : []).then(() => undefined, blameOrThrow);
    if (blame === undefined) return rejected.length === 0 ? undefined : rejectAndCommit(rejected);
    const inOrder = plan.inSourceOrder();
    const ordered = runs.length === inOrder.length ? [] : [inOrder];
    await apart(blame === 'order' && ordered.length > 0 ? ordered : [runs, ...ordered]);
  });
};

const blameOf = (error: unknown) => (error instanceof ConnectError ? error.blame : 'system');

const blameOrThrow = (error: unknown): 'row' | 'order' => {
  const blame = blameOf(error);
  if (blame === 'system') throw error;
  return blame;
};

import type { PutContext, Rejected } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { Connection } from './client.ts';
import type { OffsetTable } from './offsets.ts';
import { byTable, inSourceOrder, type Plan, type Unit } from './plan.ts';
import type { Writer } from './write.ts';

/**
 * Rows and offsets in one transaction, in two round trips for a batch of one table. Only when the server refuses a row is the batch
 * written again row by row where it must be, and at last in source order, for keys that depend on each other across rows and tables.
 */
export const commitPlan = async (
  plan: Plan,
  context: PutContext,
  connection: Connection,
  offsets: OffsetTable,
  writer: Writer,
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

  const apart = async (orders: readonly (readonly Unit[])[]): Promise<void> => {
    const [units, ...others] = orders;
    await connection.run('ROLLBACK');
    await begin(async () => {
      const found = await writer.writeApart(units!).catch((error: unknown) => {
        if (others.length > 0 && blameOf(error) === 'order') return undefined;
        throw error;
      });
      if (found === undefined) return apart(others);
      await rejectAndCommit([...plan.rejected, ...found]);
    });
  };

  const { parts, rejected } = plan;
  const units = byTable(parts);
  await begin(async () => {
    const blame = await writer
      .write(units, rejected.length === 0 ? ['COMMIT'] : [])
      .then(() => undefined, blameOrThrow);
    if (blame === undefined) return rejected.length === 0 ? undefined : rejectAndCommit(rejected);
    const ordered = units.length === parts.length ? [] : [inSourceOrder(parts)];
    await apart(blame === 'order' && ordered.length > 0 ? ordered : [units, ...ordered]);
  });
};

const blameOf = (error: unknown) => (error instanceof ConnectError ? error.blame : 'system');

const blameOrThrow = (error: unknown): 'row' | 'order' => {
  const blame = blameOf(error);
  if (blame === 'system') throw error;
  return blame;
};

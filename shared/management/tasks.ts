import { randomUUID } from 'node:crypto';
import { ConnectError } from '../connect/errors.ts';
import { type ConnectorRow, requireConnector, setTarget } from '../state/connectors.ts';
import { isHeld, readTask, restartTask } from '../state/lease.ts';
import { askDestination } from '../state/offsets.ts';
import { allows, type Verb } from '../state/states.ts';
import type { Table } from '../state/table.ts';
import type { InvokeFunction, Reason } from './ports.ts';

/** Starts a run of every task. Best effort: what is lost here is found by the sweep (hazard C3). */
export const wakeTasks = async (functions: InvokeFunction, row: ConnectorRow, reason: Reason): Promise<void> => {
  const all = Array.from({ length: row.tasks }, (_, task) =>
    functions.event(row.functionName, { connector: row.name, task, reason }),
  );
  await Promise.allSettled(all);
};

/** Pauses, resumes or stops a connector; a resumed one runs at once. */
export const changeTarget = async (
  table: Table,
  functions: InvokeFunction,
  name: string,
  verb: Verb,
): Promise<ConnectorRow> => {
  const row = await setTarget(table, name, verb);
  if (row.target === 'STARTED') await wakeTasks(functions, row, 'manual');
  return row;
};

/** Restarts the failed tasks of a connector, and runs all. Returns how many had failed. */
export const restartConnector = async (table: Table, functions: InvokeFunction, name: string): Promise<number> => {
  const row = await requireConnector(table, name);
  const restarted = await restartTasks(table, row);
  await askAgain(table, row);
  await wakeTasks(functions, row, 'manual');
  return restarted;
};

/** The failed tasks of a connector, of a set that waits too. */
export const restartTasks = async (table: Table, { name, tasks, pendingTasks = 0 }: ConnectorRow): Promise<number> => {
  let restarted = 0;
  for (let task = 0; task < Math.max(tasks, pendingTasks); task++)
    if (await restartTask(table, name, task, true)) restarted++;
  return restarted;
};

/** Has the next run ask the destination where it stands, if there is one that may know: it may be another one by now. Reads no offset. */
export const askAgain = async (table: Table, { name, incarnation, kind }: ConnectorRow): Promise<void> => {
  if (kind === 'sink' || kind === 'direct') await askDestination(table, { connector: name, incarnation }, randomUUID());
};

/** Throws where a run of the connector may be in progress: offsets move only when nothing runs. */
export const requireQuiet = async (table: Table, row: ConnectorRow, nowMs: number): Promise<void> => {
  if (!allows[row.target].alterOffsets)
    throw new ConnectError(
      'STATE_CONFLICT',
      `connector ${row.name} is started: \`sluice connectors stop ${row.name}\` first, and resume it after`,
    );
  for (let task = 0; task < Math.max(row.tasks, row.pendingTasks ?? 0); task++) {
    const lease = await readTask(table, row.name, task);
    if (isHeld(lease, nowMs))
      throw new ConnectError(
        'STATE_CONFLICT',
        `task ${task} of ${row.name} is still writing, until ${new Date(lease.expiresAtMs!).toISOString()} at the latest: try again`,
        {
          retriable: true,
        },
      );
  }
};

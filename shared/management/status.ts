import { readTopic } from '../log/topics.ts';
import { type ConnectorRow, readConnector } from '../state/connectors.ts';
import { headKey } from '../state/keys.ts';
import { isHeld, readTask, type TaskRow } from '../state/lease.ts';
import { loadProgress } from '../state/offsets.ts';
import { type TaskCondition, type TaskStatus, taskStatus } from '../state/states.ts';
import type { Table } from '../state/table.ts';

export interface TaskState {
  readonly task: number;
  readonly state: TaskStatus;
  readonly row: TaskRow;
}

export interface ConnectorState {
  readonly row: ConnectorRow;
  readonly tasks: readonly TaskState[];
  /** Records appended and not yet committed, for a connector that reads the log. From the cache where the destination owns the offsets. */
  readonly lagRecords?: number;
}

export const conditionOf = (row: TaskRow, nowMs: number): TaskCondition =>
  row.state === 'FAILED' ? 'FAILED' : isHeld(row, nowMs) ? 'HELD' : 'FREE';

export const readState = async (table: Table, name: string, nowMs: number): Promise<ConnectorState | undefined> => {
  const row = await readConnector(table, name);
  if (row === undefined) return undefined;
  const rows = await Promise.all(Array.from({ length: row.tasks }, (_, task) => readTask(table, name, task)));
  const tasks = rows.map((task) => ({
    task: task.task,
    state: taskStatus[row.target][conditionOf(task, nowMs)],
    row: task,
  }));
  const lagRecords = row.from === undefined ? undefined : await logLag(table, row);
  return { row, tasks, ...(lagRecords === undefined ? {} : { lagRecords }) };
};

export const readStates = async (table: Table, nowMs: number): Promise<readonly ConnectorState[]> => {
  const names = await table.names('connector');
  const states = await Promise.all(names.map((name) => readState(table, name, nowMs)));
  return states.filter((state) => state !== undefined);
};

/** How far each queue that the connector reads is ahead of its offset; measured while everything sleeps. */
const logLag = async (table: Table, row: ConnectorRow): Promise<number> => {
  const { offsets } = await loadProgress(table, { connector: row.name, incarnation: row.incarnation });
  const done = new Map(offsets.map(({ key, offset }) => [key, offset as { base: number; index: number } | null]));
  let lag = 0;
  for (const name of row.from ?? []) {
    const topic = await readTopic(table, name);
    for (const { generation, queues } of topic?.generations ?? []) {
      const heads = await table.getMany(Array.from({ length: queues }, (_, queue) => headKey(name, generation, queue)));
      for (const [queue, head] of heads.entries()) {
        const at = done.get(JSON.stringify({ generation, queue, topic: name }));
        lag += Math.max(0, Number(head?.next ?? 0) - (at?.base ?? 0) - (at?.index ?? 0));
      }
    }
  }
  return lag;
};

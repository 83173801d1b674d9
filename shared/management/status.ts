import { readTopic } from '../log/topics.ts';
import { type ConnectorRow, readConnector } from '../state/connectors.ts';
import { headKey, logPk, segmentSk } from '../state/keys.ts';
import { isHeld, readTask, type TaskRow } from '../state/lease.ts';
import { loadProgress, type Progress } from '../state/offsets.ts';
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
  /** A batch that has yet to be promoted, or an order to move offsets that has yet to be carried out: a run must come. */
  readonly unfinished: boolean;
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
  const progress = await loadProgress(table, { connector: row.name, incarnation: row.incarnation });
  const unfinished = progress.prepared.length > 0 || progress.reset !== undefined;
  const lagRecords = row.from === undefined ? undefined : await logLag(table, row, progress);
  return { row, tasks, unfinished, ...(lagRecords === undefined ? {} : { lagRecords }) };
};

export const readStates = async (table: Table, nowMs: number): Promise<readonly ConnectorState[]> => {
  const names = await table.names('connector');
  const states = await Promise.all(names.map((name) => readState(table, name, nowMs)));
  return states.filter((state) => state !== undefined);
};

/** How far each queue that the connector reads is ahead of its offset; measured while everything sleeps. */
const logLag = async (table: Table, row: ConnectorRow, { offsets }: Progress): Promise<number> => {
  const done = new Map(offsets.map(({ key, offset }) => [key, offset as { base: number; index: number } | null]));
  let lag = 0;
  for (const name of row.from ?? []) {
    const topic = await readTopic(table, name);
    for (const { generation, queues } of topic?.generations ?? []) {
      const heads = await table.getMany(Array.from({ length: queues }, (_, queue) => headKey(name, generation, queue)));
      for (const [queue, head] of heads.entries()) {
        const next = Number(head?.next ?? 0);
        const at = done.get(JSON.stringify({ generation, queue, topic: name }));
        lag += Math.max(
          0,
          next - (at ? at.base + at.index : await earliest(table, logPk(name, generation, queue), next)),
        );
      }
    }
  }
  return lag;
};

/** Where a reader without an offset starts: what expired before it came was never its backlog. */
const earliest = async (table: Table, pk: string, next: number): Promise<number> => {
  if (next === 0) return 0;
  const [first] = await table.query(pk, { from: segmentSk(0), to: segmentSk(Number.MAX_SAFE_INTEGER), limit: 1 });
  return first === undefined ? next : Number(first.sk);
};

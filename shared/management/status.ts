import { partitionKey } from '../connect/connector.ts';
import { type ConnectError, toConnectError } from '../connect/errors.ts';
import { onData } from '../connect/trigger.ts';
import type { LogOffset } from '../log/read.ts';
import { startsOf } from '../log/start.ts';
import { type QueueEnd, readHeads, readTopic } from '../log/topics.ts';
import { type ConnectorRow, readConnector } from '../state/connectors.ts';
import { isHeld, readTask, type TaskRow } from '../state/lease.ts';
import { loadProgress, type PendingReset, type Progress } from '../state/offsets.ts';
import { type TaskCondition, type TaskStatus, taskStatus } from '../state/states.ts';
import type { Table } from '../state/table.ts';

export interface TaskState {
  readonly task: number;
  readonly state: TaskStatus;
  readonly row: TaskRow;
}

/** A queue that a connector reads, and where it stands in it. From the cache where the destination owns the offsets. */
export interface LaneState extends QueueEnd {
  readonly offset: LogOffset;
  /** The topic's. */
  readonly retentionMs: number;
}

export interface ConnectorState {
  readonly row: ConnectorRow;
  readonly tasks: readonly TaskState[];
  /** For a connector that reads the log. */
  readonly lanes?: readonly LaneState[];
  /** Records appended and not yet committed, over all lanes. */
  readonly lagRecords?: number;
  /** A batch that has yet to be promoted, or an order that has yet to be carried out: a run must come. */
  readonly unfinished: boolean;
  readonly progress: Progress;
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
  const unfinished = progress.prepared.length > 0 || isUrgent(row, progress.reset);
  if (row.from === undefined) return { row, tasks, unfinished, progress };
  const lanes = await readLanes(table, row, progress, nowMs);
  const lagRecords = lanes.reduce((sum, { next, offset }) => sum + Math.max(0, next - offset.base - offset.index), 0);
  return { row, tasks, unfinished, progress, lanes, lagRecords };
};

/** One that only asks the destination where it stands can wait for the schedule that a connector has. */
const isUrgent = ({ trigger }: ConnectorRow, reset: PendingReset | undefined): boolean =>
  reset !== undefined && (reset.all === true || reset.offsets.length > 0 || trigger === onData);

/** Every connector. `onUnreadable` is told of a row that can't be read, and the others are read; without it, that is thrown. */
export const readStates = async (
  table: Table,
  nowMs: number,
  onUnreadable: (name: string, error: ConnectError) => void = (_, error) => {
    throw error;
  },
): Promise<readonly ConnectorState[]> => {
  const names = await table.names('connector');
  const states = await Promise.all(
    names.map((name) =>
      readState(table, name, nowMs).catch((thrown: unknown) => {
        onUnreadable(name, toConnectError(thrown));
        return undefined;
      }),
    ),
  );
  return states.filter((state) => state !== undefined);
};

/** The queues that a connector reads; measured while everything sleeps. */
const readLanes = async (
  table: Table,
  { name, from = [] }: ConnectorRow,
  { offsets }: Progress,
  nowMs: number,
): Promise<readonly LaneState[]> => {
  const done = new Map(offsets.map(({ key, offset }) => [key, offset as LogOffset | null]));
  const startOf = startsOf(table, name, () => nowMs);
  const lists = from.map(async (topicName) => {
    const topic = await readTopic(table, topicName);
    const heads = topic === undefined ? [] : await readHeads(table, topic);
    return Promise.all(
      heads.map(async (head) => ({
        ...head,
        retentionMs: topic!.retentionMs,
        offset: done.get(partitionKey(head.partition)) ?? { base: await startOf(head.partition, head.next), index: 0 },
      })),
    );
  });
  return (await Promise.all(lists)).flat();
};

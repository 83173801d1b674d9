import { laneLag, segmentOf } from '../../shared/management/lag.ts';
import type { ConnectorState } from '../../shared/management/status.ts';
import type { TaskRow } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';
import { elapsedMs } from './elapsed.ts';

/**
 * Whether a task that waits for a backlog has waited long enough since its last run, or has enough to read. The last run, not the age of
 * what is unread: then no record waits longer than `atMostMs`, there is at most one run in that time while little comes, and nothing
 * has to be read to know it. Otherwise one read per queue that it is behind in.
 */
export const backlogIsDue = async (
  table: Table,
  { row, lanes = [] }: ConnectorState,
  { task, lastRunAtMs }: TaskRow,
  nowMs: number,
): Promise<boolean> => {
  if (row.backlog === undefined) return false;
  const behind = lanes.filter(
    ({ partition, offset, next }) => partition.queue % row.tasks === task && offset.base + offset.index < next,
  );
  if (behind.length === 0) return false;
  if (elapsedMs(nowMs, lastRunAtMs) >= row.backlog.atMostMs) return true;
  const unread = await Promise.all(behind.map((lane) => laneLag(segmentOf(table), lane, nowMs)));
  return unread.reduce((sum, { bytes }) => sum + bytes, 0) >= row.backlog.bytes;
};

import { lagFigures, type ReadSegment, readerLag, segmentOf } from '../../shared/management/lag.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import type { ConnectorState, LaneState } from '../../shared/management/status.ts';
import type { Log } from '../../shared/runtime/run.ts';
import type { Table } from '../../shared/state/table.ts';
import type { Unread } from './unread.ts';

/** As often a source is asked how far it is behind: a run of its function and a row, about a cent a month. */
const everyMs = 10 * 60_000;

/**
 * Has the function of a source tell its lag, when its last word is old enough. Also of one that is paused: what its upstream keeps for it
 * grows. Whoever answers writes the answer; nothing is waited for here.
 */
export const askLag = async (
  functions: InvokeFunction,
  { row, progress }: ConnectorState,
  nowMs: number,
): Promise<void> => {
  if (row.lag !== true || nowMs - (progress.lag?.atMs ?? 0) < everyMs) return;
  await functions.event(row.functionName, { connector: row.name, lifecycle: 'lag' });
};

/** What an upstream keeps is lost, or stops it, at 1: from here on an operator has about as much time as there was until now (hazard B16). */
const alarmShare = 0.5;

export const fullUpstreams = ({ row, progress: { lag } }: ConnectorState): readonly string[] => {
  const { share = 0, text } = lag?.lag?.retained ?? {};
  return share < alarmShare ? [] : [`${row.name}: ${text}`];
};

/**
 * The line of each reader that is behind, of which its metrics are made. What stands where the slowest reader does was read already: one
 * more read is for each lane of those who are ahead of it.
 */
export const logLags = async (
  table: Table,
  states: readonly ConnectorState[],
  unread: readonly Unread[],
  nowMs: number,
  log: Log,
): Promise<void> => {
  const nameOf = ({ topic, generation, queue }: LaneState['partition']) => `${topic}#${generation}#${queue}`;
  const queues = new Map(unread.map((queue) => [nameOf(queue.partition), queue]));
  const readSegment: ReadSegment = async (lane) => {
    const known = queues.get(nameOf(lane.partition));
    return known?.base === lane.offset.base ? known.segment : segmentOf(table)(lane);
  };
  for (const { row, lanes, lagRecords = 0 } of states) {
    if (lanes === undefined || lagRecords === 0) continue;
    try {
      log('info', 'lag', { connector: row.name, ...lagFigures(await readerLag(readSegment, lanes, nowMs)) });
    } catch (thrown) {
      log('error', `lag of ${row.name}: ${(thrown as Error).message}`, { connector: row.name });
    }
  }
};

import { toConnectError } from '../../shared/connect/errors.ts';
import { onData } from '../../shared/connect/trigger.ts';
import type { InvokeFunction, Reason } from '../../shared/management/ports.ts';
import { type ConnectorState, readState } from '../../shared/management/status.ts';
import { askAgain, wakeTasks } from '../../shared/management/tasks.ts';
import type { Log } from '../../shared/runtime/run.ts';
import { flipTasks, readConnector } from '../../shared/state/connectors.ts';
import { wakeKey } from '../../shared/state/keys.ts';
import { isHeld, readTask, restartTask, type TaskRow } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';
import { backlogIsDue } from './backlog.ts';
import { elapsedMs } from './elapsed.ts';
import { failedTasks } from './failed-tasks.ts';
import { holdWriters } from './hold.ts';
import { askLag, fullUpstreams, logLags } from './lag.ts';
import { keepUnread } from './retention.ts';
import { findUnread } from './unread.ts';

const minuteMs = 60_000;

/** The wait before restart n of a failed task: n² + n minutes, at most an hour (Strimzi's rule). */
export const restartBackoffMs = (failures: number): number => Math.min(failures * failures + failures, 60) * minuteMs;

/**
 * The liveness guarantee (invariant 9): every minute, whatever a lost trigger, a dead process or a restart left behind is found by
 * reading, and woken. What subscribers have not read is kept, and who writes faster than they read is held. Stateless; two at once are
 * harmless. A connector or a topic that can't be swept does not stop the others. Returns what an operator must know, to alarm by.
 *
 * `eventual` may be some seconds behind `table`, for half the price: what follows from it is compared before it is written, or is a
 * trigger too many, or comes a minute later.
 */
export const sweep = async (
  table: Table,
  functions: InvokeFunction,
  nowMs: number,
  log: Log,
  eventual = table,
): Promise<readonly string[]> => {
  const states: ConnectorState[] = [];
  const alarms: string[] = [];
  for (const name of await eventual.names('connector')) {
    try {
      const state = await readState(eventual, name, nowMs);
      if (state === undefined) continue;
      states.push(state);
      if (state.row.pendingTasks !== undefined) await flipWhenFree(table, functions, state, nowMs);
      else await sweepConnector(eventual, functions, state, nowMs);
      await askLag(functions, state, nowMs);
    } catch (thrown) {
      const { message, retriable } = toConnectError(thrown);
      log('error', `sweep of ${name}: ${message}`, { connector: name });
      // Nobody runs it, and what it has not read is not kept.
      if (!retriable) alarms.push(`${name} can not be swept: ${message}`);
    }
  }
  const unread = await findUnread(eventual, states, log);
  await logLags(eventual, states, unread, nowMs, log);
  return [
    ...alarms,
    ...states.flatMap(failedTasks),
    ...states.flatMap(fullUpstreams),
    ...(await keepUnread(eventual, unread, nowMs, log)),
    ...(await holdWriters(table, functions, states, unread, log)),
  ];
};

const sweepConnector = async (
  table: Table,
  functions: InvokeFunction,
  state: ConnectorState,
  nowMs: number,
): Promise<void> => {
  const { row, tasks, unfinished, lagRecords = 0 } = state;
  if (row.target !== 'STARTED' || row.held !== undefined) return;
  const asks = mustAsk(state, nowMs);
  if (asks) await askAgain(table, row);
  // A connector with a schedule of its own is not late until that comes.
  const behind = (lagRecords > 0 || asks) && row.trigger === onData;
  const invoke = (task: number, reason: Reason) =>
    functions.event(row.functionName, { connector: row.name, task, reason });
  for (const { task, row: lease } of tasks) {
    if (isHeld(lease, nowMs)) continue;
    const restarted = restartIsDue(lease, nowMs) && (await restartTask(table, row.name, task, false));
    if (lease.state === 'FAILED' && !restarted) continue;
    const died = lease.owner !== undefined && isFresh(lease.expiresAtMs, nowMs);
    const more = lease.more === true && isFresh(lease.lastRunAtMs, nowMs);
    if (restarted || died || more || unfinished || behind || (await wakeWasLost(table, row.name, lease, nowMs)))
      await invoke(task, 'sweep');
    else if (await backlogIsDue(table, state, lease, nowMs)) await invoke(task, 'backlog');
  }
};

/** A quiet destination is asked as often as this where it stands, and at least twice in the retention of what it would have to read again. */
const askMs = 24 * 60 * minuteMs;

/**
 * A destination that owns the offsets may fall behind the copy of them, in a failover or a restore (hazard B6): every run asks it, but
 * none comes where the copy says that all is done. So it is asked now and then, at the latest.
 */
const mustAsk = ({ tasks, progress, lanes = [] }: ConnectorState, nowMs: number): boolean => {
  if (progress.cached === undefined || progress.reset !== undefined) return false;
  // None: its first run is about to end.
  const runs = tasks.flatMap(({ row: { lastRunAtMs } }) => lastRunAtMs ?? []);
  const quietMs = runs.length === 0 ? 0 : elapsedMs(nowMs, Math.max(...runs));
  return quietMs >= Math.min(askMs, ...lanes.map(({ retentionMs }) => retentionMs / 2));
};

/** What a retry can mend is retried; a lost position, a poison record or a bad config waits for an operator. */
const restartIsDue = (lease: TaskRow, nowMs: number): boolean =>
  lease.state === 'FAILED' &&
  lease.retriable === true &&
  elapsedMs(nowMs, lease.lastRunAtMs) >= restartBackoffMs(lease.failures);

/**
 * A run that finds nothing to do writes nothing, so a WAKE row or a dead holder's lease stays as it is: what it says is believed for an
 * hour, not for ever, or each would cost a run a minute.
 */
const isFresh = (atMs: unknown, nowMs: number): boolean => nowMs - Number(atMs) <= 60 * minuteMs;

/** A WAKE row that is younger than the task's last run, or may be: the run that should have followed it did not happen. */
const wakeWasLost = async (table: Table, connector: string, lease: TaskRow, nowMs: number): Promise<boolean> => {
  const wake = await table.get(wakeKey(connector, lease.task));
  if (wake === undefined || !isFresh(wake.atMs, nowMs)) return false;
  const { lastRunAtMs = 0 } = lease;
  return Number(wake.atMs) >= lastRunAtMs || lastRunAtMs >= nowMs + minuteMs;
};

/** Hazard B3: the new task set becomes current when no lease of the old one is held; none is taken while it is pending. */
const flipWhenFree = async (
  table: Table,
  functions: InvokeFunction,
  { row }: ConnectorState,
  nowMs: number,
): Promise<void> => {
  // Read after the row was seen pending: a run that took its lease before, shows here; one that takes it later, sees the row.
  for (let task = 0; task < row.tasks; task++) if (isHeld(await readTask(table, row.name, task), nowMs)) return;
  await flipTasks(table, row.name, row.pendingTasks!);
  const flipped = await readConnector(table, row.name);
  if (flipped?.target !== 'STARTED') return;
  await wakeTasks(functions, flipped, 'sweep');
};

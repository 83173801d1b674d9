import { partitionKey, type SinkTask } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { maxPartitionsPerCommit } from '../log/topics.ts';
import { isHeld, readTask } from '../state/lease.ts';
import {
  clearPrepared,
  clearReset,
  commitOffsets,
  type PendingReset,
  type PreparedRow,
  type Progress,
} from '../state/offsets.ts';
import { createLedger } from './ledger.ts';
import type { RunRequest } from './run.ts';

/**
 * The prepared rows that this run has to finish: its own task's, and those of a task that nobody runs, which may be in no task set
 * any more (hazard B3). A promote may be repeated, so nothing is lost where two runs find the same row.
 */
export const leftBehind = async (
  { table, identity, taskId, clock }: RunRequest,
  { prepared }: Progress,
): Promise<readonly PreparedRow[]> => {
  const rows: PreparedRow[] = [];
  for (const row of prepared) {
    const isOurs = row.task === taskId || !isHeld(await readTask(table, identity.connector, row.task), clock.now());
    if (isOurs) rows.push(row);
  }
  return rows;
};

/** Promotes what was prepared, carries out an operator's reset, and says which offsets are the truth. */
export const finishPast = async (
  request: RunRequest,
  sink: SinkTask,
  progress: Progress,
): Promise<Progress['offsets']> => {
  const { identity, table } = request;
  for (const row of await leftBehind(request, progress)) {
    if (sink.promote === undefined)
      throw new ConnectError(
        'STATE_CONFLICT',
        `a batch is prepared (${row.id}) but the sink can't promote it: was the connector's plugin changed? Put the old one back until it has run once`,
      );
    await sink.promote(row);
    await clearPrepared(table, identity, row);
  }
  if (sink.offsets === undefined)
    return progress.reset === undefined ? progress.offsets : resetInState(request, progress.offsets, progress.reset);
  if (progress.reset !== undefined) {
    const moves = ordered(progress.reset, await sink.offsets());
    if (moves.length > 0 && sink.reset === undefined)
      throw new ConnectError('STATE_CONFLICT', 'offsets were reset, but this sink owns them and has no reset');
    // One that moves nothing only wanted the destination to be asked (hazard B6).
    if (moves.length > 0) await sink.reset!(progress.reset.id, moves);
    await clearReset(table, identity, progress.reset.id);
  }
  return sink.offsets();
};

/** What an order moves: where everything starts over, also the partitions that only their owner knows. */
const ordered = ({ all, offsets }: PendingReset, stored: Progress['offsets']): PendingReset['offsets'] => {
  const set = new Set(offsets.map(({ partition }) => partitionKey(partition)));
  const others = stored.filter(({ key }) => all === true && !set.has(key));
  return [...others.map(({ partition }) => ({ partition, offset: null })), ...offsets];
};

/** The order was given before anybody knew that it is the state table that owns the offsets. */
const resetInState = async (
  { table, identity }: RunRequest,
  offsets: Progress['offsets'],
  reset: PendingReset,
): Promise<Progress['offsets']> => {
  const ledger = createLedger(offsets);
  const moves = ordered(reset, offsets);
  for (let at = 0; at < moves.length; at += maxPartitionsPerCommit) {
    const commits = ledger.commitsFor(moves.slice(at, at + maxPartitionsPerCommit), reset.id);
    await commitOffsets(table, identity, commits);
    ledger.committed(commits);
  }
  await clearReset(table, identity, reset.id);
  return ledger.stored();
};

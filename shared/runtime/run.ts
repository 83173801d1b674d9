import type { RecordBatch } from '../connect/batch.ts';
import type { Identity, SinkTask, SourceTask } from '../connect/connector.ts';
import { type ConnectError, isCode, toConnectError } from '../connect/errors.ts';
import type { ErrorPolicy } from '../connect/spec.ts';
import type { Transform } from '../connect/transform.ts';
import { wakeKey } from '../state/keys.ts';
import { type Acquired, acquireLease, isHeld, readTask, type TaskRow, updateHeld } from '../state/lease.ts';
import { loadProgress, type OffsetsCache, offsetsCache, type Progress } from '../state/offsets.ts';
import type { Table } from '../state/table.ts';
import { budgetAfterDeaths, poisonError } from './budget.ts';
import type { Clock } from './clock.ts';
import { copyBatches } from './copy.ts';
import { finishPast, leftBehind } from './finish-past.ts';
import { createLedger, type Ledger, sameProgress } from './ledger.ts';

export interface RunBudget {
  readonly maxRecords: number;
  readonly maxBytes: number;
}

/** What a run tells its host about; never a record's content, never a secret. */
export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

export interface RunRequest {
  readonly identity: Identity;
  readonly taskId: number;
  /** Unique per invocation: the lease's owner. */
  readonly requestId: string;
  readonly table: Table;
  readonly budget: RunBudget;
  readonly errors: ErrorPolicy;
  readonly transforms: readonly Transform[];
  openSource(): Promise<SourceTask<unknown>>;
  openSink(): Promise<SinkTask>;
  /** Appends to the dead letter topic. */
  readonly appendDeadLetters?: (batch: RecordBatch) => Promise<void>;
  /** Whether the connector is still as it was when this run was started: same generation, started, this task in its set. */
  stillCurrent(): Promise<boolean>;
  /** Wakes the connector's other tasks. Best effort: their schedules and the sweep come anyway. */
  readonly wakeOthers?: () => Promise<void>;
  /** Does not end when it has caught up, but waits for more until `stop`, and wakes its successor then. */
  readonly continuous?: boolean;
  /** Ends the run after the batch in progress: a margin before the deadline. */
  readonly stop: AbortSignal;
  /** Ends a put in progress. */
  readonly abort: AbortSignal;
  /** When the lease expires if it is not released: this invocation's deadline, plus its sink's longest request, plus clock skew. */
  readonly leaseExpiresAtMs: number;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Log;
}

/**
 * - `idle`: nothing to do, nothing written. `busy`: another invocation holds the lease. `waiting`: nothing to do before another task of
 *   the connector has committed.
 * - `drained`: everything there was is committed. `more`: the budget ended first; the task has woken itself.
 * - `superseded`: a batch was fenced, or the connector changed meanwhile. `failed`: the task waits for a restart.
 */
export type Outcome = 'idle' | 'busy' | 'waiting' | 'drained' | 'more' | 'superseded' | 'failed';

export interface RunResult {
  readonly outcome: Outcome;
  readonly records: number;
  readonly bytes: number;
  readonly rejected: number;
  readonly batches: number;
  readonly pollMs: number;
  readonly transformMs: number;
  readonly putMs: number;
  readonly commitMs: number;
  readonly error?: ConnectError;
}

/** What a run counts while it goes. */
export interface Totals {
  records: number;
  bytes: number;
  rejected: number;
  batches: number;
  pollMs: number;
  transformMs: number;
  putMs: number;
  commitMs: number;
}

const newTotals = (): Totals => ({
  records: 0,
  bytes: 0,
  rejected: 0,
  batches: 0,
  pollMs: 0,
  transformMs: 0,
  putMs: 0,
  commitMs: 0,
});

/**
 * One run of one task: the only code path from a source to a sink (DESIGN §1). An error is the task's: recorded in its row, and in
 * the result. It throws only where the state table itself can't be read or written.
 */
export const runTask = async (request: RunRequest): Promise<RunResult> => {
  const totals = newTotals();
  const startedMs = request.clock.now();
  const seen = await loadProgress(request.table, request.identity);
  let source: SourceTask<unknown> | undefined;
  try {
    // Its schedule starts it every minute, lest it was lost: then this read is all there is.
    if (request.continuous === true && (await isBusy(request))) return { outcome: 'busy', ...totals };
    try {
      source = await request.openSource();
      const rest = await restOf(request, source, seen);
      if (rest !== undefined) return { outcome: rest, ...totals };
    } catch (thrown) {
      if (isStop(request, thrown)) return { outcome: 'more', ...totals };
      return await failBeforeLease(request, seen, toConnectError(thrown), totals);
    }
    const acquired = await takeLease(request);
    if ('refused' in acquired) return { outcome: acquired.refused === 'busy' ? 'busy' : 'failed', ...totals };
    const held = await underLease(request, source, seen, acquired.lease, totals);
    await release(request, held);
    if (await wakeIsDue(request, source, held, startedMs)) await wake(request);
    return { outcome: held.outcome, ...totals, ...(held.error === undefined ? {} : { error: held.error }) };
  } finally {
    // What was copied is committed: an upstream that does not part nicely undoes none of it.
    await source?.close().catch((thrown: unknown) => request.log('warn', `closing the source: ${messageOf(thrown)}`));
  }
};

const messageOf = (thrown: unknown): string => toConnectError(thrown).message;

/** The run's time ended while a source or a sink waited: drivers throw the signal's reason or an AbortError, some wrap it. */
const isStop = ({ stop, abort }: RunRequest, thrown: unknown): boolean => {
  if (isCode(thrown, 'STOPPED')) return true;
  const causes = thrown instanceof Error ? [thrown, thrown.cause] : [thrown];
  return [stop, abort]
    .filter((signal) => signal.aborted)
    .some(({ reason }) => causes.some((one) => one === reason || (one as Error | undefined)?.name === 'AbortError'));
};

const isBusy = async ({ table, identity, taskId, clock }: RunRequest): Promise<boolean> =>
  isHeld(await readTask(table, identity.connector, taskId), clock.now());

const takeLease = ({ table, identity, taskId, requestId, leaseExpiresAtMs, clock }: RunRequest): Promise<Acquired> =>
  acquireLease(table, {
    connector: identity.connector,
    task: taskId,
    owner: requestId,
    expiresAtMs: leaseExpiresAtMs,
    nowMs: clock.now(),
  });

/** A source that can't be opened or looked at: the task fails like any other, if it is this run's to fail. */
const failBeforeLease = async (
  request: RunRequest,
  seen: Progress,
  error: ConnectError,
  totals: Totals,
): Promise<RunResult> => {
  const acquired = await takeLease(request);
  if ('refused' in acquired) return { outcome: 'failed', ...totals, error };
  // The row may be another incarnation's by now, or the config that failed mended: then this failure is nobody's.
  const outcome = (await request.stillCurrent()) ? 'failed' : 'superseded';
  const failure = outcome === 'failed' ? { error } : {};
  await release(request, { lease: acquired.lease, outcome, ledger: createLedger(seen.offsets), totals, ...failure });
  return { outcome, ...totals, ...failure };
};

/**
 * What a run with nothing to do ends with. Nothing is read before the lease is held (invariant 4): what reading kills is counted, and no
 * batch can be overtaken before its put. A continuous run has something to do: it waits for what comes, unless it is for another task.
 */
const restOf = async (
  request: RunRequest,
  source: SourceTask<unknown>,
  seen: Progress,
): Promise<'idle' | 'waiting' | undefined> => {
  if (seen.reset !== undefined || (await leftBehind(request, seen)).length > 0) return undefined;
  const more = await mayHaveMore(source, seen.offsets);
  if (more === 'waits') return 'waiting';
  return more || request.continuous === true ? undefined : 'idle';
};

/** A source that can't say may have more: each of its runs takes the lease, which is two writes. */
const mayHaveMore = async (source: SourceTask<unknown>, offsets: Progress['offsets']): Promise<boolean | 'waits'> =>
  source.more === undefined || source.more(createLedger(offsets).polled);

interface Held {
  readonly lease: TaskRow;
  readonly outcome: Exclude<Outcome, 'idle' | 'busy'>;
  readonly error?: ConnectError;
  /** An operator's change ended the run: the trigger that came with it found the lease held. */
  readonly changed?: boolean;
  /** Another run moved the offsets between this run's look and its lease, and did what it saw: what it sees now is news. */
  readonly overtaken?: boolean;
  readonly ledger: Ledger;
  /** Set where the destination owns the offsets. */
  readonly cache?: OffsetsCache;
  readonly totals: Totals;
}

/** Everything between taking the lease and releasing it. Throws nothing. */
const underLease = async (
  request: RunRequest,
  source: SourceTask<unknown>,
  seen: Progress,
  lease: TaskRow,
  totals: Totals,
): Promise<Held> => {
  const { identity, table, log } = request;
  let ledger = createLedger(seen.offsets);
  let sink: SinkTask | undefined;
  let now = seen;
  let overtaken = false;
  let cache: OffsetsCache | undefined;
  const held = (outcome: Held['outcome'], why: Pick<Held, 'error' | 'changed'> = {}): Held => ({
    lease,
    outcome,
    ledger,
    totals,
    overtaken,
    ...(cache === undefined ? {} : { cache }),
    ...why,
  });
  try {
    const budget = budgetAfterDeaths(request.budget, lease.deaths);
    if (budget === 'poison') return held('failed', { error: poisonError(lease, ledger.stored()) });
    // Invariant 4 and hazard B3: what the lease protects is read again now that it is held.
    if (!(await request.stillCurrent())) return held('superseded', { changed: true });
    now = await loadProgress(table, identity);
    sink = await request.openSink();
    if (sink.offsets !== undefined) cache = offsetsCache(table, identity, now.offsets);
    const offsets = await finishPast(request, sink, now);
    ledger = createLedger(offsets);
    // Invariant 2: an acknowledgement that was lost is repeated.
    const acknowledged = offsets.filter(({ offset }) => offset !== null);
    if (acknowledged.length > 0) await source.commit?.(acknowledged);
    overtaken = !sameProgress(seen.offsets, offsets);
    for (;;) {
      const before = totals.batches;
      const outcome = await copyBatches({ request, source, sink, ledger, budget, lease, totals, cache });
      if (outcome !== 'waiting' || totals.batches === before || request.stop.aborted)
        return held(outcome, { changed: outcome === 'superseded' });
      // Of tasks that wait for each other the last one to commit sees here what all have committed, and goes on by itself: were that left to
      // the look after the release, a death between the two would strand it (invariant 9).
      ledger = createLedger(await finishPast(request, sink, await loadProgress(table, identity)));
    }
  } catch (thrown) {
    const error = toConnectError(thrown);
    if (isCode(error, 'FENCED')) {
      log('info', error.message, { task: request.taskId });
      return held('superseded');
    }
    if (isStop(request, thrown)) return held('more');
    return held('failed', { error });
  } finally {
    await sink?.close().catch((thrown: unknown) => log('warn', `closing the sink: ${messageOf(thrown)}`));
  }
};

/** The lease, the state and the totals in one write; before it, the cache of offsets that the destination owns. */
const release = async (request: RunRequest, held: Held): Promise<void> => {
  const { lease, outcome, error, ledger, cache, totals } = held;
  const { identity, table, clock } = request;
  // A stale copy, left by a run that died or slept, would look like a backlog for ever.
  await cache?.(ledger.stored());
  const failed = outcome === 'failed';
  const ended = {
    owner: undefined,
    expiresAtMs: undefined,
    suspect: undefined,
    deaths: deathsAfter(request, held),
    state: failed ? ('FAILED' as const) : ('RUNNING' as const),
    failures: failed ? lease.failures + 1 : 0,
    trace: error === undefined ? undefined : `${error.code}: ${error.message}`,
    retriable: error === undefined ? undefined : error.retriable,
    lastRunAtMs: clock.now(),
    lastCommitAtMs: totals.batches > 0 ? clock.now() : lease.lastCommitAtMs,
    records: lease.records + totals.records,
    bytes: lease.bytes + totals.bytes,
    runs: lease.runs + 1,
    // Invariant 9: written with the release, so that no death between it and the WAKE row strands the task. Nor does a put that was
    // given up: the sweep has it tried again, with half the batch.
    more: wakesItself(request, held) || (outcome === 'more' && request.abort.aborted) ? true : undefined,
  };
  const released = await updateHeld(table, identity.connector, lease, ended as unknown as Partial<TaskRow>);
  if (!released) request.log('warn', 'the lease was taken over before it was released', { task: request.taskId });
};

/**
 * What this run says about the size of the next one's batches (invariant 4, hazard B10). One death is forgotten per run that gets
 * on, so that a task that is never drained grows back. A put that was given up at the deadline counts as one: without the abort the
 * deadline would have killed it.
 */
const deathsAfter = ({ abort }: RunRequest, { outcome, lease, totals }: Held): number => {
  if (outcome === 'drained' || outcome === 'waiting' || outcome === 'failed') return 0;
  if (totals.batches > 0) return Math.max(0, lease.deaths - 1);
  return lease.deaths + (abort.aborted ? 1 : 0);
};

/** Whether another run is due, whatever a look finds: there is work left, an operator's change, or the run is to go on for ever. */
const wakesItself = ({ continuous }: RunRequest, { outcome, changed, totals }: Held): boolean => {
  if (changed === true) return true;
  if (continuous === true) return outcome === 'drained' || outcome === 'more';
  return outcome === 'more' && totals.batches > 0;
};

/**
 * Invariant 9: after the release, with strong reads, look once more: what was appended while the lease was held woke somebody who
 * found it held. Only after progress, this run's or another's, so that a task that can't move does not wake itself for ever; a run
 * without any looks whether somebody left word.
 */
const wakeIsDue = async (
  request: RunRequest,
  source: SourceTask<unknown>,
  held: Held,
  startedMs: number,
): Promise<boolean> => {
  if (wakesItself(request, held)) return true;
  const { outcome, overtaken, ledger, totals } = held;
  if (outcome !== 'drained' && outcome !== 'waiting') return false;
  try {
    if (totals.batches === 0 && overtaken !== true) return await wasAskedFor(request, startedMs);
    // Another task may have committed what this one waits for, and have found it held.
    const { offsets } =
      outcome === 'waiting' ? await loadProgress(request.table, request.identity) : { offsets: ledger.stored() };
    return (await mayHaveMore(source, offsets)) === true;
  } catch (thrown) {
    request.log('warn', `looking for more after the release: ${messageOf(thrown)}`, { task: request.taskId });
    return false;
  }
};

/** Whether a run of this task was asked for after this one began: it found the lease held, or was not started because of that. */
const wasAskedFor = async ({ identity, table, taskId }: RunRequest, startedMs: number): Promise<boolean> => {
  const asked = await table.get(wakeKey(identity.connector, taskId));
  return asked !== undefined && Number(asked.atMs) > startedMs;
};

/** The stream carries the row to the dispatcher; if this is lost, the sweep finds the backlog. */
const wake = async ({ identity, table, taskId, clock }: RunRequest): Promise<void> => {
  await table.write([{ put: { ...wakeKey(identity.connector, taskId), atMs: clock.now() } }]);
};

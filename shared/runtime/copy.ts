import { batchBytes, emptyBatch, type RecordBatch } from '../connect/batch.ts';
import {
  movedBytes,
  type OffsetCommit,
  type Poll,
  type PutContext,
  partitionKey,
  type Rejected,
  type SinkTask,
  type SourceTask,
} from '../connect/connector.ts';
import { ConnectError, toConnectError } from '../connect/errors.ts';
import { canonicalJson } from '../connect/json.ts';
import type { Value } from '../connect/schema.ts';
import { applyChain, type Stage, withoutControl } from '../connect/transform.ts';
import { maxPartitionsPerCommit } from '../log/topics.ts';
import { type TaskRow, updateHeld } from '../state/lease.ts';
import { clearPrepared, commitOffsets, type OffsetsCache } from '../state/offsets.ts';
import { placeOf } from './budget.ts';
import { deadLetters, type Letter } from './dead-letters.ts';
import type { Ledger } from './ledger.ts';
import { carriedOffsets, halve, type Piece, piecesOf } from './pieces.ts';
import { restBetweenPolls } from './rest.ts';
import { withRetry } from './retry.ts';
import type { RunBudget, RunRequest, Totals } from './run.ts';

/**
 * An upstream log that moved by `movedBytes` without a record, or for this long, has its offset committed alone, so that its position is
 * not purged (hazard C5): the one write of a source that is quiet and moves.
 */
const movedMs = 10 * 60_000;

/** Whether a poll leaves nothing to write: no record, and so little passed that its offset can wait. */
const isIdle = (poll: Poll<unknown>): boolean => isEmpty(poll) && poll.caughtUp && (poll.moved ?? 0) < movedBytes;

const isEmpty = ({ batch, rejected = [] }: Pick<Poll<unknown>, 'batch' | 'rejected'>): boolean =>
  batch.count === 0 && rejected.length === 0;

export interface Copy {
  readonly request: RunRequest;
  readonly source: SourceTask<unknown>;
  readonly sink: SinkTask;
  readonly ledger: Ledger;
  readonly budget: RunBudget;
  readonly lease: TaskRow;
  readonly totals: Totals;
  /** Set where the destination owns the offsets. */
  readonly cache: OffsetsCache | undefined;
  /** What the transforms made of a batch before its turn. */
  readonly chains: WeakMap<RecordBatch, Chain>;
}

type Chain = ReturnType<typeof applyChain>;

/**
 * Copies batches until the source is caught up (a continuous run: until its time is over) or the run must stop. The next batch is
 * polled while this one is put; commits stay in order. Any error ends the run, and with it everything that was polled ahead (invariant 6).
 */
export const copyBatches = async (
  given: Omit<Copy, 'chains'>,
): Promise<'drained' | 'waiting' | 'more' | 'superseded'> => {
  const copy = { ...given, chains: new WeakMap<RecordBatch, Chain>() };
  const { request, ledger, totals } = copy;
  let next = startPoll(copy);
  // What the polls have passed since the last commit: a quiet stretch may be longer than any one poll, or than this run.
  let moved = 0;
  let lastCommitAtMs = copy.lease.lastCommitAtMs ?? 0;
  const carried = carriedOffsets();
  const rest = restBetweenPolls(request, copy.source);
  const isCurrent = async () => totals.batches === 0 || request.stillCurrent();
  const movedIsDue = () =>
    moved >= movedBytes || (moved > 0 && (request.stop.aborted || request.clock.now() - lastCommitAtMs >= movedMs));
  for (;;) {
    const poll = await next;
    ledger.advance(poll.offsets);
    moved += poll.moved ?? 0;
    const last = poll.caughtUp || request.stop.aborted;
    // Hazard B11: a pause, a stop or a new config ends the run between batches. Before the next poll, whose requests this one would wait for.
    let isChecked = !isEmpty(poll);
    if (isChecked && !(await isCurrent())) return 'superseded';
    // Started now, awaited after this batch; an error is seen then. Not where single records are tried: what dies is one's own doing.
    const ahead = !last && copy.budget.maxRecords > 1;
    if (ahead) {
      next = startPoll(copy).then((coming) => lookAhead(copy, coming));
      next.catch(() => {});
    }
    try {
      for (const piece of pieces(copy, poll)) {
        if (isEmpty(piece) && !movedIsDue()) {
          carried.add(piece);
          continue;
        }
        if (!isChecked && !(await isCurrent())) return 'superseded';
        isChecked = false;
        for (const before of carried.take(piece)) await putPiece(copy, before);
        await putPiece(copy, piece);
        moved = 0;
        lastCommitAtMs = request.clock.now();
        if (request.stop.aborted && piece.to < poll.batch.count) return 'more';
      }
      poll.release?.();
    } finally {
      // No work outlives the run: a poll in flight uses the source that is closed next.
      if (ahead) await next.catch(() => {});
    }
    if (poll.caughtUp && poll.waits === true) return 'waiting';
    if (poll.caughtUp && request.continuous === true) {
      const then = await rest(!isIdle(poll));
      if (then === 'poll') {
        next = startPoll(copy);
        continue;
      }
      // Its time is over while it waits: what moved without a record is committed now, as movedIsDue does it within a poll.
      if (moved > 0) for (const before of carried.take(endOf(poll))) await putPiece(copy, before);
      return then === 'stop' ? 'drained' : 'superseded';
    }
    if (poll.caughtUp) return 'drained';
    if (last || request.stop.aborted) return 'more';
    if (!ahead) next = startPoll(copy);
  }
};

const pieces = ({ sink }: Copy, poll: Poll<unknown>) =>
  piecesOf(poll, { maxPartitions: maxPartitionsPerCommit, take: (batch) => sink.take?.(batch) ?? batch.count });

/** Has the sink begin with the batch that comes next, transformed, where it will come in one piece. */
const lookAhead = (copy: Copy, poll: Poll<unknown>): Poll<unknown> => {
  const { request, sink, chains } = copy;
  const { batch } = poll;
  // A run that ends puts no other batch, and would wait for what is begun.
  if (sink.ahead === undefined || batch.count === 0 || request.stop.aborted) return poll;
  const [first] = pieces(copy, poll);
  if (first!.to < batch.count) return poll;
  try {
    const chain = transform(copy, batch);
    chains.set(batch, chain);
    if (chain.batch.count > 0) sink.ahead(chain.batch);
  } catch {
    // Its put comes to the same error, and can part the batch.
  }
  return poll;
};

const transform = ({ request, sink, totals, chains }: Copy, batch: RecordBatch): Chain => {
  const known = chains.get(batch);
  if (known !== undefined) return known;
  const startMs = request.clock.now();
  const { transforms } = request;
  const chain = applyChain(sink.takesControl === true ? transforms : [...transforms, withoutControl], batch);
  totals.transformMs += request.clock.now() - startMs;
  return chain;
};

/** Nothing, behind all records of a poll. */
const endOf = (poll: Poll<unknown>): Piece => {
  const end = poll.batch.count;
  return { poll, batch: emptyBatch, from: end, to: end, offsets: [], rejected: [] };
};

const startPoll = ({ request, source, ledger, budget, totals }: Copy): Promise<Poll<unknown>> =>
  timed(totals, 'pollMs', request, () => source.poll(ledger.polled, { ...budget, signal: request.stop }));

const timed = async <T>(
  totals: Totals,
  name: 'pollMs' | 'putMs' | 'commitMs',
  { clock }: RunRequest,
  call: () => Promise<T>,
): Promise<T> => {
  const startMs = clock.now();
  try {
    return await call();
  } finally {
    totals[name] += clock.now() - startMs;
  }
};

/**
 * Writes one piece and commits its offsets. A row error that names no record is narrowed down by halves, each committed by itself; so is an
 * order error: another task may wait for what comes before it in this very piece, and each would wait for the other for ever.
 */
const putPiece = async (copy: Copy, piece: Piece): Promise<void> => {
  try {
    await putWhole(copy, piece);
  } catch (thrown) {
    const error = toConnectError(thrown);
    if (error.blame === 'system') throw error;
    const halves = halve(piece);
    if (halves === undefined) {
      // Invariant 8: what depends on others is no dead letter.
      if (error.blame === 'order') throw error;
      return putRejected(copy, piece, error);
    }
    for (const half of halves) await putPiece(copy, half);
  }
};

/** Nothing of this piece can be written: its records go to the dead letters, its offsets are committed. */
const putRejected = async (copy: Copy, piece: Piece, error: ConnectError): Promise<void> => {
  const rejected = Array.from({ length: piece.batch.count }, (_, index) => ({
    index,
    error,
    stage: 'TASK_PUT' as const,
  }));
  await putWhole(copy, piece, rejected);
};

const putWhole = async (
  copy: Copy,
  piece: Piece,
  allRejected?: readonly (Rejected & { stage: Stage })[],
): Promise<void> => {
  const { request, sink, ledger, lease, budget, totals } = copy;
  const { errors, clock, stop, log } = request;
  if (budget.maxRecords === 1) await nameSuspect(request, lease, piece, 'at');
  const chain = allRejected === undefined ? transform(copy, piece.batch) : { batch: emptyBatch, rejected: allRejected };

  const reject = rejecter(copy, piece);
  await reject([...sourceLetters(piece), ...chain.rejected.map((one) => letterOf(piece, one, one.stage))]);

  const commits = ledger.commitsFor(piece.offsets, request.newId());
  const prepared: string[] = [];
  let committing = false;
  const context: PutContext = {
    offsets: commits,
    epoch: lease.epoch,
    signal: request.abort,
    reject: (rejected) =>
      reject(
        rejected.map((one) => letterOf(piece, { ...one, index: chain.origin?.[one.index] ?? one.index }, 'TASK_PUT')),
      ),
    async commit(row) {
      committing = true;
      await timed(totals, 'commitMs', request, () =>
        commitOffsets(request.table, request.identity, commits, { ...row, task: request.taskId }),
      );
      prepared.push(row.id);
    },
  };
  const bytes = batchBytes(piece.batch);
  const put = async () => {
    checkLease(request, lease);
    return sink.put(chain.batch, context);
  };
  const onRetry = (error: ConnectError, attempt: number) => {
    // What was staged may be committed: another attempt would stage it again. Only the next run's open can tell, and promotes it.
    if (committing) throw error;
    // What comes before it is written first; it waits alone.
    if (error.blame === 'order' && halve(piece) !== undefined) throw error;
    log('warn', `retrying put: ${error.message}`, { task: request.taskId, attempt });
  };
  const { committed } = await timed(totals, 'putMs', request, () => withRetry(put, errors, clock, stop, onRetry));
  for (const id of prepared) await clearPrepared(request.table, request.identity, { id, task: request.taskId });
  if (!committed) await timed(totals, 'commitMs', request, () => commitAfterPut(copy, commits));
  ledger.committed(commits);
  if (piece.poll.wakes === true) await wakeOthers(copy);
  if (budget.maxRecords === 1) await nameSuspect(request, lease, piece, 'after');
  totals.batches++;
  totals.records += piece.batch.count;
  totals.bytes += bytes;
  log('debug', 'batch', { records: piece.batch.count, bytes });
  // Invariant 2: the upstream may forget only what is durable downstream.
  await copy.source.commit?.(piece.offsets);
};

/** They look into the state table, which has to be told first of what a destination owns. */
const wakeOthers = async ({ request, ledger, cache }: Copy): Promise<void> => {
  await cache?.(ledger.stored());
  await request.wakeOthers?.();
};

/**
 * Invariant 4: a process that slept past its lease (a laptop's lid, SIGSTOP) may find its work done by another. A sink that joins the
 * commit is fenced anyway; for the others this is the last look before their effects.
 */
const checkLease = ({ clock }: RunRequest, lease: TaskRow): void => {
  if (clock.now() >= lease.expiresAtMs!)
    throw new ConnectError(
      'FENCED',
      `this run outlived its lease by ${clock.now() - lease.expiresAtMs!} ms: what it holds may have been written by another`,
    );
};

/** For a sink that can't join: its effects are durable, now the offsets are (at least once, or effectively once by identity). */
const commitAfterPut = ({ request }: Copy, commits: readonly OffsetCommit[]): Promise<void> =>
  withRetry(
    () => commitOffsets(request.table, request.identity, commits),
    request.errors,
    request.clock,
    request.stop,
    (error, attempt) => request.log('warn', `retrying commit: ${error.message}`, { task: request.taskId, attempt }),
  );

const rejecter = ({ request, totals }: Copy, piece: Piece) => {
  const send = deadLetters({
    owner: request.identity,
    taskId: request.taskId,
    policy: request.errors,
    ...(request.appendDeadLetters === undefined ? {} : { append: request.appendDeadLetters }),
    onTolerated: ({ position, stage, error }) => {
      totals.rejected++;
      request.log('warn', `record rejected: ${error.message}`, {
        task: request.taskId,
        stage,
        partition: position.partition,
        offset: position.offset,
      });
    },
  });
  // A put that is retried rejects the same records again: they are sent once per piece.
  const sent = new Set<string>();
  return async (letters: readonly Letter[]): Promise<void> => {
    const fresh = letters.filter((letter) => !sent.has(letterName(letter, piece)));
    await send(fresh);
    for (const letter of fresh) sent.add(letterName(letter, piece));
  };
};

const letterName = ({ position, stage, record }: Letter, piece: Piece): string =>
  canonicalJson([
    partitionKey(position.partition),
    position.offset as Value,
    stage,
    'index' in record ? record.index - piece.from : -1,
  ]);

const letterOf = (piece: Piece, { index, error }: Rejected, stage: Stage): Letter => ({
  position: piece.poll.position(piece.from + index),
  topic: topicAt(piece, index),
  stage,
  error,
  record: { batch: piece.batch, index },
});

const topicAt = ({ batch }: Piece, index: number): string => {
  let start = 0;
  for (const group of batch.groups) {
    if (index < start + group.count) return group.topic;
    start += group.count;
  }
  return '';
};

const sourceLetters = (piece: Piece): readonly Letter[] =>
  piece.rejected.map(({ partition, offset, topic, error, raw }) => ({
    position: { partition, offset },
    topic,
    stage: 'TASK_POLL',
    error,
    record: { raw: raw ?? new Uint8Array() },
  }));

/** With one record per batch a death is that record's: its position is written down before it is tried, and that it is done after it. */
const nameSuspect = async (request: RunRequest, lease: TaskRow, piece: Piece, which: 'at' | 'after'): Promise<void> => {
  if (piece.batch.count === 0) return;
  const { partition, offset } = piece.poll.position(piece.from);
  const suspect = `${which} ${placeOf(partitionKey(partition), offset)}`;
  const ours = await updateHeld(request.table, request.identity.connector, lease, { suspect });
  if (!ours) throw new ConnectError('FENCED', 'the lease was taken over');
};

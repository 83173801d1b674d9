import { setTimeout as delay } from 'node:timers/promises';
import type { Budget, OpenContext, Poll } from '../../shared/connect/connector.ts';
import { isCode } from '../../shared/connect/errors.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import type { PostgresCdcOffset, StreamOffset } from './cdc-offset.ts';
import type { Layouts, Session } from './cdc-session.ts';
import { type ChangeBatch, createBatch } from './change-batch.ts';
import { type Changes, createChanges, type Place } from './changes.ts';
import type { Connection } from './client.ts';
import type { SeenIn } from './hand-over.ts';
import { lsnText, parseLsn } from './pgoutput.ts';
import {
  advanceSlot,
  flushedTo,
  hasChanges,
  peekStatement,
  readSlot,
  requirePosition,
  type SlotNames,
  type SlotState,
  whenFree,
} from './slot.ts';

/**
 * The server looks at the limit at commits only, and keeps what it found, on its disk if need be, until it is read. Each COPY decodes anew
 * from where the slot is: it should bring enough that this is rare, and not so much that a disk fills.
 */
const changesPerPeek = 100_000;
/** The WAL that one COPY goes through, where there is more. Both limits double as long as it does not bring a full batch. */
const bytesPerPeek = 256n * 1024n * 1024n;

/** Less WAL than this without a change is not worth telling. */
const quietBytes = 1024n * 1024n;
/** So much is worth a run, and its offset a commit: the server keeps all of it until then (hazard C5). */
const dueBytes = 64n * 1024n * 1024n;

/**
 * Between two looks whether the log has grown. Each that finds changes of others only has cost the server their decoding: the next comes
 * later.
 */
const lookMs = { first: 10, longest: 160 };

/** A COPY of changes under way. */
interface Peek {
  readonly changes: Changes;
  readonly state: SlotState;
  /** It has all transactions that commit before this. */
  readonly to: bigint;
  readonly maxChanges: number;
  /** Some of its changes may be in rows already. */
  readonly isHandOver: boolean;
}

/** How far a poll has come. */
interface Progress {
  readonly stored: StreamOffset | undefined;
  /** Unknown until the slot was looked at, where nothing is stored. */
  from?: Place;
  place?: Place;
  state?: SlotState;
  batch?: ChangeBatch;
  isHandOver?: boolean;
  caughtUp: boolean;
}

const placeOf = ({ lsn, row = 0, record = 0 }: StreamOffset): Place => ({ lsn: parseLsn(lsn), row, record });

export interface StreamOptions {
  readonly partition: { readonly server: string };
  readonly names: SlotNames;
  readonly session: Session;
  readonly layouts: Layouts;
  /** What of the changes from a place on is in rows already. Undefined: nothing. */
  seenIn(connection: Connection, state: SlotState, from: bigint): Promise<SeenIn | undefined>;
}

/** The changes of tables, from the slot. */
export interface Stream {
  poll(stored: StreamOffset | undefined, budget: Budget): Promise<Poll<PostgresCdcOffset>>;
  more(stored: StreamOffset | undefined): Promise<boolean>;
  /** Where reading begins that has no position yet. */
  begin(signal: AbortSignal): Promise<StreamOffset>;
  isDurable(offset: StreamOffset): void;
  /** Resolves when the server has written more than the last poll has read, at the latest after `waitMs`. */
  wait(waitMs: number, signal: AbortSignal): Promise<void>;
  /** The connection is wanted for something else. */
  forget(): void;
  close(): Promise<void>;
}

export const createStream = (context: OpenContext<PostgresCdcConfig>, options: StreamOptions): Stream => {
  const { config } = context;
  const { partition, names, session, layouts } = options;
  const slot = createAcknowledger(names.slot);
  let peek: Peek | undefined;
  /** What the runner gives as the offset, if it goes on where the last poll left off. */
  let left: string | undefined;
  /** The last poll has read so far. */
  let reached = 0n;
  let nextLookMs = lookMs.first;

  const forget = () => {
    if (peek !== undefined) session.drop();
    peek = undefined;
  };

  /** Undefined: there is nothing behind the place. */
  const startPeek = async (connection: Connection, progress: Progress, doubled: number): Promise<Peek | undefined> => {
    const state = await readSlot(connection, names.slot);
    const { confirmed } = requirePosition(state, names, progress.stored);
    // Not before it is known to be the server whose changes these are.
    await slot.acknowledge(connection);
    progress.state = state;
    progress.from ??= { lsn: confirmed, row: 0, record: 0 };
    progress.place ??= progress.from;
    const from = progress.place;
    if (state.end <= from.lsn) return undefined;
    const maxChanges = changesPerPeek * 2 ** doubled;
    const window = bytesPerPeek * 2n ** BigInt(doubled);
    const to = state.end - from.lsn > window ? from.lsn + window : state.end;
    const seenIn = await options.seenIn(connection, state, from.lsn);
    const changes = createChanges(connection.copyOut(peekStatement(names, to, maxChanges)), {
      from,
      skipped: new Set(config.skippedOperations),
      tombstones: config.tombstonesOnDelete,
      transactions: config.transactions,
      ...(seenIn === undefined ? {} : { seenIn }),
      ...layouts,
    });
    return { changes, state, to, maxChanges, isHandOver: seenIn !== undefined };
  };

  const readPeek = async (connection: Connection, progress: Progress, budget: Budget, doubled: number) => {
    peek ??= await startPeek(connection, progress, doubled);
    if (peek === undefined) return undefined;
    const { changes, state } = peek;
    progress.state = state;
    progress.isHandOver = peek.isHandOver;
    const source = { version: state.version, name: config.topicPrefix, db: state.database };
    progress.batch ??= createBatch(budget, partition, source, config.topic !== undefined);
    try {
      return await changes.read(progress.batch);
    } catch (error) {
      peek = undefined;
      throw error;
    } finally {
      progress.place = changes.place;
    }
  };

  /** Reads until the batch is full or nothing is left. */
  const read = async (progress: Progress, budget: Budget): Promise<void> => {
    for (let doubled = 0; !progress.caughtUp; doubled++) {
      const done = await whenFree(() =>
        session.use(budget.signal, (connection) => readPeek(connection, progress, budget, doubled)),
      );
      if (done === 'full') return;
      if (peek === undefined || hasAll(peek, progress)) progress.caughtUp = true;
      peek = undefined;
    }
  };

  const pollOf = ({ stored, from, place, state, batch, isHandOver, caughtUp }: Progress): Poll<PostgresCdcOffset> => {
    const offsetOf = (at: Place): StreamOffset => offsetAt(at, state!, names);
    const none = createBatch({ maxRecords: 0, maxBytes: 0 }, partition, { version: '', name: '', db: '' });
    const { rejected, ...finished } = (batch ?? none).finish(offsetOf);
    const isEmpty = finished.batch.count + rejected.length === 0;
    const moved = isEmpty && place !== undefined ? movedOf(from!, place, isHandOver) : 0;
    const offsets = place === undefined || (isEmpty && moved === 0) ? [] : [{ partition, offset: offsetOf(place) }];
    left = JSON.stringify(offsets[0]?.offset ?? stored);
    reached = place?.lsn ?? 0n;
    nextLookMs = isEmpty ? Math.min(nextLookMs * 2, lookMs.longest) : lookMs.first;
    return {
      ...finished,
      offsets,
      caughtUp,
      ...(moved === 0 ? {} : { moved }),
      ...(rejected.length === 0 ? {} : { rejected }),
    };
  };

  const look = async (connection: Connection, stored: StreamOffset | undefined): Promise<boolean> => {
    const state = await readSlot(connection, names.slot);
    try {
      requirePosition(state, names, stored);
    } catch (error) {
      // Another run went further, or the position is lost: which of the two is told when the offsets are read under the lease.
      if (isCode(error, 'LOST_POSITION')) return true;
      throw error;
    }
    const lsn = stored === undefined ? state.slot!.confirmed : parseLsn(stored.lsn);
    if (stored?.row !== undefined || state.end - lsn >= dueBytes) return true;
    if (state.end <= lsn) return false;
    if (stored !== undefined) slot.isDurable(lsn);
    await slot.acknowledge(connection);
    return hasChanges(connection, names, state.end);
  };

  return {
    async poll(stored, budget) {
      if (JSON.stringify(stored) !== left) forget();
      const from = peek?.changes.place ?? (stored && placeOf(stored));
      const progress: Progress = { stored, caughtUp: false, ...(from && { from, place: from }) };
      try {
        await read(progress, budget);
      } catch (error) {
        forget();
        // What came before goes first; the next poll comes to the same error.
        if (progress.batch === undefined || progress.batch.count === 0) throw error;
      }
      return pollOf(progress);
    },
    begin: (signal) =>
      session.use(signal, async (connection) => {
        const state = await readSlot(connection, names.slot);
        const { confirmed } = requirePosition(state, names, undefined);
        return offsetAt({ lsn: confirmed, row: 0, record: 0 }, state, names);
      }),
    async wait(waitMs, signal) {
      const untilMs = performance.now() + waitMs;
      do await delay(nextLookMs, undefined, { signal });
      while (performance.now() < untilMs && (await session.use(signal, flushedTo)) <= reached);
    },
    isDurable: ({ lsn }) => slot.isDurable(parseLsn(lsn)),
    forget,
    more(stored) {
      forget();
      return whenFree(() => session.use(context.signal, (connection) => look(connection, stored)));
    },
    async close() {
      const isBusy = peek !== undefined;
      peek = undefined;
      try {
        if (slot.isDue()) await slot.acknowledge(isBusy ? await session.aside() : await session.main(context.signal));
      } finally {
        if (isBusy) session.drop();
      }
    },
  };
};

const offsetAt = ({ lsn, row, record }: Place, { system, timeline }: SlotState, { slot }: SlotNames): StreamOffset => ({
  lsn: lsnText(lsn),
  ...(row === 0 ? {} : { row }),
  ...(record === 0 ? {} : { record }),
  system,
  timeline,
  slot,
});

/** Whether a COPY that ended has told of all there was. What it found nothing in is passed. */
const hasAll = ({ changes, state, to, maxChanges }: Peek, progress: Progress): boolean => {
  if (changes.messages >= maxChanges) return false;
  if (to > progress.place!.lsn) progress.place = { lsn: to, row: 0, record: 0 };
  return to === state.end;
};

/**
 * Bytes of WAL without a record. The end of a transaction is a commit at once: looking for it again costs the transaction. So are
 * changes that rows have already: until they are passed, each look finds them.
 */
const movedOf = (from: Place, place: Place, isHandOver = false): number => {
  if ((from.row > 0 || isHandOver) && place.lsn > from.lsn) return Number(dueBytes);
  const bytes = place.lsn - from.lsn;
  return bytes < quietBytes ? 0 : Number(bytes);
};

/**
 * Invariant 2: the slot is moved to what is durable downstream, and never beyond. Not with each commit: it is decoding for the server,
 * and no use before the next COPY. What is lost by a death is told again, because a run begins with a commit of what is stored.
 */
const createAcknowledger = (name: string) => {
  let durable = 0n;
  let acknowledged = 0n;
  let isKnown = false;
  return {
    isDurable(lsn: bigint) {
      if (lsn > durable) durable = lsn;
    },
    /** There is something to tell, and this is the server to be told. */
    isDue: () => isKnown && durable > acknowledged,
    async acknowledge(connection: Connection) {
      isKnown = true;
      if (durable <= acknowledged) return;
      await advanceSlot(connection, name, durable);
      acknowledged = durable;
    },
  };
};

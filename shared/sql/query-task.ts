import { emptyBatch } from '../connect/batch.ts';
import {
  type Budget,
  type Offsets,
  type OpenContext,
  type Poll,
  type Position,
  partitionKey,
  type SourceTask,
} from '../connect/connector.ts';
import { controlRecord } from '../connect/control.ts';
import { ConnectError } from '../connect/errors.ts';
import { canonicalJson } from '../connect/json.ts';
import type { QueryConfig, QueryOffset } from '../connect/query-config.ts';
import type { Value } from '../connect/schema.ts';
import { type BulkStep, nextBulkStep, type Slice } from './query-bulk.ts';
import { cursorOfRow, type PageLimits, type QueryRows, readPage } from './query-page.ts';
import { runName, runRecord, toPoll } from './query-poll.ts';
import { positionOf, type QuerySource, sourceOf, tasksOfTable } from './query-position.ts';
import { backwards, type Cursor, conditionsOf, type Dialect, selectOf, whereOf } from './query-statement.ts';
import { missingTables, type QueryTable } from './query-table.ts';
import type { Connection } from './session.ts';
import { committing, waiting } from './snapshot-poll.ts';

/** What a system knows of its tables, and how their rows come. */
export interface QueryReader<T extends QueryTable> {
  readonly connection: Connection;
  readonly dialect: Dialect;
  /** Which server it is, in offsets, and the tables of the config that are there. */
  look(): Promise<{ readonly identity: string; readonly tables: readonly T[] }>;
  rows(table: T, statement: Statement): Promise<QueryRows>;
  /** What parts the primary key of a table, as it is now, into ranges that are worth a task each. */
  bounds(table: T): Promise<NonNullable<QueryOffset['bounds']>>;
}

export interface Statement extends PageLimits {
  readonly topic: string;
  readonly cursor: Cursor;
  /** The whole of it, but for what it selects: the fields of the table and then `cursor`. */
  sql(fields: readonly string[]): string;
}

/**
 * Tables one after the other, each in pages behind the last row that was read. A run ends when each table has given a page that was not
 * full: what comes in the meantime is the next run's.
 */
export const createQueryTask = <T extends QueryTable>(
  config: QueryConfig,
  reader: QueryReader<T>,
  {
    incarnation,
    signal,
    taskId,
    tasks: all,
  }: Pick<OpenContext<QueryConfig>, 'incarnation' | 'signal' | 'taskId' | 'tasks'>,
): SourceTask<QueryOffset> => {
  type Source = QuerySource<T>;
  interface Looked {
    readonly identity: string;
    readonly sources: readonly Source[];
  }
  const { dialect } = reader;
  const tasks = tasksOfTable(config, all);
  let looked: Promise<Looked> | undefined;

  const look = async (): Promise<Looked> => {
    const { identity, tables } = await reader.look();
    const missing = missingTables(config, tables);
    if (missing.length > 0)
      throw new ConnectError(
        'NOT_FOUND',
        `there is no table ${missing.join(', ')}, or the account may not read it: mend tables, or GRANT SELECT ON it`,
      );
    return { identity, sources: tables.map((table) => sourceOf(table, config, dialect)) };
  };

  /** Invariant 6: what waits for the server is cut when the signal aborts. */
  const through = async <R>(abort: AbortSignal, work: (looked: Looked) => Promise<R>): Promise<R> => {
    const cut = () => reader.connection.destroy();
    abort.addEventListener('abort', cut, { once: true });
    try {
      abort.throwIfAborted();
      looked ??= look();
      return await work(await looked);
    } catch (error) {
      if (abort.aborted) throw new ConnectError('STOPPED', 'reading by queries was stopped', { cause: error });
      // Invariant 8: where the server can't evaluate what it is asked for, no record is to blame.
      if (error instanceof ConnectError && error.blame !== 'system')
        throw new ConnectError('CONFIG_INVALID', error.message, { cause: error });
      throw error;
    } finally {
      abort.removeEventListener('abort', cut);
    }
  };

  const tell = (source: Source, event: 'begin' | 'end', offset: QueryOffset, isTold: boolean): Poll<QueryOffset> =>
    committing(
      { partition: source.partition, offset },
      isTold ? runRecord(source, incarnation, event, offset) : undefined,
    );

  const pollSlice = async (slice: Slice<Source>, budget: Budget, ends: boolean): Promise<Poll<QueryOffset>> => {
    const { source, from, to = from.to } = slice;
    const { table, cursor, topic } = source;
    // Rows without a key have no place between them: where one was read, all were.
    if (cursor.parts.length === 0 && from.after !== null) return toPoll(slice, undefined, ends);
    const conditions = conditionsOf(cursor, { after: from.after, to }, dialect);
    const page = await readPage(table, cursor, budget, source.rowBytes, (limits) =>
      reader.rows(table, {
        ...{ ...limits, topic, cursor },
        sql: (fields) => selectOf(table, fields, cursor, config, conditions, limits.maxRows),
      }),
    );
    if (page.rows.count > 0) source.rowBytes = Math.max(1, page.rows.bytes / page.rows.count);
    return toPoll(slice, page, ends);
  };

  const bulkStep = ({ identity, sources }: Looked, offsets: Offsets<QueryOffset>) =>
    nextBulkStep<T, Source>(sources, offsets, { task: taskId, tasks }, (source) =>
      positionOf(source, offsets, { identity, config, tasks }),
    );

  const pollBulk = async (
    looked: Looked,
    offsets: Offsets<QueryOffset>,
    budget: Budget,
  ): Promise<Poll<QueryOffset>> => {
    const step = bulkStep(looked, offsets);
    if (step === undefined) return nothing;
    if (step.kind === 'wait') return waiting();
    const poll = await takeStep(step, budget);
    const next = bulkStep(looked, moved(offsets, poll.offsets));
    return { ...poll, caughtUp: next === undefined || next.kind === 'wait', waits: next?.kind === 'wait' };
  };

  const takeStep = async (step: Exclude<BulkStep<Source>, { kind: 'wait' }>, budget: Budget) => {
    const { source, from } = step;
    const { partition } = source;
    const end = (offset: QueryOffset) => tell(source, 'end', { ...offset, endedMs: Date.now() }, config.runs);
    source.isKnown = true;
    if (step.kind === 'end') return end(from);
    if (step.kind === 'begin' && tasks > 1) {
      const bounds = await reader.bounds(source.table);
      return { ...tell(source, 'begin', { ...from, bounds }, config.runs), wakes: true };
    }
    if (step.kind === 'begin' && config.runs) return tell(source, 'begin', from, true);
    const slice = step.kind === 'read' ? step : { source, partition, from };
    const poll = await pollSlice(slice, budget, !config.runs);
    // Where runs are told, what ends is a record by itself.
    if (!config.runs || poll.offsets.length > 0) return poll;
    return slice.partition === partition ? end(from) : rangeEnd(slice);
  };

  /** A sink that writes transactions whole has the rows of each partition in a lane of its own, and would keep those of a range for ever. */
  const rangeEnd = ({ source, partition, from }: Slice<Source>): Poll<QueryOffset> => {
    const transaction = `${runName(source, incarnation, from)}/${partition.range}`;
    const offset = { ...from, endedMs: Date.now() };
    return committing({ partition, offset }, controlRecord(source.topic, { event: 'commit', transaction }));
  };

  /** Where runs are told, what is there when reading begins is one, up to its last row: the offset keeps which. */
  const pollNew = async (source: Source, from: QueryOffset, budget: Budget): Promise<Poll<QueryOffset>> => {
    const { partition } = source;
    const { to, ...behind } = from;
    if (to === undefined) {
      const last = config.runs ? await lastOf(source, from) : undefined;
      if (config.runs && last === undefined) return nothing;
      if (last === undefined) return pollSlice({ source, partition, from }, budget, false);
      return tell(source, 'begin', { ...from, run: (from.run ?? 0) + 1, to: [last] }, true);
    }
    const poll = await pollSlice({ source, partition, from }, budget, false);
    if (poll.offsets.length > 0) return { ...poll, caughtUp: false };
    const end = committing({ partition, offset: behind }, runRecord(source, incarnation, 'end', from));
    return { ...end, caughtUp: true };
  };

  /** The last value of the cursor's first column that there is to read now. */
  const lastOf = async ({ table, topic, cursor }: Source, from: QueryOffset): Promise<string | undefined> => {
    const last = backwards(cursor);
    const conditions = [...conditionsOf(cursor, from, dialect), last.condition];
    const rows = await reader.rows(table, {
      ...{ topic, cursor: last.cursor, maxRows: 1, maxBytes: 1 },
      sql: (fields) => selectOf(table, fields, last.cursor, config, conditions, 1),
    });
    return rows.count === 0 ? undefined : cursorOfRow(rows, 0, last.cursor, table)[0];
  };

  const isDone = ({ doneAt, partition }: Source, offsets: Offsets<QueryOffset>): boolean =>
    doneAt === textOf(offsets.get(partition));

  const pollTables = async (
    { identity, sources }: Looked,
    offsets: Offsets<QueryOffset>,
    budget: Budget,
  ): Promise<Poll<QueryOffset>> => {
    let found: Poll<QueryOffset> | undefined;
    for (const source of sources.filter((one) => !isDone(one, offsets))) {
      const from = positionOf(source, offsets, { identity, config, tasks })!;
      const poll = await pollNew(source, from, budget);
      const isEmpty = poll.offsets.length === 0;
      if (poll.caughtUp) source.doneAt = textOf(isEmpty ? offsets.get(source.partition) : poll.offsets[0]!.offset);
      if (isEmpty) continue;
      found = poll;
      break;
    }
    const [moved] = found?.offsets ?? [];
    const caughtUp = sources.every((source) =>
      moved?.partition === source.partition ? found!.caughtUp : isDone(source, offsets),
    );
    // The next poll of a run that goes on looks at all of them anew.
    if (caughtUp) for (const source of sources) source.doneAt = undefined;
    return { ...(found ?? nothing), caughtUp };
  };

  const hasNew = async ({ identity, sources }: Looked, offsets: Offsets<QueryOffset>): Promise<boolean> => {
    const froms = sources.map((source) => positionOf(source, offsets, { identity, config, tasks })!);
    // The end of a run that is open is to be told.
    if (froms.some(({ to }) => to !== undefined)) return true;
    if (sources.length === 0) return false;
    const behind = sources.map(
      ({ table, cursor }, i) =>
        `EXISTS (SELECT 1 FROM ${table.from} AS q${whereOf(config, conditionsOf(cursor, froms[i]!, dialect))})`,
    );
    const [row] = await reader.connection.query<{ found: unknown }>(`SELECT ${behind.join(' OR ')} AS found`);
    return Number(row!.found) === 1;
  };

  const isBulk = config.mode === 'bulk';
  return {
    poll: (offsets, budget) =>
      through(budget.signal, (looked) => (isBulk ? pollBulk : pollTables)(looked, offsets, budget)),
    more: (offsets) =>
      through(signal, async (looked) => {
        if (!isBulk) return hasNew(looked, offsets);
        const step = bulkStep(looked, offsets);
        return step?.kind === 'wait' ? 'waits' : step !== undefined;
      }),
    close: () => reader.connection.close(),
  };
};

const textOf = (offset: QueryOffset | undefined): string => canonicalJson({ ...offset } as Value);

const nothing: Poll<QueryOffset> = {
  batch: emptyBatch,
  position(index) {
    throw new RangeError(`record ${index} of none`);
  },
  offsets: [],
  caughtUp: true,
};

/** The offsets when these are committed. */
const moved = (offsets: Offsets<QueryOffset>, to: readonly Position<QueryOffset>[]): Offsets<QueryOffset> => {
  const positions = new Map(Array.from(offsets.all(), (one) => [partitionKey(one.partition), one]));
  for (const position of to) positions.set(partitionKey(position.partition), position);
  return { get: (partition) => positions.get(partitionKey(partition))?.offset, all: () => positions.values() };
};

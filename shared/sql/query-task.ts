import { emptyBatch, freeGroup, gatherBatch, sliceBatch } from '../connect/batch.ts';
import {
  type Budget,
  movedBytes,
  type Offsets,
  type OpenContext,
  type Partition,
  type Poll,
  pollOf,
  type RejectedSourceRecord,
  type SourceTask,
} from '../connect/connector.ts';
import { type Control, controlRecord } from '../connect/control.ts';
import { ConnectError } from '../connect/errors.ts';
import { canonicalJson } from '../connect/json.ts';
import type { QueryConfig, QueryOffset } from '../connect/query-config.ts';
import type { Value } from '../connect/schema.ts';
import { topicOf } from '../connect/table-names.ts';
import { cursorOfRow, type Page, type PageLimits, type QueryRows, readPage } from './query-page.ts';
import { behindOf, type Cursor, conditionsOf, cursorOf, type Dialect, filterOf, selectOf } from './query-statement.ts';
import { missingTables, nameOf, type QueryTable } from './query-table.ts';
import type { Connection } from './session.ts';

/** What a system knows of its tables, and how their rows come. */
export interface QueryReader<T extends QueryTable> {
  readonly connection: Connection;
  readonly dialect: Dialect;
  /** Which server it is, in offsets, and the tables of the config that are there. */
  look(): Promise<{ readonly identity: string; readonly tables: readonly T[] }>;
  rows(table: T, statement: Statement): Promise<QueryRows>;
}

export interface Statement extends PageLimits {
  readonly topic: string;
  readonly cursor: Cursor;
  /** The whole of it, but for what it selects: the fields of the table and then `cursor`. */
  sql(fields: readonly string[]): string;
}

/** How long bulk rests when all is read: a trigger that comes twice reads once. */
const bulkRestMs = 1_000;

interface Source<T extends QueryTable> {
  readonly table: T;
  readonly cursor: Cursor;
  readonly partition: Partition;
  readonly topic: string;
  /** Of one row, about; unknown before the first. */
  rowBytes?: number;
  /** The stored offset behind which this run has found nothing more. */
  doneAt?: string | undefined;
  /** bulk: this task has read to the end. */
  isRead?: boolean;
}

/**
 * Tables one after the other, each in pages behind the last row that was read. A run ends when each table has given a page that was not
 * full: what comes in the meantime is the next run's.
 */
export const createQueryTask = <T extends QueryTable>(
  config: QueryConfig,
  reader: QueryReader<T>,
  { incarnation, signal }: Pick<OpenContext<QueryConfig>, 'incarnation' | 'signal'>,
): SourceTask<QueryOffset> => {
  let looked: Promise<{ readonly identity: string; readonly sources: readonly Source<T>[] }> | undefined;

  const look = async () => {
    const { identity, tables } = await reader.look();
    const missing = missingTables(config, tables);
    if (missing.length > 0)
      throw new ConnectError(
        'NOT_FOUND',
        `there is no table ${missing.join(', ')}, or the account may not read it: mend tables, or GRANT SELECT ON it`,
      );
    return { identity, sources: tables.map((table) => sourceOf(table, config, reader.dialect)) };
  };

  /** Invariant 6: what waits for the server is cut when the signal aborts. */
  const through = async <R>(abort: AbortSignal, work: () => Promise<R>): Promise<R> => {
    const cut = () => reader.connection.destroy();
    abort.addEventListener('abort', cut, { once: true });
    try {
      abort.throwIfAborted();
      return await work();
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

  const pollSource = async (source: Source<T>, from: QueryOffset, budget: Budget): Promise<Poll<QueryOffset>> => {
    const { table, cursor, topic } = source;
    const toldPoll = (page: Page | undefined) => {
      const poll = toPoll(source, from, page, config);
      const [end] = poll.offsets;
      return config.runs && end?.offset.endedMs !== undefined ? told(source, end.offset) : poll;
    };
    // Rows without a key have no place between them: where one was read, all were.
    if (cursor.parts.length === 0 && from.after !== null) return toldPoll(undefined);
    const behind = behindOf(cursor, from.after, reader.dialect);
    const page = await readPage(table, cursor, budget, source.rowBytes, (limits) =>
      reader.rows(table, {
        ...{ ...limits, topic, cursor },
        sql: (fields) => selectOf(table, fields, cursor, config, behind, limits.maxRows),
      }),
    );
    if (page.rows.count > 0) source.rowBytes = Math.max(1, page.rows.bytes / page.rows.count);
    return toldPoll(page);
  };

  /** The begin of a run, or its end. The run is the same however often it is begun. */
  const told = ({ topic, partition, table }: Source<T>, offset: QueryOffset): Poll<QueryOffset> => {
    const run = `${incarnation}/${nameOf(table)}/${offset.run}`;
    const control: Control =
      offset.endedMs === undefined
        ? { event: 'begin', run, scope: 'replace' }
        : { event: 'end', run, records: undefined };
    return pollOf([{ ...controlRecord(topic, control), partition, offset }], {
      caughtUp: offset.endedMs !== undefined,
    });
  };

  const isDone = ({ doneAt, partition }: Source<T>, offsets: Offsets<QueryOffset>): boolean =>
    doneAt === textOf(offsets.get(partition));

  return {
    poll: (offsets, budget) =>
      through(budget.signal, async () => {
        looked ??= look();
        const { identity, sources } = await looked;
        let found: Poll<QueryOffset> | undefined;
        for (const source of sources.filter((one) => !isDone(one, offsets))) {
          const stored = offsets.get(source.partition);
          const from = beginning(source, stored, identity, config);
          const begins = config.runs && from !== undefined && from !== stored;
          const poll =
            from === undefined ? undefined : begins ? told(source, from) : await pollSource(source, from, budget);
          const isEmpty = poll === undefined || poll.offsets.length === 0;
          if (poll === undefined || poll.caughtUp) source.doneAt = textOf(isEmpty ? stored : poll.offsets[0]!.offset);
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
      }),
    more: (offsets) =>
      through(signal, async () => {
        looked ??= look();
        const { identity, sources } = await looked;
        const behind: string[] = [];
        for (const source of sources) {
          const from = beginning(source, offsets.get(source.partition), identity, config);
          if (from === undefined) continue;
          if (config.mode === 'bulk') return true;
          const { table, cursor } = source;
          const conditions = conditionsOf(cursor, config, behindOf(cursor, from.after, reader.dialect));
          behind.push(`EXISTS (SELECT 1 FROM ${table.from} AS q${conditions})`);
        }
        if (behind.length === 0) return false;
        const [row] = await reader.connection.query<{ found: unknown }>(`SELECT ${behind.join(' OR ')} AS found`);
        return Number(row!.found) === 1;
      }),
    close: () => reader.connection.close(),
  };
};

const sourceOf = <T extends QueryTable>(table: T, config: QueryConfig, dialect: Dialect): Source<T> => {
  const { topicPrefix } = config;
  const topic = topicOf(config, nameOf(table));
  const partition: Partition =
    table.name === undefined ? { server: topicPrefix, query: topic } : { server: topicPrefix, table: table.name };
  return { table, cursor: cursorOf(table, config, dialect), partition, topic };
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

/**
 * Where a table is read from; undefined where there is nothing to read now. A bulk that has ended begins again with the first run a
 * second later, and never in the task that ended it: however long its last rows take to be written, it does not wake itself
 * for ever (invariant 9).
 */
const beginning = <T extends QueryTable>(
  source: Source<T>,
  stored: QueryOffset | undefined,
  identity: string,
  config: QueryConfig,
): QueryOffset | undefined => {
  const { mode } = config;
  const filter = filterOf(config);
  const fresh = { server: identity, mode, by: source.cursor.by, ...(filter === undefined ? {} : { filter }) };
  // The end of a bulk is no position: the next one reads all rows, whichever they are.
  if (mode === 'bulk' && stored?.mode === mode && stored.endedMs !== undefined) {
    // A clock that was set back since says nothing of how long it is ago, and is no reason to rest until it is there again.
    if (source.isRead === true || Math.abs(Date.now() - stored.endedMs) < bulkRestMs) return undefined;
    return { ...fresh, after: null, run: (stored.run ?? 0) + 1 };
  }
  if (stored !== undefined) requireOurs(stored, fresh, source);
  return stored ?? { ...fresh, after: null, ...(mode === 'bulk' ? { run: 1 } : {}) };
};

/** Invariant 7: an offset says where rows go on only on the same server, in the same order, of the same rows. */
const requireOurs = (
  stored: QueryOffset,
  { server, mode, by, filter }: Pick<QueryOffset, 'server' | 'mode' | 'by' | 'filter'>,
  { table, cursor }: Source<QueryTable>,
): void => {
  const lost = (what: string, back: string) =>
    new ConnectError(
      'LOST_POSITION',
      `${nameOf(table)}: ${what}. ${back}, reset the offsets to read all rows again (sluice offsets reset), or set one that fits (sluice offsets set)`,
    );
  if (stored.server !== server)
    throw lost(
      `the offset is of server ${stored.server}, and this is ${server}`,
      `Connect to that server; if this one has the same rows (it took over from the other), set the offset with server ${server}`,
    );
  if (stored.mode !== mode) throw lost(`the offset is of mode ${stored.mode}, and mode is ${mode}`, 'Set it back');
  if (stored.by !== by || (stored.after !== null && stored.after.length !== cursor.parts.length))
    throw lost(`the offset is one of the order by ${stored.by}, and rows are read by ${by}`, 'Set the columns back');
  if (stored.filter !== filter)
    throw lost('`where` or `query` was another when the offset was stored, and chose other rows', 'Set it back');
};

/** A page as a poll, caught up where nothing of the table is left; without a page there is no row. */
const toPoll = <T extends QueryTable>(
  source: Source<T>,
  from: QueryOffset,
  page: Page | undefined,
  { mode, runs }: QueryConfig,
): Poll<QueryOffset> => {
  const { partition, topic, table, cursor } = source;
  const { rows, count, isLast, batch } = page ?? { rows: undefined, count: 0, isLast: true, batch: emptyBatch };
  const offsetAt = (row: number): QueryOffset => ({ ...from, after: cursorOfRow(rows!, row, cursor, table) });
  const last = count === 0 ? from : offsetAt(count - 1);
  // The end of a run is a record by itself.
  const isEnd = isLast && mode === 'bulk' && !(runs && count > 0);
  if (isEnd) source.isRead = true;
  const refused = [...(rows?.refused ?? [])].filter(([row]) => row < count).sort(([a], [b]) => a - b);
  const bad = new Set(refused.map(([row]) => row));
  const good = Uint32Array.from({ length: count }, (_, row) => row).filter((row) => !bad.has(row));
  const rejected = refused.map(
    ([row, error], i): RejectedSourceRecord<QueryOffset> => ({
      ...{ index: row - i, error, raw: rows!.raw(row) },
      ...{ topic, partition, offset: offsetAt(row) },
    }),
  );
  return {
    batch: bad.size === 0 ? sliceBatch(batch, 0, count) : gatherBatch(batch, good),
    position: (index) => ({ partition, offset: offsetAt(good[index]!) }),
    offsets: count > 0 || isEnd ? [{ partition, offset: isEnd ? { ...last, endedMs: Date.now() } : last }] : [],
    caughtUp: isLast && (isEnd || !runs),
    // That all is read is worth a commit, even where the last page has no row: else it would begin again.
    ...(isEnd ? { moved: movedBytes } : {}),
    ...(rejected.length === 0 ? {} : { rejected }),
    ...(rows === undefined ? {} : { release: () => freeGroup(rows.group) }),
  };
};

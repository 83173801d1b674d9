import { type Budget, movedBytes, type Poll } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { topicOf } from '../../shared/connect/table-names.ts';
import type { Range, Step } from '../../shared/sql/snapshot.ts';
import { committing, createRunRecords } from '../../shared/sql/snapshot-poll.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import type { PostgresCdcOffset, RangeOffset, StreamOffset, View } from './cdc-offset.ts';
import type { Layouts, Session } from './cdc-session.ts';
import type { Connection } from './client.ts';
import { type CopyRows, createCopyRows } from './copy-rows.ts';
import { granted } from './grants.ts';
import { requireOneHistory, type TableViews } from './hand-over.ts';
import type { SourceNames } from './row-columns.ts';
import { lost, readSlot, requirePosition, type SlotNames } from './slot.ts';
import { createSnapshotBatch } from './snapshot-batch.ts';
import { planTable } from './snapshot-plan.ts';
import { readTable, rowsQuery, type SnapshotTable, sqlNameOf } from './snapshot-table.ts';

/** One table as one transaction sees it. */
interface TableView {
  readonly connection: Connection;
  readonly table: SnapshotTable;
  readonly view: View;
  readonly source: SourceNames;
  /** A COPY of a range under way. */
  reading?: { readonly rows: CopyRows; readonly left: string };
}

export interface SnapshotOptions {
  readonly names: SlotNames;
  readonly session: Session;
  readonly layouts: Layouts;
  readonly incarnation: string;
}

/** A range, and what it is read on. */
export interface ReadRequest {
  readonly range: Range<View>;
  /** All views that rows of its table were read in. */
  readonly views: TableViews;
  /** From where on changes will be read; a snapshot without them is none. Undefined: it is for another task to look. */
  readonly stream: StreamOffset | undefined;
}

/** Reads rows that were there. */
export interface Snapshot {
  plan(step: Extract<Step<View>, { kind: 'plan' }>, signal: AbortSignal): Promise<Poll<PostgresCdcOffset>>;
  /** The end of the run of a table. */
  told(step: Extract<Step<View>, { kind: 'end' }>): Poll<PostgresCdcOffset>;
  /** The rows of a range behind its offset. */
  read(request: ReadRequest, budget: Budget): Promise<Poll<PostgresCdcOffset>>;
  /** Ends the view: a transaction that stays open keeps the server from cleaning up. */
  end(): Promise<void>;
}

export const createSnapshot = (
  config: PostgresCdcConfig,
  { names, session, layouts, incarnation }: SnapshotOptions,
): Snapshot => {
  const { topicPrefix } = config;
  const runRecords = createRunRecords(config.runs, incarnation, (table) => topicOf(config, table));
  let open: TableView | undefined;

  const end = async () => {
    const ended = open;
    open = undefined;
    // The rest of a COPY is not wanted.
    if (ended?.reading !== undefined) session.drop();
    else if (ended !== undefined) await session.close();
  };

  const viewOf = async (connection: Connection, { range, views, stream }: ReadRequest): Promise<TableView> => {
    if (open?.connection === connection) return open;
    const { table: name, server } = range;
    const seen = await openView(connection, name);
    const state = await readSlot(connection, names.slot);
    const { system, timeline, version, database } = state;
    if (system !== server)
      throw lost(`${name} was planned on the server with system identifier ${server}, this one is ${system}`);
    requireOneHistory(name, views, timeline);
    if (stream !== undefined) requirePosition(state, names, stream);
    const table = await readTable(connection, layouts, name, names.publication);
    open = { connection, table, view: { ...seen, timeline }, source: { version, name: topicPrefix, db: database } };
    return open;
  };

  const readRange = async (
    connection: Connection,
    request: ReadRequest,
    budget: Budget,
  ): Promise<Poll<PostgresCdcOffset>> => {
    const current = await viewOf(connection, request);
    const { table, source } = current;
    const { range } = request;
    const { partition, to } = range;
    const offset = { ...range.offset, views: viewsWith(range.offset, current.view) };
    if (offset.after !== null && offset.after.length !== table.key.length)
      throw lost(`the key of ${table.name} has other columns than when its reading was planned`);
    const rows =
      current.reading?.rows ??
      createCopyRows(
        connection.copyOut(`COPY (${rowsQuery(table, offset.after, to)}) TO STDOUT`),
        table.layout.fields.length,
      );
    const batch = createSnapshotBatch(budget, table, source);
    const isDone = (await rows.read(batch)) === 'end';
    const isWhole = table.key.length === 0;
    if (isWhole && !isDone) throw tooLarge(table, budget);
    const { rejected, last, ...finished } = batch.finish((key, count) => ({
      partition,
      // Without a key there is no place between two rows: they share one.
      offset: isWhole
        ? { ...offset, done: true, rows: batch.count }
        : { ...offset, after: [...key], rows: offset.rows + count },
    }));
    const reached = { ...(last?.offset ?? offset), ...(isDone ? { done: true } : {}) } as RangeOffset;
    if (isDone) delete current.reading;
    else current.reading = { rows, left: leftOf({ partition, offset: reached }) };
    return {
      ...finished,
      offsets: [{ partition, offset: reached }],
      caughtUp: false,
      // That a range is done is worth a commit, even where it has no row.
      ...(isDone ? { moved: movedBytes } : {}),
      ...(rejected.length === 0 ? {} : { rejected }),
    };
  };

  return {
    async plan({ table: name, partition, plan }, signal) {
      await end();
      return session.use(signal, async (connection) => {
        const { system } = await readSlot(connection, names.slot);
        const table = await readTable(connection, layouts, name, names.publication);
        const planned = await granted(connection, sqlNameOf(name), () => planTable(connection, table));
        const offset = { server: system, plan, ...planned, sinceMs: Date.now() };
        return { ...committing({ partition, offset }, runRecords.begin(name, offset)), wakes: true };
      });
    },
    async read(request, budget) {
      const { reading } = open ?? {};
      const { range } = request;
      if (open?.table.name !== range.table || (reading !== undefined && reading.left !== leftOf(range))) await end();
      return session.use(budget.signal, (connection) => readRange(connection, request, budget));
    },
    told({ table, partition, offset }) {
      return committing({ partition, offset }, runRecords.end(table, offset));
    },
    end,
  };
};

/** What the runner gives as the range's offset, if it goes on where the last poll left off. */
const leftOf = ({ partition, offset }: Pick<Range<View>, 'partition' | 'offset'>): string =>
  JSON.stringify([partition, offset]);

/**
 * Its own transaction for each table: the lock comes before the view, because a table that was rewritten or emptied between the two would
 * look empty. https://www.postgresql.org/docs/current/mvcc-caveats.html
 * An index gives the rows in order: sorting a large table would take its server's disk. A batch is put while the view is there, which
 * takes no longer than a function runs. A policy that hides rows is to be told and not followed.
 */
export const openView = async (connection: Connection, table: string): Promise<Pick<View, 'xids' | 'lsn'>> => {
  const name = sqlNameOf(table);
  await granted(connection, name, () =>
    connection.run(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
      SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; SET LOCAL row_security = off;
      SET LOCAL idle_in_transaction_session_timeout = '15min';
      LOCK TABLE ${name} IN ACCESS SHARE MODE`),
  );
  // The position is looked at when the snapshot is there: what commits behind it is not visible.
  const [seen] = await connection.query<Pick<View, 'xids' | 'lsn'>>(
    'SELECT pg_current_snapshot()::text AS xids, pg_current_wal_insert_lsn()::text AS lsn',
  );
  return seen!;
};

/** Rows behind the offset are read in this view. One that sees the same as the last one is no other. */
const viewsWith = ({ after, views }: Range<View>['offset'], view: View): RangeOffset['views'] => {
  const last = views.at(-1)?.view;
  if (last?.xids === view.xids && last.timeline === view.timeline) return [...views];
  // Nothing was read in a view that began here too.
  const kept = views.filter((one) => JSON.stringify(one.after) !== JSON.stringify(after));
  return [...kept, { after, view }];
};

const tooLarge = ({ name }: SnapshotTable, { maxRecords, maxBytes }: Budget): ConnectError =>
  new ConnectError(
    'CONFIG_INVALID',
    `${name} has no primary key and more rows than one batch takes (${maxRecords}, or ${maxBytes} bytes), and can't be read in parts: give it a key, take it out of tables, or set snapshotMode to no_data`,
  );

import { type Budget, movedBytes, type Partition, type Poll, pollOf } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { Range } from '../../shared/sql/snapshot.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import type { PostgresCdcOffset, RangeOffset, View } from './cdc-offset.ts';
import type { Layouts, Session } from './cdc-session.ts';
import type { Connection } from './client.ts';
import { type CopyRows, createCopyRows } from './copy-rows.ts';
import { requireOneHistory, type TableViews } from './hand-over.ts';
import type { SourceNames } from './row-columns.ts';
import { historyColumns, lost } from './slot.ts';
import { createSnapshotBatch } from './snapshot-batch.ts';
import { planTable } from './snapshot-plan.ts';
import { readTable, rowsQuery, type SnapshotTable, sqlNameOf } from './snapshot-table.ts';

/** One table as one transaction sees it. */
interface TableView {
  readonly connection: Connection;
  readonly table: SnapshotTable;
  readonly view: View;
  readonly system: string;
  readonly names: SourceNames;
  /** A COPY of a range under way. */
  reading?: { readonly rows: CopyRows; readonly left: string };
}

export interface SnapshotOptions {
  readonly publication: string;
  readonly session: Session;
  readonly layouts: Layouts;
}

/** Reads rows that were there. */
export interface Snapshot {
  plan(table: string, partition: Partition, signal: AbortSignal): Promise<Poll<PostgresCdcOffset>>;
  /** The rows of a range behind its offset. `views`: all that rows of its table were read in. */
  read(range: Range<View>, views: TableViews, budget: Budget): Promise<Poll<PostgresCdcOffset>>;
  /** Ends the view: a transaction that stays open keeps the server from cleaning up. */
  end(): void;
}

export const createSnapshot = (
  { topicPrefix }: PostgresCdcConfig,
  { publication, session, layouts }: SnapshotOptions,
): Snapshot => {
  let open: TableView | undefined;

  const end = () => {
    if (open !== undefined) session.drop();
    open = undefined;
  };

  const viewOf = async (connection: Connection, { table: name, server }: Range<View>, views: TableViews) => {
    if (open?.connection === connection) return open;
    const view = await openView(connection, name, topicPrefix);
    open = { ...view, connection, table: await readTable(connection, layouts, name, publication) };
    if (open.system !== server)
      throw lost(`${name} was planned on the server with system identifier ${server}, this one is ${open.system}`);
    requireOneHistory(name, views, open.view.timeline);
    return open;
  };

  const readRange = async (
    connection: Connection,
    range: Range<View>,
    known: TableViews,
    budget: Budget,
  ): Promise<Poll<PostgresCdcOffset>> => {
    const current = await viewOf(connection, range, known);
    const { table, names } = current;
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
    const batch = createSnapshotBatch(budget, table, names);
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
    plan(name, partition, signal) {
      end();
      return session.use(signal, async (connection) => {
        const table = await readTable(connection, layouts, name, publication);
        const offset = await planTable(connection, table);
        return pollOf<PostgresCdcOffset>([], {
          offsets: [{ partition, offset }],
          caughtUp: false,
          moved: movedBytes,
          wakes: true,
        });
      });
    },
    read(range, views, budget) {
      const { reading } = open ?? {};
      if (open?.table.name !== range.table || (reading !== undefined && reading.left !== leftOf(range))) end();
      return session.use(budget.signal, (connection) => readRange(connection, range, views, budget));
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
const openView = async (
  connection: Connection,
  table: string,
  name: string,
): Promise<Pick<TableView, 'view' | 'system' | 'names'>> => {
  await connection.run(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; SET LOCAL row_security = off;
    SET LOCAL idle_in_transaction_session_timeout = '15min';
    LOCK TABLE ${sqlNameOf(table)} IN ACCESS SHARE MODE`);
  const [row] = await connection.query<View & { system: string; version: string; db: string }>(viewQuery);
  const { xids, lsn, timeline, system, version, db } = row!;
  return { view: { xids, lsn, timeline }, system, names: { version, name, db } };
};

/** The position is looked at when the snapshot is there: what commits behind it is not visible. */
const viewQuery = `SELECT pg_current_snapshot()::text AS xids, pg_current_wal_insert_lsn()::text AS lsn, ${historyColumns},
  current_setting('server_version') AS version, current_database() AS db FROM pg_control_system() c`;

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

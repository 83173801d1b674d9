import {
  type Budget,
  movedBytes,
  type OpenContext,
  type Partition,
  type Poll,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { type BinlogPlace, type BinlogReader, openBinlog } from './binlog.ts';
import type { Catalog } from './catalog.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import { isReadBy } from './cdc-tables.ts';
import { type ChangeBatch, createBatch } from './change-batch.ts';
import { type Changes, createChanges } from './changes.ts';
import { catalogIn, columnsSince, historyOf } from './column-history.ts';
import { lostPosition } from './errors.ts';
import type { HandOver } from './hand-over.ts';
import type { Server } from './server.ts';

/** The changes of a run, one poll after the other. */
export interface Stream {
  poll(from: StreamOffset, budget: Budget): Promise<Poll<StreamOffset>>;
  /** Resolves when there may be more than the last poll has read, at the latest after `waitMs`. */
  wait(waitMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
}

interface Cursor {
  readonly reader: BinlogReader;
  readonly changes: Changes;
  readonly follows: boolean;
  /** Where the reader was opened. */
  readonly from: StreamOffset;
  /** After what was taken. */
  offset: StreamOffset;
  /** Whether that lacks the columns of a table that was altered. */
  hasAltered: boolean;
}

export const createStream = (
  context: OpenContext<MysqlCdcConfig>,
  {
    server,
    partition,
    handOver,
    tables,
  }: {
    readonly server: Server;
    readonly partition: Partition;
    readonly handOver: HandOver;
    /** Those that were there when the run began. Of the others the binlog tells when they come. */
    readonly tables: readonly string[];
  },
): Stream => {
  const { config, signal } = context;
  const isIncluded = isReadBy(config);
  // By the names and patterns, not by the tables that are there: one that is made meanwhile changes no count (hazard D5).
  const counted = countedBy(config);
  let cursor: Cursor | undefined;
  /** Tables that came meanwhile, whose columns the log does not tell. */
  const sought = new Set<string>();
  /** Where the last poll ended. */
  let left: StreamOffset | undefined;

  /** A server whose file system tells no cases apart keeps names in lower case, or as they were first written. */
  const folded = new Map(tables.map((table) => [table.toLowerCase(), table]));
  const tableNamed = (name: string) =>
    (server.foldsNames ? folded.get(name.toLowerCase()) : undefined) ?? (isIncluded(name) ? name : undefined);

  const close = () => {
    cursor?.reader.close();
    cursor = undefined;
  };

  const open = async (offset: StreamOffset, follows: boolean): Promise<Cursor> => {
    close();
    await server.requirePlace(offset);
    if (offset.record > 0 && offset.tables !== counted)
      throw new ConnectError(
        'LOST_POSITION',
        `tables was ${offset.tables} and is ${counted}, in the middle of a transaction: set it back until that is read, or reset the offsets`,
      );
    const columns = server.hasNames ? undefined : await columnsAt(offset);
    const reader = openBinlog({
      login: server.login,
      serverId: config.serverId,
      place: offset,
      follows,
      isIncluded,
      tableNamed,
      hasNames: server.hasNames,
      catalog: columns ?? (await server.catalog(tables)),
      lookUp: async (table) => (await server.catalog([table])).get(table),
      signal,
    });
    const changes = createChanges(config, { skip: offset.record, counted, handOver, read: reader.values });
    const from = columns === undefined ? offset : { ...offset, columns: historyOf(columns) };
    return { reader, changes, follows, from, offset: from, hasAltered: false };
  };

  /** The columns of the tables at a place: those that came there with it, and of others those of today, where they are the same. */
  const columnsAt = async (offset: StreamOffset): Promise<Catalog> => {
    const known = catalogIn(offset.columns ?? {});
    const missing = [...new Set([...tables, ...sought])].filter((table) => !known.has(table));
    return missing.length === 0 ? known : new Map([...known, ...(await columnsSince(server, offset, missing, signal))]);
  };

  /** Has the columns of a table looked up by the next reader, if that can know more than this one did. */
  const seek = (table: string, { from, offset }: Cursor) => {
    if (sought.has(table) && samePlace(from, offset))
      throw lostPosition(
        `rows of ${table} behind ${offset.file}:${offset.pos} have no names of columns in the binlog, and the table was altered or dropped since, so which those were is not known`,
      );
    sought.add(table);
  };

  /** Takes records until the batch is full, the log at its end, or a table to be looked up. */
  const fill = async (at: Cursor, batch: ChangeBatch, signal: AbortSignal): Promise<'full' | 'end' | 'unknown'> => {
    while (!batch.isFull && !signal.aborted) {
      at.offset = at.changes.take(batch) ?? at.offset;
      if (at.changes.hasMore) continue;
      if (batch.isFull) break;
      const part = await at.reader.next();
      if (part === undefined) return 'end';
      if (part.kind === 'end') {
        const { columns } = at.offset;
        at.offset = { server: server.identity, ...part.place, record: 0, ...(columns && { columns }) };
        // Room for it there is: a full batch does not get here.
        const ended = at.changes.end();
        if (ended !== undefined) batch.end(ended.topics, ended.transaction, at.offset);
      } else if (part.kind === 'truncate') at.changes.giveTruncate(part, at.offset);
      else if (part.kind === 'rows') at.changes.give(part, at.offset);
      else if (part.kind === 'altered') {
        const { [part.table]: _, ...columns } = at.offset.columns ?? {};
        at.offset = { ...at.offset, columns };
        at.hasAltered = true;
      } else {
        seek(part.table, at);
        return 'unknown';
      }
    }
    return 'full';
  };

  return {
    async poll(from, budget) {
      if (cursor === undefined || !samePlace(cursor.offset, from)) cursor = await open(from, false);
      const batch = createBatch(budget, partition, cursor.reader.values, config.topic !== undefined);
      const ended = await fill(cursor, batch, budget.signal);
      // Before rows come, and the next statement that alters them.
      if (ended === 'end' && cursor.hasAltered) {
        cursor.offset = { ...cursor.offset, columns: historyOf(await columnsAt(cursor.offset)) };
        cursor.hasAltered = false;
      }
      const { offset } = cursor;
      left = offset;
      if (ended === 'unknown' || (ended === 'end' && !cursor.follows)) close();
      // A place in another file is to be committed, even where nothing of it is a record.
      const moved = offset.file === from.file ? Math.max(offset.pos - from.pos, 0) : movedBytes;
      return { ...batch.finish(), offsets: [{ partition, offset }], caughtUp: ended === 'end', moved };
    },
    async wait(waitMs, signal) {
      if (left === undefined) return;
      cursor ??= await open(left, true);
      // What a transaction is not part of, and whatever a connection that died in silence would have told, is read by a reader that ends.
      if (!(await cursor.reader.arrived(waitMs, signal)) && !isAt(await server.end(), left)) close();
    },
    close,
  };
};

/** Whatever else is told of the two. */
export const isAt = (end: BinlogPlace, { file, pos }: BinlogPlace): boolean => end.file === file && end.pos === pos;

const samePlace = (a: StreamOffset, b: StreamOffset): boolean =>
  a.file === b.file && a.pos === b.pos && a.gtids === b.gtids && a.record === b.record && a.server === b.server;

const countedBy = ({ tables, excludeTables }: MysqlCdcConfig): string => {
  const excluded = excludeTables.length === 0 ? '' : ` without ${excludeTables.toSorted().join()}`;
  return `${tables.toSorted().join()}${excluded}`;
};

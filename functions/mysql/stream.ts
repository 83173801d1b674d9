import {
  type Budget,
  movedBytes,
  type OpenContext,
  type Partition,
  type Poll,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { type BinlogPlace, type BinlogReader, openBinlog } from './binlog.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import { isReadBy } from './cdc-tables.ts';
import { type ChangeBatch, createBatch } from './change-batch.ts';
import { type Changes, createChanges } from './changes.ts';
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
  /** After what was taken. */
  offset: StreamOffset;
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
    const reader = openBinlog({
      login: server.login,
      serverId: config.serverId,
      place: offset,
      follows,
      isIncluded,
      tableNamed,
      catalog: await server.catalog(tables),
      lookUp: async (table) => (await server.catalog([table])).get(table),
      signal,
    });
    const changes = createChanges(config, { skip: offset.record, counted, handOver, read: reader.values });
    return { reader, changes, follows, offset };
  };

  /** Takes records until the batch is full; false at the end of the log. */
  const fill = async (at: Cursor, batch: ChangeBatch, signal: AbortSignal): Promise<boolean> => {
    while (!batch.isFull && !signal.aborted) {
      at.offset = at.changes.take(batch) ?? at.offset;
      if (at.changes.hasMore) continue;
      if (batch.isFull) break;
      const part = await at.reader.next();
      if (part === undefined) return false;
      if (part.kind === 'end') {
        at.offset = { server: server.identity, ...part.place, record: 0 };
        // Room for it there is: a full batch does not get here.
        const ended = at.changes.end();
        if (ended !== undefined) batch.end(ended.topics, ended.transaction, at.offset);
      } else if (part.kind === 'truncate') at.changes.giveTruncate(part, at.offset);
      else at.changes.give(part, at.offset);
    }
    return true;
  };

  return {
    async poll(from, budget) {
      if (cursor === undefined || !samePlace(cursor.offset, from)) cursor = await open(from, false);
      const batch = createBatch(budget, partition, cursor.reader.values, config.topic !== undefined);
      const caughtUp = !(await fill(cursor, batch, budget.signal));
      const { offset } = cursor;
      left = offset;
      if (caughtUp && !cursor.follows) close();
      // A place in another file is to be committed, even where nothing of it is a record.
      const moved = offset.file === from.file ? Math.max(offset.pos - from.pos, 0) : movedBytes;
      return { ...batch.finish(), offsets: [{ partition, offset }], caughtUp, moved };
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

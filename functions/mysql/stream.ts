import {
  type Budget,
  movedBytes,
  type OpenContext,
  type Partition,
  type Poll,
  pollOf,
  type SourceRecord,
  sizeOf,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { type BinlogReader, openBinlog } from './binlog.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import { changeRecords, type RecordMaker } from './change-records.ts';
import type { HandOver } from './hand-over.ts';
import type { Server } from './server.ts';

/** The changes of a run, one poll after the other. */
export interface Stream {
  poll(from: StreamOffset, budget: Budget): Promise<Poll<StreamOffset>>;
  close(): void;
}

interface Cursor {
  readonly reader: BinlogReader;
  readonly maker: RecordMaker;
  /** Records of the part that was read last, which no poll has taken yet. */
  pending: readonly SourceRecord<StreamOffset>[];
  /** After what was taken. */
  offset: StreamOffset;
}

export const createStream = (
  context: OpenContext<MysqlCdcConfig>,
  {
    server,
    partition,
    handOver,
  }: { readonly server: Server; readonly partition: Partition; readonly handOver: HandOver },
): Stream => {
  const { config, signal } = context;
  const counted = [...config.tables].sort().join();
  let cursor: Cursor | undefined;

  const close = () => {
    cursor?.reader.close();
    cursor = undefined;
  };

  const open = async (offset: StreamOffset): Promise<Cursor> => {
    close();
    await server.requirePlace(offset);
    if (offset.record > 0 && offset.tables !== counted)
      throw new ConnectError(
        'LOST_POSITION',
        `tables was ${offset.tables} and is ${counted}, in the middle of a transaction: set it back until that is read, or reset the offsets`,
      );
    const reader = openBinlog({
      login: server.login,
      serverId: config.serverId ?? serverIdOf(context),
      place: offset,
      tables: byDatabase(config.tables),
      catalog: await server.catalog(),
      signal,
    });
    const maker = changeRecords(config, { partition, skip: offset.record, counted, handOver });
    return { reader, maker, pending: [], offset };
  };

  /** Reads on until records are pending; false at the end of the log. */
  const readOn = async (at: Cursor): Promise<boolean> => {
    while (at.pending.length === 0) {
      const part = await at.reader.next();
      if (part === undefined) return false;
      if (part.kind === 'end') at.offset = { server: server.identity, ...part.place, record: 0 };
      else at.pending = at.maker.records(part, at.offset);
    }
    return true;
  };

  return {
    async poll(from, budget) {
      if (cursor === undefined || !samePlace(cursor.offset, from)) cursor = await open(from);
      const records: SourceRecord<StreamOffset>[] = [];
      let caughtUp = false;
      let bytes = 0;
      while (records.length < budget.maxRecords && bytes < budget.maxBytes && !budget.signal.aborted) {
        caughtUp = !(await readOn(cursor));
        if (caughtUp) break;
        let taken = 0;
        while (taken < cursor.pending.length && records.length < budget.maxRecords && bytes < budget.maxBytes) {
          const record = cursor.pending[taken++]!;
          records.push(record);
          bytes += sizeOf(record.key ?? null) + sizeOf(record.value);
        }
        cursor.pending = cursor.pending.slice(taken);
        cursor.offset = records.at(-1)!.offset;
      }
      const { offset } = cursor;
      if (caughtUp) close();
      // A place in another file is to be committed, even where nothing of it is a record.
      const moved = offset.file === from.file ? Math.max(offset.pos - from.pos, 0) : movedBytes;
      return pollOf(records, { offsets: [{ partition, offset }], caughtUp, moved });
    },
    close,
  };
};

const samePlace = (a: StreamOffset, b: StreamOffset): boolean =>
  a.file === b.file && a.pos === b.pos && a.gtids === b.gtids && a.record === b.record && a.server === b.server;

const byDatabase = (tables: readonly string[]): Record<string, string[]> => {
  const names = tables.map((table) => table.split('.') as [string, string]);
  return Object.fromEntries(
    names.map(([database]) => [database, names.filter(([one]) => one === database).map(([, name]) => name)]),
  );
};

/** An id that no replica of the server is likely to have: FNV-1a over whose task it is, in the upper half of the range. */
const serverIdOf = ({ deployment, connector, taskId }: OpenContext<MysqlCdcConfig>): number => {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(`${deployment}#${connector}#${taskId}`)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 1) + 0x80000000;
};

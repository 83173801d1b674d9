import {
  type Budget,
  defineSource,
  type Offsets,
  type OpenContext,
  type Partition,
  type Poll,
  pollOf,
  type SourceRecord,
  type SourceTask,
  sizeOf,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { type BinlogReader, openBinlog } from './binlog.ts';
import { MysqlCdcConfig, MysqlCdcOffset, topicsOf } from './cdc-config.ts';
import { changeRecords, type RecordMaker } from './change-records.ts';
import { openServer, type Server } from './server.ts';

/** A place in another file, or the first one: to be committed, even where nothing of it is a record. */
const newPlaceMoved = 64 * 1024 * 1024;

/** The rows of tables, and then their changes from the binlog on. */
export const mysqlCdcSource = defineSource({
  type: 'mysql-cdc',
  config: MysqlCdcConfig,
  offset: MysqlCdcOffset,
  replay: 'exact',
  topics: topicsOf,
  open: async (context) => createTask(context, await openServer(context)),
});

/** Where a task stands in the binlog. */
interface Cursor {
  readonly reader: BinlogReader;
  readonly maker: RecordMaker;
  /** Records of the part that was read last, which no poll has taken yet. */
  pending: readonly SourceRecord<MysqlCdcOffset>[];
  /** After what was taken. */
  offset: MysqlCdcOffset;
}

const createTask = (context: OpenContext<MysqlCdcConfig>, server: Server): SourceTask<MysqlCdcOffset> => {
  const { config, signal } = context;
  const partition: Partition = { server: config.topicPrefix };
  const counted = [...config.tables].sort().join();
  let cursor: Cursor | undefined;

  const open = async (offset: MysqlCdcOffset): Promise<Cursor> => {
    cursor?.reader.close();
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
    const maker = changeRecords(config, { partition, skip: offset.record, counted });
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
    async poll(offsets: Offsets<MysqlCdcOffset>, budget: Budget): Promise<Poll<MysqlCdcOffset>> {
      const from = offsets.get(partition);
      if (from === undefined) {
        const offset = await (config.snapshotMode === 'never' ? server.start() : server.end());
        return pollOf<MysqlCdcOffset>([], { offsets: [{ partition, offset }], caughtUp: false, moved: newPlaceMoved });
      }
      if (cursor === undefined || !samePlace(cursor.offset, from)) cursor = await open(from);
      const records: SourceRecord<MysqlCdcOffset>[] = [];
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
      if (caughtUp) {
        cursor.reader.close();
        cursor = undefined;
      }
      const moved = offset.file === from.file ? Math.max(offset.pos - from.pos, 0) : newPlaceMoved;
      return pollOf(records, { offsets: [{ partition, offset }], caughtUp, moved });
    },
    more: async (offsets) => {
      const from = offsets.get(partition);
      if (from === undefined || from.record > 0) return true;
      const end = await server.end();
      return from.file !== end.file || from.pos !== end.pos;
    },
    async close() {
      cursor?.reader.close();
      cursor = undefined;
      await server.close();
    },
  };
};

const samePlace = (a: MysqlCdcOffset, b: MysqlCdcOffset): boolean =>
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

import {
  defineSource,
  movedBytes,
  type Offsets,
  type OpenContext,
  type Partition,
  type Poll,
  pollOf,
  type SourceTask,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { checkSource } from './cdc-check.ts';
import { MysqlCdcConfig, MysqlCdcOffset, type StreamOffset, type TableOffset, topicsOf } from './cdc-config.ts';
import { lostPosition } from './errors.ts';
import { createHandOver } from './hand-over.ts';
import { rowSchemaOf } from './row-schema.ts';
import { openServer, type Server, type View } from './server.ts';
import { pollTable, type SnapshotTable } from './snapshot.ts';
import { createStream } from './stream.ts';

/** The rows of tables, and then their changes from the binlog on. */
export const mysqlCdcSource = defineSource({
  type: 'mysql-cdc',
  config: MysqlCdcConfig,
  offset: MysqlCdcOffset,
  replay: 'exact',
  topics: topicsOf,
  check: checkSource,
  open: async (context) => createTask(context, await openServer(context)),
});

/** What a poll looks at before it looks into a table. */
const defaultRowBytes = 200;

/**
 * The place from which changes are read is committed before the first row is. Then each table is read to its end, in one view of it
 * for the length of a run, and then the changes that no row had seen. A table that is added later is read the same way, while the
 * changes of the others wait.
 */
const createTask = (context: OpenContext<MysqlCdcConfig>, server: Server): SourceTask<MysqlCdcOffset> => {
  const { config } = context;
  const streamPartition: Partition = { server: config.topicPrefix };
  const partitionOf = (table: string): Partition => ({ ...streamPartition, table });
  let latest: Offsets<MysqlCdcOffset> = { get: () => undefined, all: () => [] };
  const tableOffset = (table: string) => latest.get(partitionOf(table)) as TableOffset | undefined;
  const handOver = createHandOver((table) => tableOffset(table)?.views);
  const stream = createStream(context, { server, partition: streamPartition, handOver });
  const tables = new Map<string, SnapshotTable>();
  let view: View | undefined;

  const begin = async (): Promise<Poll<MysqlCdcOffset>> => {
    const offset = await (config.snapshotMode === 'never' ? server.start() : server.visible());
    return pollOf<MysqlCdcOffset>([], {
      offsets: [{ partition: streamPartition, offset }],
      caughtUp: false,
      moved: movedBytes,
    });
  };

  const nextTable = (): string | undefined =>
    config.snapshotMode === 'initial' ? config.tables.find((table) => tableOffset(table)?.done !== true) : undefined;

  const openTable = async (table: string): Promise<SnapshotTable> => {
    const known = tables.get(table);
    if (known !== undefined) return known;
    const [database = '', name = ''] = table.split('.');
    const found = (await server.catalog()).get(table);
    if (found === undefined)
      throw new ConnectError(
        'NOT_FOUND',
        `there is no table ${table}, or ${config.user ?? 'the account'} may not read it: GRANT SELECT ON ${table}`,
      );
    const columns = found.columns.map(({ COLUMN_NAME, COLUMN_TYPE }) => ({ name: COLUMN_NAME, type: COLUMN_TYPE }));
    const definition = { database, name, columns, keyColumns: found.key };
    const schema = rowSchemaOf(definition, config);
    const opened = { database, name, schema, partition: partitionOf(table), rowBytes: defaultRowBytes };
    tables.set(table, opened);
    return opened;
  };

  const pollRows = async (table: string, budget: Parameters<SourceTask<MysqlCdcOffset>['poll']>[1]) => {
    view ??= await server.openView();
    const from = tableOffset(table) ?? { server: server.identity, after: null, done: false, views: [] };
    if (from.server !== server.identity)
      throw lostPosition(
        `the rows of ${table} up to ${from.after?.join()} are of server ${from.server}, and this is ${server.identity}`,
      );
    const { place } = view;
    const isLast = from.views.at(-1)?.place.file === place.file && from.views.at(-1)?.place.pos === place.pos;
    const views = isLast ? from.views : [...from.views, { after: from.after, place }];
    return pollTable(await openTable(table), view, { ...from, views }, budget);
  };

  return {
    async poll(offsets, budget) {
      latest = offsets;
      const from = offsets.get(streamPartition) as StreamOffset | undefined;
      if (from === undefined) return begin();
      const table = nextTable();
      if (table !== undefined) return pollRows(table, budget);
      view?.connection.destroy();
      view = undefined;
      return stream.poll(from, budget);
    },
    async more(offsets) {
      latest = offsets;
      const from = offsets.get(streamPartition) as StreamOffset | undefined;
      if (from === undefined || from.record > 0 || nextTable() !== undefined) return true;
      const end = await server.end();
      return from.file !== end.file || from.pos !== end.pos;
    },
    async close() {
      stream.close();
      view?.connection.destroy();
      await server.close();
    },
  };
};

import {
  type Budget,
  defineSource,
  type Offsets,
  type OpenContext,
  type Partition,
  type Poll,
  type SourceTask,
} from '../../shared/connect/connector.ts';
import { tellsOf } from '../../shared/connect/database-config.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { nextRepair, type Repair, repairedIn } from '../../shared/sql/repair.ts';
import {
  nextStep,
  type PlanOffset,
  type Range,
  type SnapshotScope,
  type Step,
  snapshotProgress,
  viewsOf,
} from '../../shared/sql/snapshot.ts';
import { committing, createRunRecords, waiting } from '../../shared/sql/snapshot-poll.ts';
import { endingAsTransaction } from '../../shared/sql/transactions.ts';
import type { BinlogPlace } from './binlog.ts';
import { checkSource } from './cdc-check.ts';
import { MysqlCdcConfig, topicOf, topicsOf } from './cdc-config.ts';
import { MysqlCdcOffset, type StreamOffset } from './cdc-offset.ts';
import { isReadBy } from './cdc-tables.ts';
import { columnsSince, historyOf } from './column-history.ts';
import { lostPosition } from './errors.ts';
import { createHandOver } from './hand-over.ts';
import { measureLag } from './lag.ts';
import { partsOf } from './query-tables.ts';
import { pollRepair } from './repair.ts';
import { rowSchemaOf } from './row-schema.ts';
import { openServer, type Server, type View } from './server.ts';
import { pollRange, type SnapshotTable } from './snapshot.ts';
import { createStream, isAt, type Stream } from './stream.ts';
import { verifySource } from './verify.ts';

/** The rows of tables, and then their changes from the binlog on. */
export const mysqlCdcSource = defineSource({
  type: 'mysql-cdc',
  config: MysqlCdcConfig,
  offset: MysqlCdcOffset,
  replay: 'exact',
  topics: topicsOf,
  tells: tellsOf,
  /** All of them read rows, the first one changes. */
  tasks: (config, maxTasks) => Array.from({ length: config.snapshotMode === 'initial' ? maxTasks : 1 }, () => config),
  hold: false,
  check: checkSource,
  lag: measureLag,
  verify: verifySource,
  open: async (context) => createTask(context, await openServer(context)),
});

/** Of a table of which nothing is read: large, for the first page of it to be small. */
const defaultRowBytes = 16 * 1024;

/**
 * The place from which changes are read is committed before the first row is. Then each table is read, in parts by all tasks, each in one
 * view of the tables for the length of a run; and then, by the first task, the changes that no row had seen. A table that is added later
 * is read the same way, while the changes of the others wait.
 */
const createTask = (context: OpenContext<MysqlCdcConfig>, server: Server): SourceTask<MysqlCdcOffset> => {
  const { config, taskId, tasks, incarnation } = context;
  const streamPartition: Partition = { server: config.topicPrefix };
  const isIncluded = isReadBy(config);
  let tables: readonly string[] | undefined;
  const scope = (): SnapshotScope => ({
    stream: streamPartition,
    tables: tables ?? [],
    task: taskId,
    tasks,
    runs: config.runs,
  });
  /** Tables that came while changes were read: their changes were passed over, for their rows to be read first. */
  const unread = new Set<string>();
  /** Of those, the ones that were looked for. */
  const soughtFor = new Set<string>();
  const opened = new Map<string, SnapshotTable>();
  let view: View | undefined;
  let stream: Stream | undefined;

  const begin = async (): Promise<Poll<MysqlCdcOffset>> => {
    const place = await (config.snapshotMode === 'never' ? server.start() : server.visible());
    if (server.hasNames) return committing({ partition: streamPartition, offset: place });
    const columns = historyOf(await columnsSince(server, place, await server.tables(), context.signal));
    return committing({ partition: streamPartition, offset: { ...place, columns } });
  };

  const runRecords = createRunRecords(config.runs, incarnation, (table) => topicOf(config, table));

  /** A table of a pattern that was read and dropped stays one: the changes before that are told. */
  const listTables = async (offsets: Offsets<MysqlCdcOffset>): Promise<readonly string[]> => {
    const ours = [...offsets.all()].filter(
      ({ partition, offset }) => partition.server === config.topicPrefix && offset !== null,
    );
    const read = snapshotProgress(ours).flatMap(({ table, done }) => (done && isIncluded(table) ? [table] : []));
    return [...new Set([...(await server.tables()), ...read])].sort();
  };

  const stepAfter = async (offsets: Offsets<MysqlCdcOffset>, { record }: StreamOffset): Promise<Step<BinlogPlace>> => {
    tables ??= await listTables(offsets);
    // Rows of a table that is new are ended as a transaction: not inside of one.
    const isInside = config.transactions && record > 0;
    return config.snapshotMode === 'initial' && !isInside ? nextStep(scope(), offsets) : { kind: 'done' };
  };

  const openTable = async (table: string): Promise<SnapshotTable> => {
    const known = opened.get(table);
    if (known !== undefined) return known;
    const [database, name] = partsOf(table);
    const found = (await server.catalog([table])).get(table);
    if (found === undefined && !config.tables.includes(table))
      throw new ConnectError('UNAVAILABLE', `${table} was dropped after this run had found it`, { retriable: true });
    if (found === undefined)
      throw new ConnectError(
        'NOT_FOUND',
        `there is no table ${table}, or ${config.user ?? 'the account'} may not read it: GRANT SELECT ON ${table}`,
      );
    const columns = found.columns.map(({ COLUMN_NAME, COLUMN_TYPE }) => ({ name: COLUMN_NAME, type: COLUMN_TYPE }));
    const schema = rowSchemaOf({ database, name, columns, keyColumns: found.key }, config);
    const made = { database, name, schema, rowBytes: defaultRowBytes };
    opened.set(table, made);
    return made;
  };

  const read = async (range: Range<BinlogPlace>, from: StreamOffset, budget: Budget) => {
    if (range.server !== server.identity)
      throw lostPosition(`the rows of ${range.table} are of server ${range.server}, and this is ${server.identity}`);
    if (view === undefined) {
      // Changes before that place may have been passed over for these rows. Places of another server are no measure.
      view = await (from.server === server.identity ? server.openViewBehind(from) : server.openView());
      // Their columns are looked up behind the view: of a column that came before it, its changes are passed over as seen by the rows.
      opened.clear();
    }
    const poll = await pollRange(await openTable(range.table), view, range, budget);
    return config.transactions ? endingAsTransaction(poll) : poll;
  };

  const closeStream = () => {
    stream?.close();
    stream = undefined;
  };

  const repairNext = (offsets: Offsets<MysqlCdcOffset>): Repair<BinlogPlace> | undefined =>
    taskId === 0 ? nextRepair(streamPartition, offsets, isIncluded) : undefined;

  /** Rows that are sent again; what the changes behind them have of these rows is another question then. */
  const repair = async (order: Repair<BinlogPlace>, from: StreamOffset, budget: Budget) => {
    closeStream();
    const repairView = await server.openViewBehind(from);
    opened.clear();
    try {
      const poll = await pollRepair(await openTable(order.table), repairView, order, budget);
      return config.transactions ? endingAsTransaction(poll) : poll;
    } finally {
      repairView.connection.destroy();
    }
  };

  /** Without a snapshot all changes are told, from the first one on. */
  const isReadWith = (offsets: Offsets<MysqlCdcOffset>) => (table: string) => {
    if (config.snapshotMode !== 'initial') return true;
    const plan = offsets.get({ ...streamPartition, table }) as PlanOffset | undefined;
    if (typeof plan?.plan === 'number') return true;
    if (!soughtFor.has(table)) unread.add(table);
    return false;
  };

  const readChanges = async (offsets: Offsets<MysqlCdcOffset>, from: StreamOffset, budget: Budget) => {
    view?.connection.destroy();
    view = undefined;
    stream ??= createStream(context, {
      server,
      partition: streamPartition,
      handOver: createHandOver(
        streamPartition,
        (table) => viewsOf(scope(), table, offsets),
        (table) => repairedIn(streamPartition, table, offsets),
        isReadWith(offsets),
      ),
      tables: tables ?? [],
    });
    const poll = await stream.poll(from, budget);
    if (unread.size === 0) return poll;
    for (const table of unread) soughtFor.add(table);
    unread.clear();
    tables = undefined;
    return { ...poll, caughtUp: false };
  };

  return {
    async poll(offsets, budget) {
      const from = offsets.get(streamPartition) as StreamOffset | undefined;
      if (from === undefined) return taskId === 0 ? begin() : waiting();
      const step = await stepAfter(offsets, from);
      // It knows the tables that were read when it was opened.
      if (step.kind !== 'done') closeStream();
      switch (step.kind) {
        case 'plan': {
          const { partition, plan } = step;
          const parts = await server.plan(await openTable(step.table));
          const offset = { server: server.identity, plan, ...parts, sinceMs: Date.now() };
          return { ...committing({ partition, offset }, runRecords.begin(step.table, offset)), wakes: true };
        }
        case 'forget':
          return committing(step);
        case 'end':
          return committing(step, runRecords.end(step.table, step.offset));
        case 'read':
          return read(step.range, from, budget);
        case 'wait':
          return waiting();
        case 'done': {
          if (taskId > 0) return waiting();
          const order = repairNext(offsets);
          if (order === undefined) return readChanges(offsets, from, budget);
          if (from.record === 0) return repair(order, from, budget);
          // Of a transaction that is half sent it is not known whether a view has it: its end comes first, in this run.
          return { ...(await readChanges(offsets, from, budget)), caughtUp: false };
        }
      }
    },
    async more(offsets) {
      const from = offsets.get(streamPartition) as StreamOffset | undefined;
      if (from === undefined) return taskId === 0 || 'waits';
      const { kind } = await stepAfter(offsets, from);
      if (kind === 'wait') return 'waits';
      if (kind !== 'done' || from.record > 0 || repairNext(offsets) !== undefined) return true;
      if (taskId > 0) return false;
      return !isAt(await server.end(), from);
    },
    wait: async (waitMs, signal) => stream?.wait(waitMs, signal),
    async close() {
      stream?.close();
      view?.connection.destroy();
      await server.close();
    },
  };
};

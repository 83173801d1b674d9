import type { Budget, Offsets, OpenContext, SourceTask } from '../../shared/connect/connector.ts';
import { tableFilter } from '../../shared/connect/table-names.ts';
import { nextRepair, repairedIn, repairsOf } from '../../shared/sql/repair.ts';
import { nextStep, type SnapshotScope, type Step, viewsOf } from '../../shared/sql/snapshot.ts';
import { committing, waiting } from '../../shared/sql/snapshot-poll.ts';
import { endingAsTransaction } from '../../shared/sql/transactions.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import type { PostgresCdcOffset, StreamOffset, View } from './cdc-offset.ts';
import { createLayouts, createSession } from './cdc-session.ts';
import type { Connection } from './client.ts';
import { createHandOver, passedAt, type ReadTable, requireOneHistory, type SeenIn } from './hand-over.ts';
import { makeUpstream, publishedTables, requirePublished } from './publication.ts';
import { pollRepair } from './repair.ts';
import { readSlot, type SlotState, slotNames } from './slot.ts';
import { createSnapshot } from './snapshot.ts';
import { firstKeyColumns } from './snapshot-table.ts';
import { createStream } from './stream.ts';

/**
 * The position from which changes are read is committed before the first row is. Then all tasks read the rows of the tables, in ranges,
 * and the first task goes on with the changes that no row was read with. A table that is added later is read the same way, while the
 * changes of the others wait. Only the first task knows the slot.
 */
export const createTask = (context: OpenContext<PostgresCdcConfig>): SourceTask<PostgresCdcOffset> => {
  const { config, connector, taskId, tasks } = context;
  const names = slotNames(config, context);
  const partition = { server: config.topicPrefix };
  const isFirst = taskId === 0;
  const hasSnapshot = config.snapshotMode === 'initial';
  const session = createSession(config, connector);
  // Rows are read through another connection than changes: a COPY of one does not stand in the way of the other.
  const rowSession = createSession(config, `${connector} snapshot`);
  const rows = { names, session: rowSession, layouts: createLayouts(config, rowSession) };
  const snapshot = createSnapshot(config, { ...rows, incarnation: context.incarnation });
  let latest: Offsets<PostgresCdcOffset> = { get: () => undefined, all: () => [] };
  let tables: readonly string[] | undefined;

  const scope = (): SnapshotScope => ({
    stream: partition,
    tables: tables ?? [],
    task: taskId,
    tasks,
    runs: config.runs,
  });

  const streamOffset = (offsets: Offsets<PostgresCdcOffset>) => offsets.get(partition) as StreamOffset | undefined;

  /**
   * A table of a pattern that is published during the run has no plan yet: the next run reads its rows. Its changes are passed over until
   * then: a row that was told as made, and whose end the rows are read behind, would stay for ever.
   */
  const isPlanned = (table: string): boolean =>
    !hasSnapshot || tables?.includes(table) === true || latest.get({ ...partition, table }) !== undefined;

  const stepAt = async (offsets: Offsets<PostgresCdcOffset>, signal: AbortSignal): Promise<Step<View>> => {
    latest = offsets;
    if (!hasSnapshot) return { kind: 'done' };
    tables ??= await tablesOf(config, (isIncluded) =>
      session.use(signal, (connection) => publishedTables(connection, names.publication, isIncluded)),
    );
    // Rows of a table that is new are ended as a transaction: not inside of one.
    if (config.transactions && isInside(offsets)) return { kind: 'done' };
    return nextStep<View>(scope(), offsets);
  };

  /** A transaction is half sent. */
  const isInside = (offsets: Offsets<PostgresCdcOffset>): boolean => {
    const { row, record } = streamOffset(offsets) ?? {};
    return (row ?? record) !== undefined;
  };

  const isIncluded = tableFilter(config);
  const repairNext = (offsets: Offsets<PostgresCdcOffset>) => nextRepair<View>(partition, offsets, isIncluded);

  /** What `created` makes is missing where the server, or its function, was gone at the moment of the deployment. */
  const requireSlot = async (connection: Connection): Promise<void> => {
    if ((await readSlot(connection, names.slot)).slot === undefined) await makeUpstream(connection, context);
  };

  /** What of the changes from a place on may be in rows already. */
  const seenIn = async (connection: Connection, { timeline }: SlotState, from: bigint): Promise<SeenIn | undefined> => {
    const read = new Map<string, ReadTable>();
    const repairs = repairsOf<View>(partition, latest);
    for (const table of new Set([...(tables ?? []), ...repairs.keys()])) {
      const views = tables === undefined ? [] : viewsOf<View>(scope(), table, latest);
      const again = (repairs.get(table)?.views ?? []).map(({ view }) => ({ after: null, view }));
      const repairedTo = passedAt(again);
      if (passedAt(views) <= from && repairedTo <= from) continue;
      requireOneHistory(table, [...views, ...again], timeline);
      const repaired = repairedIn<View>(partition, table, latest);
      read.set(table, { views, firstOfKey: undefined, repaired, repairedTo });
    }
    if (read.size === 0) return undefined;
    const columns = await firstKeyColumns(connection, [...read.keys()]);
    for (const [table, known] of read) read.set(table, { ...known, firstOfKey: columns.get(table) });
    return createHandOver(partition, read);
  };

  let isPublished = false;
  const readChanges = async (stored: StreamOffset | undefined, budget: Budget) => {
    if (!isPublished)
      await session.use(budget.signal, (connection) => requirePublished(connection, config, names.publication));
    isPublished = true;
    return stream.poll(stored, budget);
  };

  const stream = createStream(context, {
    partition,
    names,
    session,
    layouts: createLayouts(config, session, isPlanned),
    seenIn,
  });

  return {
    async poll(offsets, budget) {
      const stored = streamOffset(offsets);
      if (isFirst && hasSnapshot && stored === undefined) {
        if (isNew(offsets)) await session.use(budget.signal, requireSlot);
        return committing({ partition, offset: await stream.begin(budget.signal) });
      }
      const step = await stepAt(offsets, budget.signal);
      if (step.kind !== 'done') stream.forget();
      switch (step.kind) {
        case 'plan':
          return snapshot.plan(step, budget.signal);
        case 'forget':
          return committing(step);
        case 'end':
          return snapshot.told(step);
        case 'read': {
          const { range } = step;
          const views = viewsOf<View>(scope(), range.table, offsets);
          const read = await snapshot.read({ range, views, stream: isFirst ? stored : undefined }, budget);
          const poll = config.transactions ? endingAsTransaction(read) : read;
          // The first task waits for the last range of the others.
          return isFirst || poll.moved === undefined ? poll : { ...poll, wakes: true };
        }
        default:
          await snapshot.end();
          if (step.kind === 'done' && isFirst) {
            const order = repairNext(offsets);
            if (order === undefined) return readChanges(stored, budget);
            // The end of a transaction that is half sent comes first, in this run: what is stored is often inside of one.
            if (isInside(offsets)) return { ...(await stream.poll(stored, budget)), caughtUp: false };
            stream.forget();
            const poll = await pollRepair(rows, config.topicPrefix, order, stored, budget);
            return config.transactions ? endingAsTransaction(poll) : poll;
          }
          return waiting();
      }
    },
    async commit(positions) {
      if (!isFirst) return;
      for (const { offset } of positions) if ('lsn' in offset) stream.isDurable(offset);
    },
    async more(offsets) {
      if (isFirst && hasSnapshot && streamOffset(offsets) === undefined) return true;
      const { kind } = await stepAt(offsets, context.signal);
      if (kind === 'wait') return 'waits';
      if (kind !== 'done') return true;
      return isFirst && (repairNext(offsets) !== undefined || stream.more(streamOffset(offsets)));
    },
    wait: (waitMs, signal) => stream.wait(waitMs, signal),
    async close() {
      try {
        await stream.close();
      } finally {
        await snapshot.end();
        await rowSession.close();
        await session.close();
      }
    },
  };
};

/** Nothing was read yet: rows that are read behind a slot have all changes before it. */
const isNew = (offsets: Offsets<PostgresCdcOffset>): boolean => offsets.all()[Symbol.iterator]().next().done === true;

/** The tables to read, in one order for all tasks: of a pattern those that are published, because no others' changes come. */
const tablesOf = async (
  config: PostgresCdcConfig,
  published: (isIncluded: (table: string) => boolean) => Promise<readonly string[]>,
): Promise<readonly string[]> => {
  const isIncluded = tableFilter(config);
  if (config.tables.some((table) => table.includes('*'))) {
    const named = config.tables.filter((table) => !table.includes('*') && isIncluded(table));
    return [...new Set([...named, ...(await published(isIncluded))])].sort();
  }
  return [...new Set(config.tables)].filter(isIncluded).sort();
};

import { randomUUID } from 'node:crypto';
import { type Partition, partitionKey } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { startOver } from '../log/start.ts';
import { isRepair } from '../sql/repair.ts';
import { type ConnectorRow, requireConnector } from '../state/connectors.ts';
import { connectorPk, historyKey, historyPrefix, offsetKey, offsetPrefix, resetKey } from '../state/keys.ts';
import { loadProgress, type OffsetOwner, type Progress } from '../state/offsets.ts';
import { shapes } from '../state/shape.ts';
import { type Item, limits, type Table, type Write } from '../state/table.ts';
import { requireQuiet } from './tasks.ts';

export const getOffsets = async (table: Table, name: string): Promise<Progress> => {
  const { incarnation } = await requireConnector(table, name);
  return loadProgress(table, { connector: name, incarnation });
};

export interface OffsetChange {
  readonly partition: Partition;
  /** null: from the beginning. */
  readonly offset: unknown;
}

/** An operator's order: what it sets, or that everything starts over. */
type Order = readonly OffsetChange[] | 'all';

/**
 * Moves offsets, as Kafka Connect's PATCH and DELETE of offsets do; only while nothing runs. Offsets in the state table change here,
 * by compare-and-set, and their `seq` grows, so that a batch read before is fenced. Those that a destination owns, or may turn out to
 * own because nothing has been committed yet, become a pending reset, which the next run carries out where they are (DESIGN §3).
 * Returns which of the two happened.
 */
export const changeOffsets = async (
  table: Table,
  name: string,
  order: Order,
  who: string,
  nowMs: number,
): Promise<'changed' | 'pending'> => {
  const row = await requireConnector(table, name);
  // An order for the source itself is no place that a run moves while it does not know it.
  if (order === 'all' || !order.every(({ partition }) => isRepair(partition))) await requireQuiet(table, row, nowMs);
  const owner = { connector: name, incarnation: row.incarnation };
  const items = await table.query(connectorPk(name), {
    from: `${offsetPrefix(row.incarnation)}OFFSET#`,
    to: `${offsetPrefix(row.incarnation)}OFFSET#\uffff`,
  });
  const owned = items.some((item) => item.cache === true);
  const unknown = items.length === 0 && (row.kind === 'sink' || row.kind === 'direct');
  const stored = items.map(({ partition }) => ({
    partition: JSON.parse(String(partition)) as Partition,
    offset: null,
  }));
  const changes = order === 'all' ? stored : order;
  const id = randomUUID();
  const history = historyWrite(name, nowMs, {
    who,
    changes: order,
    from: items.map(({ partition, offset }) => ({ partition, offset })),
  });
  await beginAgain(table, row, order, items, nowMs);
  if (owned || unknown) {
    await addToReset(table, owner, order, id, history);
    return 'pending';
  }
  // In one transaction where they fit one: of a topic's queues, some that start over and some that do not would mix up a key's order.
  const writes = [history, ...changes.map((change) => changeWrite(owner, change, items, id))];
  for (let at = 0; at < writes.length; at += limits.writes) {
    const result = await table.write(writes.slice(at, at + limits.writes));
    if (result.ok) continue;
    const moved = changes[at + result.failed[0]!.index - 1]!;
    throw new ConnectError('STATE_CONFLICT', `the offset of ${partitionOf(moved)} moved meanwhile: try again`, {
      retriable: true,
    });
  }
  return 'changed';
};

/** Where a reader of the log begins without an offset is said by its subscription. */
const beginAgain = async (
  table: Table,
  { name, from = [] }: ConnectorRow,
  order: Order,
  items: readonly Item[],
  nowMs: number,
): Promise<void> => {
  const meant = new Set(order === 'all' ? [] : order.filter(({ offset }) => offset === null).map(partitionOf));
  if (order !== 'all' && meant.size === 0) return;
  const standing = new Map(items.map(({ partition, offset }) => [String(partition), JSON.parse(String(offset))]));
  const isMeant = (lane: Partition) => order === 'all' || meant.has(partitionKey(lane));
  for (const topic of from)
    await startOver(table, topic, name, nowMs, isMeant, (lane) => standing.get(partitionKey(lane))?.base);
};

const partitionOf = ({ partition }: OffsetChange): string => partitionKey(partition);

/** One order holds every change that waits; a later one for the same partition takes the place of the earlier. */
const addToReset = async (
  table: Table,
  owner: OffsetOwner,
  order: Order,
  id: string,
  history: Write,
): Promise<void> => {
  const { reset } = await loadProgress(table, owner);
  const changes = order === 'all' ? [] : [...(reset?.offsets ?? []), ...order];
  const offsets = new Map(changes.map((one) => [partitionOf(one), one]));
  const put = {
    ...resetKey(owner.connector, owner.incarnation),
    v: shapes.reset,
    id,
    ...(order === 'all' || reset?.all === true ? { all: true } : {}),
    offsets: JSON.stringify([...offsets.values()]),
  };
  const result = await table.write([{ put, when: reset === undefined ? 'absent' : { id: reset.id } }, history]);
  if (!result.ok)
    throw new ConnectError(
      'STATE_CONFLICT',
      `another change of the offsets of ${owner.connector} came between: try again`,
      {
        retriable: true,
      },
    );
};

/** All offsets back to the beginning: also of partitions that only the destination which owns them knows. */
export const resetOffsets = (table: Table, name: string, who: string, nowMs: number): Promise<'changed' | 'pending'> =>
  changeOffsets(table, name, 'all', who, nowMs);

const changeWrite = (
  owner: { connector: string; incarnation: string },
  change: OffsetChange,
  items: readonly Item[],
  id: string,
): Write => {
  const key = partitionKey(change.partition);
  const before = items.find((item) => item.partition === key);
  const seq = Number(before?.seq ?? 0);
  const put = {
    ...offsetKey(owner.connector, owner.incarnation, key),
    v: shapes.offset,
    partition: key,
    offset: JSON.stringify(change.offset),
    seq: seq + 1,
    writeId: id,
  };
  return { put, when: before === undefined ? 'absent' : { seq } };
};

/** Who changed what, from what: kept for ninety days. */
const historyWrite = (name: string, nowMs: number, change: object): Write => ({
  put: {
    ...historyKey(name, new Date(nowMs).toISOString()),
    v: shapes.history,
    change: JSON.stringify(change),
    expires: Math.floor(nowMs / 1000) + 90 * 86_400,
  },
});

export const offsetHistory = async (table: Table, name: string): Promise<readonly unknown[]> => {
  const items = await table.query(connectorPk(name), {
    from: historyPrefix,
    to: `${historyPrefix}\uffff`,
    descending: true,
    limit: 100,
  });
  return items.map((item) => ({ at: item.sk.slice(historyPrefix.length), ...JSON.parse(String(item.change)) }));
};

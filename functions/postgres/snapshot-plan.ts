import { evenBounds, type PlanOffset, rangesFor } from '../../shared/sql/snapshot.ts';
import { type Connection, quote } from './client.ts';
import { type KeyedTable, keyList, type SnapshotTable, sqlNameOf } from './snapshot-table.ts';

/** A table is looked into at so many places for each of its ranges. */
const samplesPerRange = 500;

export const planTable = async (
  connection: Connection,
  table: SnapshotTable,
): Promise<Pick<PlanOffset, 'bounds' | 'rows'>> => {
  await writersEnded(connection, table);
  return planRanges(connection, table);
};

/** Bounds that part the key into ranges, by the table's size. */
export const planRanges = async (
  connection: Connection,
  table: KeyedTable,
): Promise<Pick<PlanOffset, 'bounds' | 'rows'>> => {
  const rows = await estimatedRows(connection, table);
  const ranges = rangesFor(table.bytes);
  return {
    rows,
    bounds: ranges === 1 || table.key.length === 0 ? [] : await boundsOf(connection, table, ranges, rows),
  };
};

/**
 * Waits for the transactions that have written to the table and not ended. What they wrote before the table was published is not told as
 * changes, and a view that is opened before they end doesn't see it either (hazard H7). Those that come later write what is published.
 */
export const writersEnded = async (connection: Connection, { name }: Pick<SnapshotTable, 'name'>): Promise<void> => {
  const writers = await connection.query<{ transaction: string }>(
    `SELECT DISTINCT virtualtransaction AS transaction FROM pg_locks
     WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted
       AND (relation = $1::regclass OR relation IN (SELECT relid FROM pg_partition_tree($1::regclass)))
       AND mode = 'RowExclusiveLock'`,
    [sqlNameOf(name)],
  );
  let left = writers.map(({ transaction }) => transaction);
  while (left.length > 0) {
    const still = await connection.query<{ transaction: string }>(
      `SELECT DISTINCT virtualtransaction AS transaction FROM pg_sleep(0.05), pg_locks
       WHERE virtualtransaction = ANY ($1) AND locktype = 'relation'`,
      [left],
    );
    left = still.map(({ transaction }) => transaction);
  }
};

/** What the planner takes it for: also of a table that was never analyzed, by its size. */
const estimatedRows = async (connection: Connection, { from }: KeyedTable): Promise<number> => {
  const [row] = await connection.query<{ readonly 'QUERY PLAN': readonly [{ readonly Plan: Plan }] }>(
    `EXPLAIN (FORMAT JSON) SELECT FROM ${from}`,
  );
  return Math.round(row!['QUERY PLAN'][0].Plan['Plan Rows']);
};

interface Plan {
  readonly 'Plan Rows': number;
}

/** Integers evenly, by the least and the most; of other keys, and of several columns, as a sample of the table's blocks has them. */
const boundsOf = async (
  connection: Connection,
  table: KeyedTable,
  ranges: number,
  rows: number,
): Promise<PlanOffset['bounds']> => {
  const { from, key } = table;
  const [first] = key;
  const { reading } = first!.type;
  if (key.length === 1 && (reading === 'integer' || reading === 'int64')) {
    const name = quote(first!.name);
    const [ends] = await connection.query<{ least: string | null; most: string | null }>(
      `SELECT min(${name})::text AS least, max(${name})::text AS most FROM ${from}`,
    );
    return ends!.least === null ? [] : evenBounds(BigInt(ends!.least), BigInt(ends!.most!), ranges);
  }
  const percent = Math.min(100, (100 * ranges * samplesPerRange) / Math.max(1, rows));
  const keys = keyList(table);
  const texts = key.map(({ name }) => `${quote(name)}::text`).join(', ');
  const sampled = await connection.query<{ key: readonly string[] }>(
    `SELECT key FROM (
       SELECT ARRAY[${texts}] AS key, row_number() OVER (ORDER BY ${keys}) AS at, count(*) OVER () AS total
       FROM ${from} TABLESAMPLE SYSTEM (${percent.toFixed(6)}) REPEATABLE (1)) AS sample
     WHERE at * ${ranges} / total > (at - 1) * ${ranges} / total AND at < total ORDER BY at`,
  );
  return sampled.map((row) => [...row.key]);
};

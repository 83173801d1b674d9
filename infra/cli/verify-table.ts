import type { KeyTexts } from '../../shared/connect/verify.ts';
import type { AnsweredRow } from '../../shared/verify/answer.ts';
import type { Ask, TablePair } from './verify-edges.ts';
import { type Difference, type Settle, settleKeys } from './verify-settle.ts';

/** How a table compares. */
export interface TableResult {
  readonly rows: { readonly source: number; readonly destination: number };
  readonly differences: readonly Difference[];
  /** Rows that differed while they were on their way, and are equal now. */
  readonly inFlight: number;
  /** Rows that only the destination has, which keeps what its source does not tell as deleted. */
  readonly kept: number;
  /** Keys of rows that changed each time they were looked at. */
  readonly unsettled: readonly KeyTexts[];
  /** There are more differences than are listed. */
  readonly more: boolean;
}

/** Tables of one source, looked at together: what they wait for is waited for once. */
export const verifyTables = async (
  ask: Ask,
  pairs: readonly TablePair[],
  settle: Settle,
): Promise<readonly TableResult[]> => {
  const compared = await compareTables(ask, pairs);
  // Too many to look at one by one may be on their way: then they are fewer behind the place where the source is now.
  const full = pairs.filter((_, i) => compared[i]!.more);
  const positions: unknown[] = [];
  for (const { table } of full) {
    const { position } = await ask('source', { step: 'rows', table, keys: [], values: false });
    positions.push(position);
  }
  for (const [i, pair] of full.entries()) await settle.passed(pair, positions[i]);
  const again = new Map((await compareTables(ask, full)).map((one) => [one.pair, one]));
  return settleTables(
    ask,
    compared.map((one) => again.get(one.pair) ?? one),
    settle,
  );
};

/** What of the rows that differ is a difference. */
export const settleTables = async (
  ask: Ask,
  compared: readonly Compared[],
  settle: Settle,
): Promise<readonly TableResult[]> => {
  const settled = await settleKeys(ask, compared, settle);
  return compared.map(({ rows, kept, more }, i): TableResult => {
    const { differences, equal, unsettled, kept: alsoKept } = settled[i]!;
    return { rows, differences, inFlight: equal, kept: kept + alsoKept, unsettled, more };
  });
};

/** What a look at all rows of both sides of a table finds. Some of them may be on their way. */
export interface Compared {
  readonly pair: TablePair;
  readonly rows: { readonly source: number; readonly destination: number };
  /** Of rows that differ. */
  readonly keys: readonly KeyTexts[];
  /** So many rows only the destination has, which keeps such rows. */
  readonly kept: number;
  /** There are more that differ. */
  readonly more: boolean;
}

/** Rows of differing buckets that are listed by one reading. */
const maxListed = 500_000;
/** More of them than this are no list for a person, and are repaired in another round. */
const maxKeys = 10_000;

export const compareTables = async (ask: Ask, pairs: readonly TablePair[]): Promise<readonly Compared[]> => {
  const compared: Compared[] = [];
  for (const pair of pairs) compared.push(await compareTable(ask, pair));
  return compared;
};

/** Sums of all buckets on both sides, then the rows of those that differ. */
const compareTable = async (ask: Ask, pair: TablePair): Promise<Compared> => {
  const [source, destination] = await Promise.all([sumsOf(ask, 'source', pair), sumsOf(ask, 'sink', pair)]);
  const differing = differingBuckets(source, destination);
  const keys: KeyTexts[] = [];
  let kept = 0;
  let at = 0;
  while (at < differing.length && keys.length <= maxKeys) {
    const buckets: number[] = [];
    for (let rows = 0; at < differing.length; at++) {
      rows += differing[at]!.rows;
      if (buckets.length > 0 && rows > maxListed) break;
      buckets.push(differing[at]!.bucket);
    }
    const found = await differingKeys(ask, pair, buckets);
    for (const key of found.keys) keys.push(key);
    kept += found.onlyThere;
  }
  return {
    pair,
    rows: { source: totalOf(source), destination: totalOf(destination) },
    keys: keys.slice(0, maxKeys),
    kept,
    more: keys.length > maxKeys || at < differing.length,
  };
};

/** By bucket that has rows. */
type Sums = ReadonlyMap<number, { readonly count: number; readonly sum: bigint }>;

const totalOf = (sums: Sums): number => sums.values().reduce((total, { count }) => total + count, 0);

const differingBuckets = (source: Sums, destination: Sums) =>
  Array.from(new Set([...source.keys(), ...destination.keys()])).flatMap((bucket) => {
    const [theirs, ours] = [source.get(bucket), destination.get(bucket)];
    if (theirs?.count === ours?.count && theirs?.sum === ours?.sum) return [];
    return [{ bucket, rows: Math.max(theirs?.count ?? 0, ours?.count ?? 0) }];
  });

const sumsOf = async (ask: Ask, side: 'source' | 'sink', { table }: TablePair): Promise<Sums> => {
  const all = new Map<number, { readonly count: number; readonly sum: bigint }>();
  let after: KeyTexts | undefined;
  do {
    const { buckets, next } = await ask(side, { step: 'sum', table, ...(after === undefined ? {} : { after }) });
    for (const [bucket, count, sum] of buckets) {
      const before = all.get(bucket) ?? { count: 0, sum: 0n };
      all.set(bucket, {
        count: before.count + count,
        sum: BigInt.asUintN(64, before.sum + BigInt(`0x${sum}`)),
      });
    }
    after = next;
  } while (after !== undefined);
  return all;
};

interface DifferingKeys {
  readonly keys: readonly KeyTexts[];
  /** So many more there are of which nothing else is asked. */
  readonly onlyThere: number;
}

/** The keys of buckets whose rows are not the same on both sides. */
const differingKeys = async (ask: Ask, pair: TablePair, buckets: readonly number[]): Promise<DifferingKeys> => {
  const [source, destination] = await Promise.all([
    hashesOf(ask, 'source', pair, buckets),
    hashesOf(ask, 'sink', pair, buckets),
  ]);
  const onlyThere = pair.keeps ? new Set(destination.keys()).difference(new Set(source.keys())).size : 0;
  const asked = pair.keeps ? source.keys() : new Set([...source.keys(), ...destination.keys()]);
  const keys = Array.from(asked).flatMap((key) =>
    source.get(key) === destination.get(key) ? [] : [JSON.parse(key) as KeyTexts],
  );
  return { keys, onlyThere };
};

const hashesOf = async (
  ask: Ask,
  side: 'source' | 'sink',
  { table }: TablePair,
  buckets: readonly number[],
): Promise<ReadonlyMap<string, string>> => {
  const hashes = new Map<string, string>();
  let after: KeyTexts | undefined;
  do {
    const listed = await ask(side, { step: 'list', table, buckets, ...(after === undefined ? {} : { after }) });
    for (const { key, hash } of listed.rows as readonly AnsweredRow[]) hashes.set(JSON.stringify(key), hash);
    after = listed.next;
  } while (after !== undefined);
  return hashes;
};

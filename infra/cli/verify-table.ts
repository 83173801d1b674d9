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

/** Rows of differing buckets whose keys are held at once. */
const maxListed = 200_000;
/** More of them than this are no list for a person, and are repaired in another round. */
const maxDifferences = 10_000;

/** Sums of all buckets on both sides, then the keys of those that differ, then the rows that do. */
export const compareTable = async (ask: Ask, pair: TablePair, settle: Settle): Promise<TableResult> => {
  const [source, destination] = await Promise.all([sumsOf(ask, 'source', pair), sumsOf(ask, 'sink', pair)]);
  const total = ({ counts }: BucketSums) => counts.reduce((sum, count) => sum + count, 0);
  const differing = source.counts.flatMap((count, bucket) =>
    count === destination.counts[bucket] && source.sums[bucket] === destination.sums[bucket]
      ? []
      : [{ bucket, rows: Math.max(count, destination.counts[bucket]!) }],
  );
  const differences: Difference[] = [];
  const unsettled: KeyTexts[] = [];
  let inFlight = 0;
  let kept = 0;
  let isCut = false;
  let at = 0;
  while (at < differing.length && differences.length < maxDifferences) {
    const buckets: number[] = [];
    for (
      let rows = 0;
      at < differing.length && (buckets.length === 0 || rows + differing[at]!.rows <= maxListed);
      at++
    ) {
      rows += differing[at]!.rows;
      buckets.push(differing[at]!.bucket);
    }
    const { keys, onlyThere } = await differingKeys(ask, pair, buckets);
    kept += onlyThere;
    const room = maxDifferences - differences.length;
    const settled = await settleKeys(ask, pair, keys.slice(0, room), settle);
    isCut ||= keys.length > room;
    differences.push(...settled.differences);
    unsettled.push(...settled.unsettled);
    inFlight += settled.equal;
    kept += settled.kept;
  }
  const more = isCut || at < differing.length;
  const rows = { source: total(source), destination: total(destination) };
  return { rows, differences, inFlight, kept, unsettled, more };
};

interface BucketSums {
  readonly counts: number[];
  readonly sums: bigint[];
}

const sumsOf = async (ask: Ask, side: 'source' | 'sink', { table }: TablePair): Promise<BucketSums> => {
  const all: BucketSums = { counts: [], sums: [] };
  let after: KeyTexts | undefined;
  do {
    const { counts, sums, next } = await ask(side, { step: 'sum', table, ...(after === undefined ? {} : { after }) });
    for (const [bucket, count] of counts.entries()) {
      all.counts[bucket] = (all.counts[bucket] ?? 0) + count;
      all.sums[bucket] = BigInt.asUintN(64, (all.sums[bucket] ?? 0n) + BigInt(`0x${sums[bucket]}`));
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

import type { KeyTexts } from '../../shared/connect/verify.ts';
import type { AnsweredRow } from '../../shared/verify/answer.ts';
import type { Ask, TablePair } from './verify-edges.ts';

/** A row that is not the same on both sides, although nothing of it is on its way. */
export interface Difference {
  /** missing: the destination lacks it; extra: the source does. */
  readonly kind: 'missing' | 'extra' | 'different';
  readonly key: KeyTexts;
  /** The columns that differ. */
  readonly columns: readonly string[];
  /** With `values`: what both sides have in them. */
  readonly values?: {
    readonly [column: string]: { readonly source: string | null; readonly destination: string | null };
  };
}

export interface Settle {
  /** Resolves when the destination has everything that the source had of a table at a position. */
  readonly passed: (pair: TablePair, position: unknown) => Promise<void>;
  readonly values: boolean;
}

/** A table, and keys of rows that differed when they were read. */
export interface Unsettled {
  readonly pair: TablePair;
  readonly keys: readonly KeyTexts[];
}

export interface Settled {
  readonly differences: readonly Difference[];
  /** So many are equal by now: they were on their way. */
  readonly equal: number;
  readonly unsettled: readonly KeyTexts[];
  /** So many rows only the destination has, which keeps such rows. */
  readonly kept: number;
}

/** Keys that are looked up by one question; of rows with their values fewer fit an answer. */
const keysPerQuestion = 500;
const valuesPerQuestion = 50;

/** A row that still changes after so many looks is left as that. */
const mostRounds = 20;

/**
 * Looks at the rows of these keys again and again. In each round the source's row comes first, then the destination passes the place of the
 * source's log behind it, then comes its row: so what differs is no change on its way, unless the row changed in between. It is a
 * difference where two rounds find the same two rows. Of several tables one round is one wait.
 */
export const settleKeys = async (
  ask: Ask,
  tables: readonly Unsettled[],
  { passed, values }: Settle,
): Promise<readonly Settled[]> => {
  const all = tables.map((table) => settling(table, values));
  for (let round = 0; round < mostRounds; round++) {
    const open = all.filter((table) => table.open().length > 0);
    if (open.length === 0) break;
    const sources: Rows[] = [];
    for (const { pair, open: keys } of open) sources.push(await rowsOf(ask, 'source', pair, keys(), values));
    for (const [i, { pair }] of open.entries()) await passed(pair, sources[i]!.position);
    for (const [i, table] of open.entries())
      table.look(sources[i]!, await rowsOf(ask, 'sink', table.pair, table.open(), values));
  }
  return all.map((table) => table.settled());
};

const settling = ({ pair, keys }: Unsettled, values: boolean) => {
  const differences: Difference[] = [];
  let open = keys;
  let kept = 0;
  let before = new Map<string, string>();
  return {
    pair,
    open: () => open,
    look(source: Rows, destination: Rows): void {
      const seen = new Map<string, string>();
      open = open.filter((key) => {
        const id = JSON.stringify(key);
        const [theirs, ours] = [source.rows.get(id), destination.rows.get(id)];
        if (theirs?.hash === ours?.hash) return false;
        const both = `${theirs?.hash} ${ours?.hash}`;
        seen.set(id, both);
        if (before.get(id) !== both) return true;
        if (theirs === undefined && pair.keeps) kept++;
        else differences.push(differenceOf(pair, key, theirs, ours, values));
        return false;
      });
      before = seen;
    },
    settled: (): Settled => ({
      differences,
      equal: keys.length - differences.length - kept - open.length,
      unsettled: open,
      kept,
    }),
  };
};

interface Rows {
  readonly rows: ReadonlyMap<string, AnsweredRow>;
  /** Of a source: behind all of them. */
  readonly position: unknown;
}

const rowsOf = async (
  ask: Ask,
  side: 'source' | 'sink',
  { table }: TablePair,
  keys: readonly KeyTexts[],
  values: boolean,
): Promise<Rows> => {
  const rows = new Map<string, AnsweredRow>();
  let last: unknown;
  const size = values ? valuesPerQuestion : keysPerQuestion;
  for (let at = 0; at < keys.length; at += size) {
    const answer = await ask(side, { step: 'rows', table, keys: keys.slice(at, at + size), values });
    for (const row of answer.rows) rows.set(JSON.stringify(row.key), row);
    last = answer.position;
  }
  return { rows, position: last };
};

const differenceOf = (
  { table }: TablePair,
  key: KeyTexts,
  source: AnsweredRow | undefined,
  destination: AnsweredRow | undefined,
  withValues: boolean,
): Difference => {
  if (source === undefined || destination === undefined)
    return { kind: source === undefined ? 'extra' : 'missing', key, columns: [] };
  const columns = table.columns
    .map(({ name }, index) => ({ name, index }))
    .filter(({ index }) => source.columns![index] !== destination.columns![index]);
  const texts = columns.map(({ name, index }) => [
    name,
    { source: source.values?.[index] ?? null, destination: destination.values?.[index] ?? null },
  ]);
  return {
    kind: 'different',
    key,
    columns: columns.map(({ name }) => name),
    ...(withValues ? { values: Object.fromEntries(texts) } : {}),
  };
};

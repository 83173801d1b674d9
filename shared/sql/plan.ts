import { gatherGroup, type RecordBatch, type RecordGroup, sliceGroup } from '../connect/batch.ts';
import type { Rejected } from '../connect/connector.ts';
import { isControl } from '../connect/control.ts';
import { truncatesOf, unwrapped } from '../connect/envelope.ts';
import { rowError } from '../connect/errors.ts';
import {
  type Check,
  forEachChange,
  judge,
  type LaidColumn,
  type Layout,
  type Limits,
  layoutOf,
  type RowsConfig,
  type Verdict,
} from './layout.ts';
import type { StagedRun } from './runs.ts';
import { partsByTable, type TablePart } from './source-table.ts';
import { keyTextOf, runsByKey, runsInOrder, type Untold, type UntoldRun, untoldOf } from './untold.ts';

/** A table that is ready for records of one layout. */
export interface Target {
  readonly table: { readonly sql: string };
  readonly columns: readonly LaidColumn[];
  /** What the columns of this very table would change in silence. */
  readonly checks?: ReadonlyMap<LaidColumn, Check>;
}

export interface Targets<T extends Target> {
  /** `staging`: a table beside the topic's own, with its columns and keys. */
  of(group: RecordGroup, layout: Layout, staging?: string): Promise<T>;
}

/** What of a group is written. */
export interface Part<T extends Target> {
  readonly target: T;
  readonly group: RecordGroup;
  /** The batch index of each row. */
  readonly origins: Uint32Array;
  /** Its one row says that the table is emptied. It stands alone in its run. */
  readonly empties?: true;
}

/**
 * By DELETE, in MySQL because TRUNCATE commits there, in PostgreSQL because its readers would wait for the transaction's end, and those with an
 * older view would find the table empty.
 */
export const emptyStatement = ({ table }: Target): string => `DELETE FROM ${table.sql}`;

/** Rows of one target that are written together, in order. */
export type Run<T extends Target> = readonly Part<T>[];

export interface Plan<T extends Target> {
  readonly parts: readonly Part<T>[];
  readonly rejected: readonly Rejected[];
  /** Each part on its own: source order across tables, which foreign keys may need, and across keys, which unique values may. */
  inSourceOrder(): readonly Run<T>[];
}

/** What can be said of a batch without asking the server: how the records of each group become rows, and which do not. */
export type Judged = readonly {
  /** Flat rows, also where the records are changes. */
  readonly group: RecordGroup;
  readonly layout: Layout;
  readonly verdict: Verdict;
  readonly untold: Untold | undefined;
  /** Its one record says that the table was emptied. */
  readonly empties: boolean;
}[];

export const judgeBatch = ({ groups }: RecordBatch, config: RowsConfig, limits: Limits): Judged =>
  groups.flatMap((given) => {
    if (isControl(given.value.schema)) return { ...nothing, group: given };
    return piecesOf(given).flatMap(({ given: piece, empties }) =>
      partsByTable(piece, config.table).map((part) => (empties ? judgeTruncate : judgePart)(part, config, limits)),
    );
  });

/** Each record that empties its table by itself, and what is between. */
const piecesOf = (group: RecordGroup): readonly { readonly given: RecordGroup; readonly empties: boolean }[] => {
  const truncates = truncatesOf(group);
  if (truncates.length === 0) return [{ given: group, empties: false }];
  const bounds = truncates.flatMap((row) => [row, row + 1]);
  return [0, ...bounds].flatMap((from, i) => {
    const to = bounds[i] ?? group.count;
    return from === to ? [] : [{ given: sliceGroup(group, from, to), empties: i % 2 === 1 }];
  });
};

/** It has no key, and needs none. */
const judgeTruncate = (
  { group: given, table, isUntold }: TablePart,
  config: RowsConfig,
  limits: Limits,
): Judged[number] => {
  const group = unwrapped(given);
  const { schema, columns } = group.value;
  const layout = {
    ...layoutOf({ ...group, value: { schema, columns } }, config, limits),
    ...(table === undefined ? {} : { table }),
    ...(isUntold ? { problem: untoldTable } : {}),
  };
  const problem =
    config.mode === 'insert' ? 'that its table was emptied is no row, and needs mode upsert' : layout.problem;
  const refused = new Map(config.delete && problem !== undefined ? [[0, problem]] : []);
  const verdict = config.delete && refused.size === 0 ? { refused } : { rows: new Uint32Array(), refused };
  return { group, layout, verdict, untold: undefined, empties: true };
};

const judgePart = (
  { group: given, table, isUntold }: TablePart,
  config: RowsConfig,
  limits: Limits,
): Judged[number] => {
  // Its delete has done it.
  if (isUntold && given.value.nulls?.[0] === 1) return { ...nothing, group: given };
  const group = unwrapped(given);
  const layout = {
    ...layoutOf(group, config, limits),
    ...(table === undefined ? {} : { table }),
    ...(isUntold ? { problem: untoldTable } : {}),
  };
  const verdict = judge(group, layout, config, limits);
  return { group, layout, verdict, untold: untoldOf(given, group, layout), empties: false };
};

const untoldTable = '`table` takes a name from its source, and it is no change that has one';

/** Of what is no row. */
const nothing = {
  layout: { mode: 'insert', columns: [], key: [], unnameable: [] },
  verdict: { rows: new Uint32Array(0), refused: new Map<number, string>() },
  untold: undefined,
  empties: false,
} as const;

/** Finds what each record becomes; makes and changes tables on the way, so never inside a transaction. */
export const planOf = async <T extends Target>(
  judged: Judged,
  targets: Targets<T>,
  runOf: (topic: string) => StagedRun | undefined = () => undefined,
): Promise<Plan<T>> => {
  const parts: Part<T>[] = [];
  const ordered: (() => readonly Part<T>[])[] = [];
  const rejected: Rejected[] = [];
  let start = 0;
  for (const one of judged) {
    const { group, layout, verdict } = one;
    const { rows, refused } = verdict;
    const refuse = (row: number, problem: string) =>
      rejected.push({ index: start + row, error: rowError(`record of topic ${group.topic}: ${problem}`) });
    for (const [row, problem] of refused) refuse(row, problem);
    const run = runOf(group.topic);
    const wanted = run?.scope === 'merge' ? withoutGaps(one, refuse) : rows;
    if ((wanted?.length ?? group.count) > 0) {
      const target = await targets.of(group, layout, run?.staging);
      const kept = one.empties ? wanted : withoutChanges(group, wanted, target, refuse);
      const made = await partsOf(one, start, kept, target, (of) => targets.of(group, of, run?.staging));
      parts.push(...made.parts);
      ordered.push(made.inOrder);
    }
    start += group.count;
  }
  return { parts, rejected, inSourceOrder: () => ordered.flatMap((make) => make()).map((part) => [part]) };
};

/** The rows of a group that are written (undefined: all), as few parts and in source order. */
const partsOf = async <T extends Target>(
  { group, layout, untold, empties }: Judged[number],
  start: number,
  kept: Uint32Array | undefined,
  target: T,
  targetOf: (layout: Layout) => Promise<T>,
): Promise<{ readonly parts: readonly Part<T>[]; inOrder(): readonly Part<T>[] }> => {
  const partOf = (of: T, rows: Uint32Array | undefined): Part<T> => ({
    ...(empties ? { empties } : {}),
    target: of,
    group: rows === undefined ? group : gatherGroup(group, rows),
    origins: rows === undefined ? countFrom(start, group.count) : rows.map((row) => start + row),
  });
  if (untold === undefined) {
    const parts = kept?.length === 0 ? [] : [partOf(target, kept)];
    return { parts, inOrder: () => parts };
  }
  const ofSets: T[] = [target];
  for (const names of untold.sets.slice(1)) ofSets.push(await targetOf({ ...layout, untold: names }));
  const rows = kept ?? countFrom(0, group.count);
  const of = (runs: readonly UntoldRun[]) => runs.map((run) => partOf(ofSets[run.set]!, run.rows));
  const keyOf = keyTextOf(group, layout);
  const inOrder = () => of(runsInOrder(rows, untold));
  return { parts: keyOf === undefined ? inOrder() : of(runsByKey(rows, untold, keyOf)), inOrder };
};

/** The rows that are told whole: what a merge leaves out is not in the table that its rows are staged in. */
const withoutGaps = (
  { group, verdict, untold, empties }: Judged[number],
  refuse: (row: number, problem: string) => void,
): Uint32Array | undefined => {
  if (empties && verdict.rows === undefined)
    refuse(0, 'a run of scope merge is of whole rows, and this empties its table');
  if (empties) return new Uint32Array();
  const { nulls } = group.value;
  if (nulls === undefined && untold === undefined) return verdict.rows;
  return (verdict.rows ?? countFrom(0, group.count)).filter((row) => {
    const isWhole = nulls?.[row] !== 1 && (untold?.ofRow[row] ?? 0) === 0;
    if (!isWhole) refuse(row, 'a run of scope merge is of whole rows, and this one deletes or leaves out fields');
    return isWhole;
  });
};

/** The rows that the target's columns hold as they are; undefined: all. */
const withoutChanges = (
  group: RecordGroup,
  rows: Uint32Array | undefined,
  { checks }: Target,
  refuse: (row: number, problem: string) => void,
): Uint32Array | undefined => {
  const changed = new Map<number, string>();
  for (const [column, check] of checks ?? []) forEachChange(group, column, check, (row, why) => changed.set(row, why));
  if (changed.size === 0) return rows;
  const candidates = rows ?? countFrom(0, group.count);
  for (const row of candidates) if (changed.has(row)) refuse(row, changed.get(row)!);
  return candidates.filter((row) => !changed.has(row));
};

export const countFrom = (start: number, count: number): Uint32Array => {
  const numbers = new Uint32Array(count);
  for (let i = 0; i < count; i++) numbers[i] = start + i;
  return numbers;
};

/** Groups that interleave put together: source order within each table, also around its being emptied, and far fewer statements. */
export const byTable = <T extends Target>(parts: readonly Part<T>[]): readonly Run<T>[] => {
  const runs: Part<T>[][] = [];
  const lastRun = new Map<string, Part<T>[]>();
  for (const part of parts) {
    const { sql } = part.target.table;
    let run = lastRun.get(sql);
    if (run === undefined || run[0]!.target !== part.target || run[0]!.empties || part.empties) {
      run = [];
      runs.push(run);
      lastRun.set(sql, run);
    }
    run.push(part);
  }
  return runs;
};

/** The rows of a run counted through. */
export interface Rows {
  readonly count: number;
  /** The first row of each part. */
  readonly starts: readonly number[];
  /** The batch index of a row. */
  origin(row: number): number;
}

export const rowsOf = (run: Run<Target>): Rows => {
  const starts: number[] = [];
  let count = 0;
  for (const { group } of run) {
    starts.push(count);
    count += group.count;
  }
  return {
    count,
    starts,
    origin(row) {
      const i = starts.findLastIndex((start) => start <= row);
      return run[i]!.origins[row - starts[i]!]!;
    },
  };
};

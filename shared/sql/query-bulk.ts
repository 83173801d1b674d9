import type { Offsets, Partition } from '../connect/connector.ts';
import type { QueryOffset } from '../connect/query-config.ts';
import type { QuerySource } from './query-position.ts';
import type { QueryTable } from './query-table.ts';

/*
 * Bulk. One task reads a table behind its offset, `{server, table}`, to the end. Of several tasks the first begins: it commits in that offset the
 * bounds that part the table's key into ranges, and wakes the others. Each range is a partition `{server, table, range}` of one task. Who
 * finds all of them read ends the table: a task looks anew after its last commit, so the last one does (invariant 9), and of two
 * that see it at once one is fenced (invariant 1).
 */

/** Rows of a table that are read one after the other: behind their offset, up to and with the key `to`. */
export interface Slice<S> {
  readonly source: S;
  readonly partition: Partition;
  readonly from: QueryOffset;
  /** Left out: to the end. */
  readonly to?: readonly string[] | undefined;
}

/** `wait`: other tasks have to begin, or to read what is theirs. `end`: all ranges are read. */
export type BulkStep<S> =
  | { readonly kind: 'begin' | 'end'; readonly source: S; readonly from: QueryOffset }
  | ({ readonly kind: 'read' } & Slice<S>)
  | { readonly kind: 'wait' };

export interface BulkTask {
  readonly task: number;
  /** So many read the tables. */
  readonly tasks: number;
}

/** What a task does next, by what is committed; undefined: nothing. `positionOf` tells where a table is read from. */
export const nextBulkStep = <T extends QueryTable, S extends QuerySource<T>>(
  sources: readonly S[],
  offsets: Offsets<QueryOffset>,
  { task, tasks }: BulkTask,
  positionOf: (source: S) => QueryOffset | undefined,
): BulkStep<S> | undefined => {
  const steps = sources.map((source, at) => {
    const from = positionOf(source);
    return from === undefined ? undefined : tableStep(source, at, from, offsets, { task, tasks });
  });
  // The others can read what is begun.
  const begins = tasks === 1 ? undefined : steps.find((step) => step?.kind === 'begin');
  return begins ?? steps.find((step) => step !== undefined && step.kind !== 'wait') ?? steps.find(Boolean);
};

const tableStep = <S extends QuerySource>(
  source: S,
  at: number,
  from: QueryOffset,
  offsets: Offsets<QueryOffset>,
  { task, tasks }: BulkTask,
): BulkStep<S> => {
  const { partition } = source;
  const isFirst = task === 0;
  const stored = offsets.get(partition);
  if (stored === undefined || stored.endedMs !== undefined)
    return isFirst ? { kind: 'begin', source, from } : { kind: 'wait' };
  // Begun when there was one task.
  if (from.bounds === undefined) return isFirst ? { kind: 'read', source, partition, from } : { kind: 'wait' };
  const left = rangesOf(source, from, from.bounds, offsets).filter((range) => range.from.endedMs === undefined);
  if (left.length === 0) return { kind: 'end', source, from };
  const own = left.find(({ partition: { range } }) => (at + Number(range)) % tasks === task);
  return own === undefined ? { kind: 'wait' } : { kind: 'read', ...own };
};

const rangesOf = <S extends QuerySource>(
  source: S,
  { bounds: _, ...head }: QueryOffset,
  bounds: NonNullable<QueryOffset['bounds']>,
  offsets: Offsets<QueryOffset>,
): readonly Slice<S>[] =>
  Array.from({ length: bounds.length + 1 }, (_, range) => {
    const partition = { ...source.partition, range };
    const stored = offsets.get(partition);
    const isOfRun = stored?.mode === 'bulk' && stored.run === head.run;
    const from = isOfRun ? stored : { ...head, after: bounds[range - 1] ?? null };
    return { source, partition, from, to: bounds[range] };
  });

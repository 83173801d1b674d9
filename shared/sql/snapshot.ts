import * as z from 'zod';
import { type Offsets, type Partition, partitionKey } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { isRepair } from './repair-partition.ts';

/*
 * A snapshot of tables: the rows that were there before their changes are read. The first task commits, per table, a plan: the bounds that
 * part the table's key into ranges. Each range belongs to one task, which reads it in the key's order, in a view of the table for the
 * length of a run, and commits how far it came with the views it read in. When all ranges are done the first task goes on with the changes,
 * without those that a view had seen already (DESIGN §6, hazard D1). No lock is taken; ranges are read at once by all tasks.
 *
 *   partition {server}                  how far the changes are read: committed before the first plan
 *   partition {server, table}           the plan
 *   partition {server, table, range}    how far a range is read
 */

/** The values of a key's columns, as texts. Null: before the first key. */
const Key = z.array(z.string()).nullable();
export type Key = z.output<typeof Key>;

export const PlanOffset = z.strictObject({
  server: z.string().describe('Which server it is: the rows of another one are others.'),
  plan: z
    .int()
    .nullable()
    .describe(
      'Plans of this table are counted: what was read by an earlier one is not read by this. Null: the table is in the config no more.',
    ),
  bounds: z.array(z.array(z.string())).describe('Keys, ascending: each is the last one of its range.'),
  rows: z.int().nonnegative().describe('So many rows the table has, about.'),
  sinceMs: z.number().describe('When it was made, in milliseconds since 1970.'),
  ended: z.boolean().optional().describe('The end of its run is told.'),
});
export type PlanOffset = z.output<typeof PlanOffset>;

export const rangeOffset = <View extends z.ZodType>(view: View) =>
  z.strictObject({
    plan: z.int(),
    after: Key.describe('All rows of the range up to this key are read.'),
    done: z.boolean(),
    rows: z.int().nonnegative().describe('So many rows of it are read.'),
    views: z
      .array(z.strictObject({ after: Key, view }))
      .describe('The rows after each of these keys were read in this view of the table.'),
  });

export interface RangeOffset<View> {
  readonly plan: number;
  readonly after: Key;
  readonly done: boolean;
  readonly rows: number;
  readonly views: { readonly after: Key; readonly view: View }[];
}

/** Part of a table: its rows after the key `after`, up to and with the key `to` (null: to the end). */
export interface Range<View> {
  readonly table: string;
  /** Of which server the rows so far are. */
  readonly server: string;
  readonly partition: Partition;
  readonly offset: RangeOffset<View>;
  readonly to: Key;
}

/**
 * - `plan`: the table has none. `forget`: it has one, and is in the config no more: its changes are not read from now on, so a later
 *   snapshot of it has to begin anew. `end`: all of it is read, and its run is told. `read`: a range of this task. `wait`: other tasks have
 *   ranges to read, or the plan to make.
 */
export type Step<View> =
  | { readonly kind: 'plan'; readonly table: string; readonly partition: Partition; readonly plan: number }
  | { readonly kind: 'forget'; readonly partition: Partition; readonly offset: PlanOffset }
  | { readonly kind: 'end'; readonly table: string; readonly partition: Partition; readonly offset: PlanOffset }
  | { readonly kind: 'read'; readonly range: Range<View> }
  | { readonly kind: 'wait' }
  | { readonly kind: 'done' };

export interface SnapshotScope {
  /** The partition of the changes; those of tables have more in them. */
  readonly stream: Partition;
  /** Their names, in any order that all tasks agree on. */
  readonly tables: readonly string[];
  readonly task: number;
  readonly tasks: number;
  /** The rows of a table travel as a run, between two control records of the first task. */
  readonly runs: boolean;
}

const partitionOf = (stream: Partition, table: string): Partition => ({ ...stream, table });

const rangesOf = <View>(
  { stream }: SnapshotScope,
  table: string,
  { server, plan, bounds }: PlanOffset,
  offsets: Offsets<unknown>,
): readonly Range<View>[] =>
  [...bounds, null].map((to, number) => {
    const partition = { ...partitionOf(stream, table), range: number };
    const stored = offsets.get(partition) as RangeOffset<View> | undefined;
    const begun: RangeOffset<View> = {
      plan: plan!,
      after: bounds[number - 1] ?? null,
      done: false,
      rows: 0,
      views: [],
    };
    return { table, server, partition, offset: stored?.plan === plan ? stored : begun, to };
  });

const planOf = ({ stream }: SnapshotScope, table: string, offsets: Offsets<unknown>): PlanOffset | undefined => {
  const plan = offsets.get(partitionOf(stream, table)) as PlanOffset | undefined;
  return plan?.plan === null ? undefined : plan;
};

export const nextStep = <View>(scope: SnapshotScope, offsets: Offsets<unknown>): Step<View> => {
  const { stream, tables, task, tasks } = scope;
  const unplanned = tables.find((table) => planOf(scope, table, offsets) === undefined);
  if (task === 0) {
    const forgotten = forgottenPlan(scope, offsets);
    if (forgotten !== undefined) return { kind: 'forget', ...forgotten };
    if (unplanned !== undefined)
      return {
        kind: 'plan',
        table: unplanned,
        partition: partitionOf(stream, unplanned),
        plan: nextPlan(scope, unplanned, offsets),
      };
  }
  let isOpen = unplanned !== undefined;
  let number = 0;
  for (const table of tables) {
    const plan = planOf(scope, table, offsets);
    if (plan === undefined) continue;
    const ranges = rangesOf<View>(scope, table, plan, offsets);
    if (task === 0 && scope.runs && plan.ended !== true && ranges.every(({ offset }) => offset.done))
      return { kind: 'end', table, partition: partitionOf(stream, table), offset: { ...plan, ended: true } };
    for (const range of ranges) {
      if (!range.offset.done && number % tasks === task) return { kind: 'read', range };
      isOpen ||= !range.offset.done;
      number++;
    }
  }
  return { kind: isOpen ? 'wait' : 'done' };
};

const isOf = ({ stream }: SnapshotScope, partition: Partition): boolean =>
  Object.entries(stream).every(([name, value]) => partition[name] === value);

const forgottenPlan = (scope: SnapshotScope, offsets: Offsets<unknown>) => {
  const known = new Set(scope.tables);
  for (const { partition, offset } of offsets.all()) {
    if (typeof partition.table !== 'string' || partition.range !== undefined || isRepair(partition)) continue;
    if (known.has(partition.table)) continue;
    if (!isOf(scope, partition)) continue;
    const plan = offset as PlanOffset;
    if (plan.plan !== null) return { partition, offset: { ...plan, plan: null, bounds: [], rows: 0 } };
  }
  return undefined;
};

/** Ranges of the last plan are left where an operator took the plan away, to have the table read again. */
const nextPlan = (scope: SnapshotScope, table: string, offsets: Offsets<unknown>): number => {
  let last = 0;
  for (const { partition, offset } of offsets.all())
    if (partition.table === table && partition.range !== undefined && isOf(scope, partition))
      last = Math.max(last, (offset as RangeOffset<unknown>).plan);
  return last + 1;
};

/** How far the rows of a table are read. */
export interface TableProgress {
  readonly table: string;
  readonly rows: number;
  /** So many it has, about: never less than are read. */
  readonly of: number;
  readonly done: boolean;
  readonly sinceMs: number;
}

/** What a connector's offsets say of its snapshot; [] where they are no snapshot's. */
export const snapshotProgress = (
  offsets: readonly { readonly partition: Partition; readonly offset: unknown }[],
): readonly TableProgress[] => {
  const plans = offsets.flatMap(({ partition, offset }) => {
    const plan = partition.range === undefined ? PlanOffset.safeParse(offset) : undefined;
    return plan?.success === true && plan.data.plan !== null ? [{ partition, plan: plan.data }] : [];
  });
  const rangesOfTables = Map.groupBy(
    offsets.filter(({ partition: { range } }) => range !== undefined),
    ({ partition: { range, ...table } }) => partitionKey(table),
  );
  return plans.map(({ partition, plan: { plan, bounds, rows: estimate, sinceMs } }) => {
    const ranges = (rangesOfTables.get(partitionKey(partition)) ?? [])
      .map(({ offset }) => offset as RangeOffset<unknown>)
      .filter((range) => range.plan === plan);
    const rows = ranges.reduce((sum, range) => sum + range.rows, 0);
    const done = ranges.filter((range) => range.done).length > bounds.length;
    return { table: String(partition.table), rows, of: done ? rows : Math.max(rows, estimate), done, sinceMs };
  });
};

/** Every view that rows of a table were read in, from the key on after which it was, in the key's order. */
export const viewsOf = <View>(
  scope: SnapshotScope,
  table: string,
  offsets: Offsets<unknown>,
): RangeOffset<View>['views'] => {
  const plan = planOf(scope, table, offsets);
  return plan === undefined ? [] : rangesOf<View>(scope, table, plan, offsets).flatMap(({ offset }) => offset.views);
};

/**
 * Whether the row of a key was read with a change in it, given which of the table's views had seen the change. Only of integers is the order
 * known here; of other keys all views must have seen it: then a change may come that its row has already, and never one be lost.
 */
export const isSeen = (
  views: readonly { readonly after: Key }[],
  seen: readonly boolean[],
  firstOfKey: unknown,
): boolean => {
  const isInteger = typeof firstOfKey === 'number' || typeof firstOfKey === 'bigint';
  // The key's type may have changed since its rows were read.
  if (!isInteger || !views.every(({ after }) => after === null || /^-?\d+$/.test(after[0]!)))
    return seen.every((one) => one);
  const value = BigInt(firstOfKey);
  const first = Math.max(
    0,
    views.findLastIndex(({ after }) => after === null || value > BigInt(after[0]!)),
  );
  // A key that begins like the one after which a view begins may be before or behind it.
  let last = first;
  while (last + 1 < views.length && isBegunBy(views[last + 1]!.after!, value)) last++;
  return seen.slice(first, last + 1).every((one) => one);
};

/**
 * Whether the rows of a table were all read after it was emptied, given which of its views had seen that. Where only some had, what is read of it is
 * neither of before nor of after: emptying the destination would take rows that no change tells again.
 */
export const isTruncateSeen = (table: string, seen: readonly boolean[]): boolean => {
  if (seen.every((one) => !one)) return false;
  if (seen.every((one) => one)) return true;
  throw new ConnectError(
    'LOST_POSITION',
    `${table} was truncated while its rows were read: empty it at the destination, and reset the offset of its partition, to have it read again`,
  );
};

const isBegunBy = ([first, ...others]: readonly string[], value: bigint): boolean =>
  others.length > 0 && value === BigInt(first!);

/** More of them part the work no better, and each is an item of the state table. */
const mostRanges = 32;

/** A table of so many bytes is worth a task of its own. */
const bytesPerRange = 64 * 1024 * 1024;

export const rangesFor = (bytes: number): number => Math.min(mostRanges, Math.max(1, Math.ceil(bytes / bytesPerRange)));

/** Bounds that part the integers from `least` to `most` evenly. */
export const evenBounds = (least: bigint, most: bigint, ranges: number): PlanOffset['bounds'] => {
  const width = (most - least + 1n) / BigInt(ranges);
  if (width < 1n) return [];
  return Array.from({ length: ranges - 1 }, (_, i) => [String(least + width * BigInt(i + 1) - 1n)]);
};

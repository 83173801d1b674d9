import { gatherGroup, type RecordBatch, type RecordGroup } from '../../shared/connect/batch.ts';
import type { Rejected } from '../../shared/connect/connector.ts';
import { unwrapped } from '../../shared/connect/envelope.ts';
import { rowError } from '../../shared/connect/errors.ts';
import { type TextOutput, written } from '../../shared/connect/text-output.ts';
import { type CopyField, toCopyText } from '../../shared/connect/to-copy-text.ts';
import { flatColumn } from '../../shared/connect/to-json-lines.ts';
import type { PostgresSinkConfig } from './config.ts';
import { judge, type Layout, layoutOf, sideOf, type Verdict } from './layout.ts';
import type { Target, Targets } from './target.ts';

/** Rows of one target that are written together, in order. */
export interface Unit {
  readonly target: Target;
  readonly count: number;
  readonly deletes: boolean;
  /** The batch index of a row. */
  origin(row: number): number;
  /** Rows [from, to) as lines of COPY, a chunk at a time in one buffer: for the target's statements, or, of a staged one, for its `direct`. */
  lines(from: number, to: number, out: TextOutput, direct?: boolean): Iterable<Uint8Array>;
}

/** What of a group is written. */
export interface Part {
  readonly target: Target;
  readonly group: RecordGroup;
  /** The batch index of each row. */
  readonly origins: Uint32Array;
}

export interface Plan {
  readonly parts: readonly Part[];
  readonly rejected: readonly Rejected[];
}

const CHUNK_ROWS = 512;
const CHUNK_BYTES = 64 * 1024;
/** The ordinal and whether the row deletes, before the columns of a target that is staged. */
const STAGING_FIELDS = 2;

/** What can be said of a batch without asking the server: how the records of each group become rows, and which do not. */
export type Judged = readonly {
  /** Flat rows, also where the records are changes. */
  readonly group: RecordGroup;
  readonly layout: Layout;
  readonly verdict: Verdict;
}[];

export const judgeBatch = ({ groups }: RecordBatch, config: PostgresSinkConfig): Judged =>
  groups.map((given) => {
    const group = unwrapped(given);
    const layout = layoutOf(group, config);
    return { group, layout, verdict: judge(group, layout, config) };
  });

/** Finds what each record becomes; makes and changes tables on the way, so never inside a transaction. */
export const planOf = async (judged: Judged, targets: Targets): Promise<Plan> => {
  const parts: Part[] = [];
  const rejected: Rejected[] = [];
  let start = 0;
  for (const { group, layout, verdict } of judged) {
    const { rows, refused } = verdict;
    for (const [row, problem] of refused)
      rejected.push({ index: start + row, error: rowError(`record of topic ${group.topic}: ${problem}`) });
    const kept = rows?.length ?? group.count;
    if (kept > 0)
      parts.push({
        target: await targets.of(group, layout),
        group: rows === undefined ? group : gatherGroup(group, rows),
        origins: rows === undefined ? countFrom(start, kept) : rows.map((row) => start + row),
      });
    start += group.count;
  }
  return { parts, rejected };
};

const countFrom = (start: number, count: number): Uint32Array => {
  const numbers = new Uint32Array(count);
  for (let i = 0; i < count; i++) numbers[i] = start + i;
  return numbers;
};

/** Each group on its own: source order across tables, which foreign keys may need. */
export const inSourceOrder = (parts: readonly Part[]): readonly Unit[] => parts.map((part) => unitOf([part]));

/** Groups that interleave put together: source order within each table, and far fewer statements. */
export const byTable = (parts: readonly Part[]): readonly Unit[] => {
  const runs: Part[][] = [];
  const lastRun = new Map<string, Part[]>();
  for (const part of parts) {
    const { sql } = part.target.table;
    let run = lastRun.get(sql);
    if (run === undefined || run[0]!.target !== part.target) {
      run = [];
      runs.push(run);
      lastRun.set(sql, run);
    }
    run.push(part);
  }
  return runs.map(unitOf);
};

const unitOf = (parts: readonly Part[]): Unit => {
  const { target } = parts[0]!;
  const starts: number[] = [];
  let count = 0;
  for (const { group } of parts) {
    starts.push(count);
    count += group.count;
  }
  const fields = parts.map((part, i) => fieldsOf(part, starts[i]!));
  return {
    target,
    count,
    deletes: target.staged && parts.some(({ group }) => group.value.nulls?.includes(1)),
    origin(row) {
      const i = starts.findLastIndex((start) => start <= row);
      return parts[i]!.origins[row - starts[i]!]!;
    },
    *lines(from, to, out, direct = false) {
      const skipped = direct ? STAGING_FIELDS : 0;
      out.length = 0;
      for (const [i, { group }] of parts.entries()) {
        const these = fields[i]!.slice(skipped);
        const last = Math.min(to - starts[i]!, group.count);
        for (let row = Math.max(from - starts[i]!, 0); row < last; row += CHUNK_ROWS) {
          toCopyText(these, row, Math.min(row + CHUNK_ROWS, last), out);
          if (out.length < CHUNK_BYTES) continue;
          yield written(out);
          out.length = 0;
        }
      }
      yield written(out);
    },
  };
};

const fieldsOf = ({ target, group }: Part, start: number): readonly CopyField[] => {
  const fields = target.columns.map((column): CopyField => {
    const { columns, nulls } = sideOf(group, column);
    return { column: flatColumn(columns[column.at]!, group.count), nulls };
  });
  if (!target.staged) return fields;
  const ordinals = new Int32Array(countFrom(start, group.count).buffer);
  const deleted = group.value.nulls ?? new Uint8Array(group.count);
  return [
    { column: { name: 'ordinal', kind: 'int32', schema: { type: 'int32' }, values: ordinals } },
    { column: { name: 'deleted', kind: 'boolean', schema: { type: 'boolean' }, values: deleted } },
    ...fields,
  ];
};

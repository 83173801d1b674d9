import { type TextOutput, written } from '../../shared/connect/text-output.ts';
import { type CopyField, toCopyText } from '../../shared/connect/to-copy-text.ts';
import { flatColumn } from '../../shared/connect/to-json-lines.ts';
import { sideOf } from '../../shared/sql/layout.ts';
import { countFrom, type Part, type Run, rowsOf } from '../../shared/sql/plan.ts';
import type { PostgresTarget } from './target.ts';
import { copyHeader, copyTrailer, toCopyBinary } from './to-copy-binary.ts';

/** Rows of one target that are written together, in order. */
export interface Unit {
  readonly target: PostgresTarget;
  readonly count: number;
  readonly deletes: boolean;
  /** The batch index of a row. */
  origin(row: number): number;
  /** Rows [from, to) as lines of COPY, a chunk at a time in one buffer: for the target's statements, or, of a staged one, for its `direct`. */
  lines(from: number, to: number, out: TextOutput, direct?: boolean): Iterable<Uint8Array>;
  /** All rows for the target's `binary`. Throws UnusualValue. */
  binary(out: TextOutput): Iterable<Uint8Array>;
}

const CHUNK_ROWS = 512;
const CHUNK_BYTES = 64 * 1024;
/** The ordinal and whether the row deletes, before the columns of a target that is staged. */
const STAGING_FIELDS = 2;

export const unitOf = (parts: Run<PostgresTarget>): Unit => {
  const { target } = parts[0]!;
  const { count, starts, origin } = rowsOf(parts);
  const fields = parts.map((part, i) => fieldsOf(part, starts[i]!));
  const own = target.staged ? fields.map((these) => these.slice(STAGING_FIELDS)) : fields;

  /** What `put` appends for rows [from, to), of which it gets those of one part at a time. */
  const chunks = function* (
    from: number,
    to: number,
    out: TextOutput,
    put: (part: number, from: number, to: number) => void,
  ): Iterable<Uint8Array> {
    out.length = 0;
    for (const [i, { group }] of parts.entries()) {
      const last = Math.min(to - starts[i]!, group.count);
      for (let row = Math.max(from - starts[i]!, 0); row < last; row += CHUNK_ROWS) {
        put(i, row, Math.min(row + CHUNK_ROWS, last));
        if (out.length < CHUNK_BYTES) continue;
        yield written(out);
        out.length = 0;
      }
    }
    yield written(out);
  };

  return {
    target,
    count,
    deletes: target.staged && parts.some(({ group }) => group.value.nulls?.includes(1)),
    origin,
    lines(from, to, out, direct = false) {
      const these = direct ? own : fields;
      return chunks(from, to, out, (part, row, end) => toCopyText(these[part]!, row, end, out));
    },
    *binary(out) {
      const these = own.map((part) => part.map((field, i) => ({ ...field, type: typeAt(target, i) })));
      yield copyHeader;
      yield* chunks(0, count, out, (part, row, end) => toCopyBinary(these[part]!, row, end, out));
      yield copyTrailer;
    },
  };
};

const typeAt = ({ table, columns }: PostgresTarget, at: number) => table.columns.get(columns[at]!.name)!;

const fieldsOf = ({ target, group }: Part<PostgresTarget>, start: number): readonly CopyField[] => {
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

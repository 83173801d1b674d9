import { type BytesColumn, MISSING, type RecordGroup } from '../connect/batch.ts';
import { bufferOf } from '../connect/buffers.ts';
import { isEnvelope } from '../connect/envelope.ts';
import { dataOf, type Layout } from './layout.ts';

/*
 * An update may leave out what did not change (PostgreSQL's unchanged TOAST): the field is missing in `after`, and what is stored is to
 * stay. A row that is made (op c, r) has nothing stored: there, as in a plain row, missing is null.
 */

/** What the updates of a group leave out. */
export interface Untold {
  /** Sets of columns; the first is the empty one. */
  readonly sets: readonly (readonly string[])[];
  /** The set of each row; those without a value go with the row before them. */
  readonly ofRow: Uint32Array;
}

/** Of a group of changes, laid out as the rows after them; undefined where all is told. */
export const untoldOf = (changes: RecordGroup, rows: RecordGroup, layout: Layout): Untold | undefined => {
  if (layout.mode === 'insert' || !isEnvelope(changes.value.schema)) return undefined;
  const columns = layout.columns.filter(
    (column) => column.side === 'value' && dataOf(rows, column).state?.includes(MISSING),
  );
  if (columns.length === 0) return undefined;
  const states = columns.map((column) => dataOf(rows, column).state!);
  const isUpdate = updateReader(changes);
  const sets: (readonly string[])[] = [[]];
  const known = new Map<string, number>([['', 0]]);
  const { nulls } = rows.value;

  const setOf = (row: number): number => {
    const left = columns.filter((_, i) => states[i]![row] === MISSING).map(({ name }) => name);
    const id = left.join('\0');
    const at = known.get(id) ?? sets.push(left) - 1;
    known.set(id, at);
    return at;
  };

  const ofRow = new Uint32Array(rows.count);
  let last = 0;
  for (let row = 0; row < rows.count; row++) {
    if (nulls?.[row] !== 1) last = isUpdate(row) ? setOf(row) : 0;
    ofRow[row] = last;
  }
  return sets.length === 1 ? undefined : { sets, ofRow };
};

const LETTER_U = 0x75;

const updateReader = ({ value }: RecordGroup): ((row: number) => boolean) => {
  const { data, starts, ends } = value.columns.find(({ name }) => name === 'op') as BytesColumn;
  return (row) => ends[row]! - starts[row]! === 1 && data[starts[row]!] === LETTER_U;
};

/** Rows that leave out the same set of columns, in order. */
export interface UntoldRun {
  readonly rows: Uint32Array;
  readonly set: number;
}

/** In runs of rows that follow each other. */
export const runsInOrder = (rows: Uint32Array, { ofRow }: Untold): readonly UntoldRun[] => {
  const runs: UntoldRun[] = [];
  for (let from = 0, to = 0; from < rows.length; from = to) {
    const set = ofRow[rows[from]!]!;
    while (to < rows.length && ofRow[rows[to]!] === set) to++;
    runs.push({ rows: rows.subarray(from, to), set });
  }
  return runs;
};

/** In as few runs as keep the order of each key (invariant 5): updates that do and do not touch a long value mostly alternate. */
export const runsByKey = (
  rows: Uint32Array,
  { ofRow }: Untold,
  keyOf: (row: number) => string,
): readonly UntoldRun[] => {
  const runs: { readonly rows: number[]; readonly set: number }[] = [];
  const lastRun = new Map<string, number>();
  for (const row of rows) {
    const key = keyOf(row);
    const set = ofRow[row]!;
    let at = lastRun.get(key) ?? 0;
    while (at < runs.length && runs[at]!.set !== set) at++;
    if (at === runs.length) runs.push({ rows: [], set });
    runs[at]!.rows.push(row);
    lastRun.set(key, at);
  }
  return runs.map(({ rows, set }) => ({ rows: Uint32Array.from(rows), set }));
};

/** A text per key, the same for the same key; undefined where only the server knows which are (collations, decimals). */
export const keyTextOf = (group: RecordGroup, { columns, key }: Layout): ((row: number) => string) | undefined => {
  const parts = columns
    .filter(({ name }) => key.includes(name))
    .map((column) => {
      const data = dataOf(group, column);
      if (data.kind === 'int32' || data.kind === 'int64') return (row: number) => String(data.values[row]);
      if (data.kind !== 'bytes' || data.schema.type !== 'uuid') return undefined;
      const bytes = bufferOf(data.data);
      return (row: number) => bytes.toString('latin1', data.starts[row], data.ends[row]);
    });
  if (!parts.every((part) => part !== undefined)) return undefined;
  return (row) => parts.map((part) => part(row)).join();
};

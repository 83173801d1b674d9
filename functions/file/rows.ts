import type { Side } from '../../shared/connect/batch.ts';
import type { Window } from './window.ts';

/** The whole rows that were read from a window so far. All places are indices into its data. */
export interface Rows {
  /** Where the next row begins. */
  at: number;
  /** Line ends passed before `at`. */
  line: number;
  count: number;
  /** Per row: its first byte, the byte after its last one, and where the next row begins. */
  starts: Uint32Array;
  ends: Uint32Array;
  after: Uint32Array;
  /** Per row: the line ends passed before it, and by then. */
  linesBefore: Uint32Array;
  linesAfter: Uint32Array;
  readonly broken: BrokenRow[];
}

/** A row that has no columns: no JSON, a wrong number of CSV fields. */
export interface BrokenRow {
  /** The rows before it. */
  readonly before: number;
  readonly start: number;
  readonly end: number;
  readonly after: number;
  readonly linesBefore: number;
  readonly linesAfter: number;
  readonly problem: string;
}

export interface Limit {
  readonly rows: number;
  /** Of column data. */
  readonly bytes: number;
}

/**
 * Why reading stopped: the limit is reached; the window holds no further whole row; nothing more can come; or the next row has
 * another schema and starts another group.
 */
export type Stop = 'limit' | 'more' | 'end' | 'kind';

/** A row that does not fit: told once per misfit, the first one counts. */
export type Misfit = (row: number, problem: string) => void;

/** Bytes behind the rows that decoded text is appended to, so that one column has one buffer. `data` moves when it grows. */
export interface Arena {
  data: Buffer;
  length: number;
}

/** Reads the rows of one format. One per file: it learns the columns, and gives the same schema object while they don't change. */
export interface RowReader {
  /** Adds whole rows. `final`: what ends with the window ends with the file. */
  read(window: Window, rows: Rows, limit: Limit, final: boolean): Stop;
  /** The columns of the rows that `read` added since the last `sides`. */
  sides(rows: Rows, arena: Arena, misfit: Misfit): { readonly key?: Side; readonly value: Side };
}

export const createRows = (at: number, line: number, capacity: number): Rows => ({
  at,
  line,
  count: 0,
  starts: new Uint32Array(capacity),
  ends: new Uint32Array(capacity),
  after: new Uint32Array(capacity),
  linesBefore: new Uint32Array(capacity),
  linesAfter: new Uint32Array(capacity),
  broken: [],
});

/** The row's first line end is number `rows.line + 1`. */
export const addRow = (rows: Rows, start: number, end: number, after: number, linesAfter: number): void => {
  const row = rows.count++;
  if (row === rows.starts.length) growRows(rows);
  rows.starts[row] = start;
  rows.ends[row] = end;
  rows.after[row] = after;
  rows.linesBefore[row] = rows.line;
  rows.linesAfter[row] = linesAfter;
  rows.at = after;
  rows.line = linesAfter;
};

export const addBroken = (
  rows: Rows,
  start: number,
  end: number,
  after: number,
  linesAfter: number,
  problem: string,
): void => {
  rows.broken.push({ before: rows.count, start, end, after, linesBefore: rows.line, linesAfter, problem });
  rows.at = after;
  rows.line = linesAfter;
};

const growRows = (rows: Rows): void => {
  for (const name of ['starts', 'ends', 'after', 'linesBefore', 'linesAfter'] as const) {
    const grown = new Uint32Array(rows[name].length * 2);
    grown.set(rows[name]);
    rows[name] = grown;
  }
};

const reserve = (arena: Arena, bytes: number): void => {
  if (arena.length + bytes <= arena.data.length) return;
  const grown = Buffer.allocUnsafe(Math.max(arena.data.length * 2, arena.length + bytes));
  arena.data.copy(grown, 0, 0, arena.length);
  arena.data = grown;
};

export const appendText = (arena: Arena, text: string): void => {
  // A UTF-16 unit becomes at most three bytes.
  reserve(arena, text.length * 3);
  arena.length += arena.data.write(text, arena.length, 'utf8');
};

export const appendBytes = (arena: Arena, bytes: Uint8Array): void => {
  reserve(arena, bytes.length);
  arena.data.set(bytes, arena.length);
  arena.length += bytes.length;
};

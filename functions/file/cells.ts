/**
 * Where each cell of the rows is: two integers per row and column in one flat array, row by row, which the scanners write
 * without any object or string per value. It is scratch: used again for the next batch.
 */
export interface Cells {
  flat: Uint32Array;
  /** Columns there is room for in a row. */
  width: number;
}

/*
 * The two integers of a cell: its start with its kind in the two highest bits, and its end with a bit that says that its text has
 * escapes and must be decoded. Buffers are smaller than 2^30 bytes. An absent cell is 0, 0.
 */
export const STRING_KIND = 0x40000000;
export const NULL_KIND = 0x80000000;
export const CONTAINER_KIND = 0xc0000000;
export const ESCAPED = 0x80000000;
export const startOf = (start: number): number => start & 0x3fffffff;
export const kindOf = (start: number): number => (start & 0xc0000000) >>> 0;
export const endOf = (end: number): number => end & 0x7fffffff;

/** The bytes of a row's cell. */
export const cellBytes = ({ flat, width }: Cells, row: number, column: number): number => {
  const cell = (row * width + column) * 2;
  return endOf(flat[cell + 1]!) - startOf(flat[cell]!);
};

export const createCells = (width: number): Cells => ({ flat: new Uint32Array(2 * width * 64), width });

/** Makes room for one more row. */
export const reserveRow = (cells: Cells, row: number): void => {
  const needed = (row + 1) * cells.width * 2;
  if (needed <= cells.flat.length) return;
  const grown = new Uint32Array(Math.max(cells.flat.length * 2, needed));
  grown.set(cells.flat);
  cells.flat = grown;
};

/** Makes the rows wider, keeping the cells of rows 0 to `row`. */
export const widen = (cells: Cells, width: number, row: number): void => {
  const from = cells.width * 2;
  const to = width * 2;
  const grown = new Uint32Array(Math.max((row + 1) * to, cells.flat.length));
  for (let r = 0; r <= row; r++) grown.set(cells.flat.subarray(r * from, (r + 1) * from), r * to);
  cells.flat = grown;
  cells.width = width;
};

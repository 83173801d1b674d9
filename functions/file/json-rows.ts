import { type BytesColumn, type Column, MISSING, NULL, type Side } from '../../shared/connect/batch.ts';
import { any } from '../../shared/connect/schema.ts';
import { LOWER_N, NEWLINE, OPEN_BRACE, SPACE } from './ascii.ts';
import {
  type Cells,
  CONTAINER_KIND,
  cellBytes,
  ESCAPED,
  endOf,
  kindOf,
  NULL_KIND,
  STRING_KIND,
  startOf,
} from './cells.ts';
import { convertColumn, createTextCells, plainColumn, type TextCells } from './convert.ts';
import { createJsonObjects, TOO_WIDE } from './json-objects.ts';
import { skipValue } from './json-scan.ts';
import { type Declared, isDeclared, recordSides } from './record-sides.ts';
import { type Arena, addRow, appendText, type Limit, type Misfit, type Rows } from './rows.ts';

/**
 * JSON values as rows: objects as columns, or, when nothing is declared, values of any other kind as a single column; the two are
 * never in one group.
 */
export const createJsonRows = (declared: Declared, space: Uint8Array) => {
  const objects = createJsonObjects(declared.names, space);
  const makeSides = recordSides(declared.keyFields);
  const keyColumns = declared.keyFields.map((name) => declared.names.indexOf(name));
  let ofObjects = true;
  let tooWide = false;
  let keyBytes = 0;

  return {
    /** Whether the row at data[at] can't join the rows that are there. */
    startsGroup: (data: Buffer, at: number, rows: Rows): boolean =>
      rows.count > 0 && (data[at] === OPEN_BRACE) !== ofObjects,
    isMisplaced: (data: Buffer, at: number): boolean => data[at] !== OPEN_BRACE && isDeclared(declared),
    /** The end of the value at data[at]; ~i where byte i can't be; TOO_WIDE where it must start another group. */
    scan(data: Buffer, at: number, row: number): number {
      const isObject = data[at] === OPEN_BRACE;
      if (row === 0) {
        ofObjects = isObject;
        keyBytes = 0;
        if (tooWide) objects.forget();
      }
      const end = isObject ? objects.scan(data, at, row) : skipValue(data, at, space);
      tooWide = end === TOO_WIDE;
      return end;
    },
    add(rows: Rows, start: number, end: number, after: number, linesAfter: number) {
      for (const column of keyColumns) keyBytes += cellBytes(objects.cells, rows.count, column);
      addRow(rows, start, end, after, linesAfter);
    },
    isFull: (rows: Rows, limit: Limit): boolean =>
      rows.count + rows.broken.length >= limit.rows ||
      (rows.count + rows.broken.length > 0 && rows.at + rows.count * declared.rowBytes + keyBytes >= limit.bytes),
    sides(rows: Rows, arena: Arena, misfit: Misfit): { key?: Side; value: Side } {
      if (!ofObjects) return { value: { schema: any, columns: [wholeValues(rows, arena)] } };
      const columns = objects.names.map((name, column): Column => {
        const type = declared.types.get(name);
        if (type === undefined || type.schema.type === 'any')
          return plainColumn(name, type?.schema ?? any, jsonCells(objects.cells, column, rows.count, arena));
        const refuse: Misfit = (row, problem) => misfit(row, `${name}: ${problem}`);
        return convertColumn(name, type, textCells(objects.cells, column, rows.count, arena, refuse), misfit);
      });
      return makeSides(columns, rows, misfit);
    },
  };
};

export type JsonRows = ReturnType<typeof createJsonRows>;

const wholeValues = (rows: Rows, { data }: Arena): BytesColumn => {
  const { count } = rows;
  const state = new Uint8Array(count);
  for (let row = 0; row < count; row++) if (data[rows.starts[row]!] === LOWER_N) state[row] = NULL;
  const starts = rows.starts.subarray(0, count);
  return { name: '', schema: any, kind: 'bytes', data, starts, ends: rows.ends.subarray(0, count), state };
};

/** A column of JSON values as they were written. */
const jsonCells = ({ flat, width }: Cells, column: number, count: number, arena: Arena): TextCells => {
  const { data } = arena;
  const cells = createTextCells(arena, count);
  const { starts, ends, states } = cells;
  const stride = width * 2;
  let cell = column * 2;
  for (let row = 0; row < count; row++, cell += stride) {
    const start = flat[cell]!;
    const end = endOf(flat[cell + 1]!);
    starts[row] = startOf(start);
    ends[row] = end;
    if (end === 0) states[row] = MISSING;
    else if (start >= CONTAINER_KIND) joinLines(data, startOf(start), end);
    else if (start >= NULL_KIND) states[row] = NULL;
  }
  return cells;
};

/** A newline in a value is space between tokens. Made a blank: the text of a value then stays on one line, as line formats need. */
const joinLines = (data: Uint8Array, start: number, end: number): void => {
  for (let i = start; i < end; i++) if (data[i] === NEWLINE) data[i] = SPACE;
};

/** A column of scalars as plain text: strings without quotes and escapes, numbers and booleans as written. */
const textCells = ({ flat, width }: Cells, column: number, count: number, arena: Arena, misfit: Misfit): TextCells => {
  const cells = createTextCells(arena, count);
  const { starts, ends, states } = cells;
  const { data } = arena;
  const stride = width * 2;
  let cell = column * 2;
  for (let row = 0; row < count; row++, cell += stride) {
    const kind = kindOf(flat[cell]!);
    const start = startOf(flat[cell]!);
    const end = flat[cell + 1]!;
    if (end === 0) states[row] = MISSING;
    else if (end >= ESCAPED && kind === STRING_KIND) {
      const text: string = JSON.parse(data.toString('utf8', start, endOf(end)));
      if (!text.isWellFormed()) misfit(row, 'half of a surrogate pair, which is no text');
      starts[row] = arena.length;
      appendText(arena, text);
      ends[row] = arena.length;
    } else if (kind === NULL_KIND) states[row] = NULL;
    else {
      if (kind === CONTAINER_KIND)
        misfit(
          row,
          `expected one value, got ${data[start] === OPEN_BRACE ? 'an object' : 'an array'}; declare it as any`,
        );
      const quote = kind === STRING_KIND ? 1 : 0;
      starts[row] = start + quote;
      ends[row] = end - quote;
    }
  }
  return cells;
};

import { NEWLINE } from './ascii.ts';
import { TOO_WIDE } from './json-objects.ts';
import { createJsonRows, type JsonRows } from './json-rows.ts';
import { lineSpace } from './json-scan.ts';
import type { Declared } from './record-sides.ts';
import { addBroken, type RowReader, type Rows, type Stop } from './rows.ts';
import type { Window } from './window.ts';

/** One JSON value per line. Blank lines are no rows. A line that is no JSON is a broken row, and the next line is read. */
export const jsonLines = (declared: Declared): RowReader => {
  const json = createJsonRows(declared, lineSpace);
  return {
    read(window, rows, limit, final) {
      for (;;) {
        if (json.isFull(rows, limit)) return 'limit';
        const stop = readLine(json, window, rows, final);
        if (stop !== undefined) return stop;
      }
    },
    sides: json.sides,
  };
};

const readLine = (json: JsonRows, window: Window, rows: Rows, final: boolean): Stop | undefined => {
  const { data, length } = window;
  let start = rows.at;
  while (lineSpace[data[start]!] === 1) start++;
  if (data[start] === NEWLINE) {
    rows.at = start + 1;
    rows.line++;
    return undefined;
  }
  if (start >= length) {
    if (!final) return 'more';
    rows.at = length;
    return 'end';
  }
  if (json.isMisplaced(data, start)) return breakLine(window, rows, start, final);
  if (json.startsGroup(data, start, rows)) return 'kind';
  const end = json.scan(data, start, rows.count);
  if (end === TOO_WIDE) return 'kind';
  if (end < 0) return ~end < length || final ? breakLine(window, rows, ~end, final) : 'more';
  let i = end;
  while (lineSpace[data[i]!] === 1) i++;
  if (i >= length) {
    if (!final) return 'more';
    json.add(rows, start, end, length, rows.line);
  } else if (data[i] === NEWLINE) json.add(rows, start, end, i + 1, rows.line + 1);
  else return breakLine(window, rows, i, final);
  return undefined;
};

/** Passes the line that has a wrong byte at `wrong`. */
const breakLine = (window: Window, rows: Rows, wrong: number, final: boolean): Stop | undefined => {
  const { length } = window;
  const data = window.data.subarray(0, length);
  const newline = data.indexOf(NEWLINE, wrong);
  if (newline < 0 && !final) return 'more';
  const end = newline < 0 ? length : newline;
  const problem = jsonProblem(data.subarray(rows.at, end));
  addBroken(rows, rows.at, end, newline < 0 ? length : newline + 1, rows.line + (newline < 0 ? 0 : 1), problem);
  return undefined;
};

/** Why a text is no record, as the JSON parser says it. */
export const jsonProblem = (bytes: Buffer): string => {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? 'a key is no valid text'
      : `expected an object with the declared fields, got ${bytes.toString('utf8', 0, 80)}`;
  } catch (error) {
    return `not JSON: ${(error as Error).message}`;
  }
};

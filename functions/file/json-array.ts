import { ConnectError } from '../../shared/connect/errors.ts';
import { CLOSE_BRACKET, COMMA, NEWLINE, OPEN_BRACE, OPEN_BRACKET } from './ascii.ts';
import { jsonProblem } from './json-lines.ts';
import { TOO_WIDE } from './json-objects.ts';
import { createJsonRows, type JsonRows } from './json-rows.ts';
import { arraySpace, skipSpace } from './json-scan.ts';
import type { Declared } from './record-sides.ts';
import { addBroken, type RowReader, type Rows, type Stop } from './rows.ts';
import type { Window } from './window.ts';

/**
 * One array in a file, each element a row. The place after an element is before the comma or bracket that follows it. What is no
 * JSON has no next line to go on at, so it is a system error.
 */
export const jsonArray = (declared: Declared, path: string): RowReader => {
  const json = createJsonRows(declared, arraySpace);
  return {
    read(window, rows, limit, final) {
      const newlines = newlineCounter(window, rows);
      try {
        for (;;) {
          if (json.isFull(rows, limit)) return 'limit';
          const stop = readElement(json, window, rows, { final, path, newlines });
          if (stop !== undefined) return stop;
        }
      } catch (error) {
        // The rows before it go first: the next poll comes to the same place.
        if (rows.count + rows.broken.length > 0) return 'limit';
        throw error;
      }
    },
    sides: json.sides,
  };
};

interface Context {
  readonly final: boolean;
  readonly path: string;
  /** Line ends passed before an index; asked with growing ones. */
  readonly newlines: (before: number) => number;
}

/** Whether nothing of the file was read yet but its byte order mark. */
const isStart = (window: Window, rows: Rows): boolean =>
  window.start === 0 && rows.at === (window.data[0] === 0xef ? 3 : 0);

const readElement = (json: JsonRows, window: Window, rows: Rows, context: Context): Stop | undefined => {
  const { data, length } = window;
  const { final } = context;
  const corrupt = (i: number, problem: string) => corruptArray(context, window, i, problem);
  const ended = () => {
    if (!final) return 'more';
    if (isStart(window, rows) && skipSpace(data, rows.at, arraySpace) >= length) return 'end';
    throw corrupt(length, 'the file ends before its array');
  };
  const starting = isStart(window, rows);
  let i = skipSpace(data, rows.at, arraySpace);
  if (i >= length) return ended();
  if (data[i] === CLOSE_BRACKET && !starting) return afterArray(window, i, corrupt);
  if (data[i] !== (starting ? OPEN_BRACKET : COMMA)) {
    if (!starting) throw corrupt(i, 'expected a comma or the end of the array');
    throw corrupt(
      i,
      data[i] === OPEN_BRACE ? 'it starts with {, not [; for one record a line set format to jsonl' : 'expected [',
    );
  }
  i = skipSpace(data, i + 1, arraySpace);
  if (i >= length) return ended();
  if (starting && data[i] === CLOSE_BRACKET) return afterArray(window, i, corrupt);
  const misplaced = json.isMisplaced(data, i);
  if (!misplaced && json.startsGroup(data, i, rows)) return 'kind';
  const end = json.scan(data, i, rows.count);
  if (end === TOO_WIDE) return 'kind';
  if (end < 0) {
    if (~end >= length) return ended();
    throw corrupt(~end, jsonProblem(data.subarray(i, Math.min(~end + 1, length))));
  }
  // A number could go on in the next bytes.
  if (end >= length) return ended();
  rows.line = context.newlines(i);
  const linesAfter = context.newlines(end);
  if (misplaced) addBroken(rows, i, end, end, linesAfter, jsonProblem(data.subarray(i, end)));
  else json.add(rows, i, end, end, linesAfter);
  return undefined;
};

const afterArray = (window: Window, close: number, corrupt: (i: number, problem: string) => Error): Stop => {
  const i = skipSpace(window.data, close + 1, arraySpace);
  if (i < window.length) throw corrupt(i, 'there is more after the end of the array');
  return window.atEnd ? 'end' : 'more';
};

const newlineCounter = (window: Window, rows: Rows) => {
  const data = window.data.subarray(0, window.length);
  let count = rows.line;
  let next = data.indexOf(NEWLINE, rows.at);
  return (before: number): number => {
    while (next >= 0 && next < before) {
      count++;
      next = data.indexOf(NEWLINE, next + 1);
    }
    return count;
  };
};

const corruptArray = ({ path, newlines }: Context, window: Window, i: number, problem: string): ConnectError =>
  new ConnectError(
    'CORRUPT',
    `${path}:${newlines(i) + 1}: ${problem}, at byte ${window.start + i}; the records before it were delivered, mend the file`,
  );

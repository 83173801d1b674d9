import { type Column, MISSING, NULL } from '../../shared/connect/batch.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { type PrimitiveSchema, string } from '../../shared/connect/schema.ts';
import { byteTable, NEWLINE, QUOTE, RETURN } from './ascii.ts';
import { cellBytes, createCells, ESCAPED, endOf, reserveRow } from './cells.ts';
import { convertColumn, createTextCells, plainColumn, type TextCells } from './convert.ts';
import { type Declared, recordSides } from './record-sides.ts';
import { type Arena, addBroken, addRow, appendText, type RowReader, type Rows, type Stop } from './rows.ts';
import type { Window } from './window.ts';

export interface CsvOptions {
  readonly delimiter: string;
  /** The unquoted text that means null. */
  readonly null?: string | undefined;
}

/** The record does not end in the window. */
const UNENDED = -1;

/**
 * Scans CSV records as RFC 4180 has them: quoted fields, doubled quotes, line ends in quotes. `cells` gets start and end of each
 * field, without its quotes.
 */
const createScanner = (delimiter: string) => {
  const separator = delimiter.charCodeAt(0);
  const stops = byteTable([separator, NEWLINE, 0]);
  const scanner = {
    /** Of the last record: how many fields, line ends in quotes, and what is wrong with it. */
    fields: 0,
    newlines: 0,
    problem: '',
    /** The index of the record's line end, or of the end of the data when it is final; UNENDED. */
    scan(
      data: Buffer,
      length: number,
      at: number,
      final: boolean,
      flat: Uint32Array,
      base: number,
      width: number,
    ): number {
      scanner.fields = 0;
      scanner.newlines = 0;
      scanner.problem = '';
      let i = at;
      for (;;) {
        let start = i;
        let end: number;
        if (data[i] === QUOTE) {
          start = ++i;
          let escaped = 0;
          for (;;) {
            while (i < length && data[i] !== QUOTE) if (data[i++] === NEWLINE) scanner.newlines++;
            if (i >= length) return unclosed(data, length, at, final);
            if (data[i + 1] !== QUOTE || i + 1 >= length) break;
            escaped = ESCAPED;
            i += 2;
          }
          end = i++ | escaped;
          if (data[i] === RETURN && (data[i + 1] === NEWLINE || i + 1 >= length)) i++;
          if (i < length && data[i] !== separator && data[i] !== NEWLINE) {
            scanner.problem = 'there is text after the closing quote of a field';
            while (i < length && data[i] !== NEWLINE) i++;
          }
        } else {
          while (stops[data[i]!] === 0 || (data[i] === 0 && i < length)) i++;
          end = data[i] !== separator && i > start && data[i - 1] === RETURN ? i - 1 : i;
        }
        if (i >= length && !final) return UNENDED;
        if (scanner.fields < width) {
          flat[base + scanner.fields * 2] = start;
          flat[base + scanner.fields * 2 + 1] = end;
        }
        scanner.fields++;
        if (i >= length || data[i] === NEWLINE) return i;
        i++;
      }
    },
  };
  /** A quote that nothing closes spoils its own line only. */
  const unclosed = (data: Buffer, length: number, at: number, final: boolean): number => {
    if (!final) return UNENDED;
    scanner.newlines = 0;
    scanner.problem = 'a quote is never closed';
    const newline = data.subarray(0, length).indexOf(NEWLINE, at);
    return newline < 0 ? length : newline;
  };
  return scanner;
};

/** The names in a file's first line, and how many bytes and line ends it takes; undefined while the line is not whole. */
export const readHeader = (window: Window, from: number, delimiter: string, final: boolean) => {
  const { data, length } = window;
  const scanner = createScanner(delimiter);
  const flat = new Uint32Array(2 * (length - from + 1));
  const end = scanner.scan(data, length, from, final, flat, 0, flat.length / 2);
  if (end === UNENDED || from >= length) return undefined;
  const names = Array.from({ length: scanner.fields }, (_, i) => {
    const text = data.toString('utf8', flat[i * 2], endOf(flat[i * 2 + 1]!));
    return flat[i * 2 + 1]! >= ESCAPED ? text.replaceAll('""', '"') : text;
  });
  return {
    names,
    position: window.start + Math.min(end + 1, length),
    lines: scanner.newlines + (end < length ? 1 : 0),
  };
};

/** What is wrong with a file's columns, given what is declared: a fault of the file or the config, not of its rows. */
const checkNames = (names: readonly string[], declared: Declared, path: string): void => {
  if (names.join('') === '')
    throw new ConnectError(
      'CORRUPT',
      `${path}: the first line is empty, it should name the columns; or give them as \`header\``,
    );
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new ConnectError('CORRUPT', `${path}: the column "${twice}" is there twice; rename one of them in the file`);
  const absent = declared.names.filter(
    (name) =>
      !names.includes(name) && (declared.keyFields.includes(name) || !declared.types.get(name)!.schema.optional),
  );
  if (absent.length > 0)
    throw new ConnectError(
      'CONFIG_INVALID',
      `${path} has no column ${absent.map((name) => `"${name}"`).join(', ')}; its columns are ${names.join(', ')}. Correct the names, or declare the type as optional with ?`,
    );
};

/** Records of a CSV file with these columns. Blank lines are no rows. */
export const csvRows = (names: readonly string[], declared: Declared, options: CsvOptions, path: string): RowReader => {
  checkNames(names, declared, path);
  const scanner = createScanner(options.delimiter);
  const cells = createCells(names.length);
  const makeSides = recordSides(declared.keyFields);
  const undeclared: PrimitiveSchema = options.null === undefined ? string : { ...string, optional: true };
  const order = [...declared.names, ...names.filter((name) => !declared.names.includes(name))];
  const keyColumns = declared.keyFields.map((name) => names.indexOf(name));
  let keyBytes = 0;

  const readRecord = ({ data, length }: Window, rows: Rows, final: boolean): Stop | undefined => {
    const { at } = rows;
    if (at >= length) return final ? 'end' : 'more';
    reserveRow(cells, rows.count);
    const base = rows.count * cells.width * 2;
    const end = scanner.scan(data, length, at, final, cells.flat, base, cells.width);
    if (end === UNENDED) return 'more';
    const after = Math.min(end + 1, length);
    const linesAfter = rows.line + scanner.newlines + (end < length ? 1 : 0);
    const isBlank = end === at || (end === at + 1 && data[at] === RETURN);
    const problem =
      scanner.problem !== '' || scanner.fields === names.length
        ? scanner.problem
        : `expected ${names.length} fields, got ${scanner.fields}`;
    if (isBlank) {
      rows.at = after;
      rows.line = linesAfter;
    } else if (problem !== '') addBroken(rows, at, end, after, linesAfter, problem);
    else {
      for (const column of keyColumns) keyBytes += cellBytes(cells, rows.count, column);
      addRow(rows, at, end, after, linesAfter);
    }
    return undefined;
  };

  return {
    read(window, rows, limit, final) {
      if (rows.count === 0) keyBytes = 0;
      for (;;) {
        const taken = rows.count + rows.broken.length;
        const bytes = rows.at + rows.count * declared.rowBytes + keyBytes;
        if (taken >= limit.rows || (taken > 0 && bytes >= limit.bytes)) return 'limit';
        const stop = readRecord(window, rows, final);
        if (stop !== undefined) return stop;
      }
    },
    sides(rows, arena, misfit) {
      const columns = order.map((name): Column => {
        const type = declared.types.get(name);
        // Without a text that means null, an empty field is null where the type has no empty text.
        const nullText = options.null ?? (type === undefined || type.schema.type === 'string' ? undefined : '');
        const text = csvCells(cells, names.indexOf(name), rows.count, arena, nullText);
        return type === undefined ? plainColumn(name, undeclared, text) : convertColumn(name, type, text, misfit);
      });
      return makeSides(columns, rows, misfit);
    },
  };
};

/** A column as plain text; column -1 is one that the file does not have. */
const csvCells = (
  { flat, width }: { flat: Uint32Array; width: number },
  column: number,
  count: number,
  arena: Arena,
  nullText: string | undefined,
): TextCells => {
  const cells = createTextCells(arena, count);
  const { starts, ends, states } = cells;
  if (column < 0) {
    states.fill(MISSING);
    return cells;
  }
  const { data } = arena;
  const nullBytes = nullText === undefined ? undefined : Buffer.from(nullText);
  let cell = column * 2;
  for (let row = 0; row < count; row++, cell += width * 2) {
    const start = flat[cell]!;
    const end = flat[cell + 1]!;
    if (end >= ESCAPED) {
      starts[row] = arena.length;
      appendText(arena, data.toString('utf8', start, endOf(end)).replaceAll('""', '"'));
      ends[row] = arena.length;
      continue;
    }
    starts[row] = start;
    ends[row] = end;
    if (
      nullBytes !== undefined &&
      end - start === nullBytes.length &&
      !isQuoted(data, start) &&
      isAt(data, start, nullBytes)
    )
      states[row] = NULL;
  }
  return cells;
};

/** An unquoted field comes after a delimiter, a line end or nothing. */
const isQuoted = (data: Uint8Array, start: number): boolean => start > 0 && data[start - 1] === QUOTE;

const isAt = (data: Uint8Array, start: number, bytes: Uint8Array): boolean => {
  for (let i = 0; i < bytes.length; i++) if (data[start + i] !== bytes[i]) return false;
  return true;
};

import { VALUE } from '../../shared/connect/batch.ts';
import { patterns } from '../../shared/connect/fit.ts';
import { canonicalTimestamp, isIsoDate, isIsoTime, isIsoTimestamp } from './calendar.ts';
import type { TextCells } from './convert.ts';
import { isDecimal } from './convert-numbers.ts';
import type { FieldType } from './field-type.ts';
import { arraySpace, skipSpace, skipValue } from './json-scan.ts';
import { appendBytes, appendText } from './rows.ts';

type Refuse = (row: number) => void;

/**
 * Brings every cell of a column of text to the canonical form of its type. Where it has that form already, and that is the rule,
 * it stays where it is in the read buffer; else the new text is appended to the arena.
 */
export const fitText = (type: FieldType, cells: TextCells, refuse: Refuse): void => {
  const { schema, pattern } = type;
  const canonical = (row: number, from: number, to: number): string | boolean => {
    const { data } = cells.arena;
    const text = () => data.toString('latin1', from, to);
    if (pattern !== undefined) return pattern(data, from, to) ?? false;
    switch (schema.type) {
      case 'decimal':
        return isDecimal(data, from, to, schema.precision, schema.scale ?? 0);
      case 'date':
        return isIsoDate(data, from, to);
      case 'time':
        return isIsoTime(data, from, to);
      case 'timestamp':
        return (
          isIsoTimestamp(data, from, to, schema.local === true) ||
          (canonicalTimestamp(text(), schema.local === true) ?? false)
        );
      case 'uuid':
        return patterns.uuid.test(text().toLowerCase()) ? text().toLowerCase() : false;
      case 'bytes':
        return fromBase64(cells, row, text());
      case 'any':
        return isJson(data.subarray(from, to));
      default:
        return true;
    }
  };
  if (schema.type === 'string') return;
  for (let row = 0; row < cells.count; row++) {
    if (cells.states[row] !== VALUE) continue;
    const fitted = canonical(row, cells.starts[row]!, cells.ends[row]!);
    if (fitted === false) refuse(row);
    else if (fitted !== true) replace(cells, row, fitted);
  }
};

const replace = (cells: TextCells, row: number, text: string) => {
  const { data } = cells.arena;
  if (data.toString('latin1', cells.starts[row], cells.ends[row]) === text) return;
  cells.starts[row] = cells.arena.length;
  appendText(cells.arena, text);
  cells.ends[row] = cells.arena.length;
};

/** Decodes into the arena; Buffer.from skips what is no base64, so the way back must give the same text. */
const fromBase64 = (cells: TextCells, row: number, text: string): boolean => {
  const bytes = Buffer.from(text, 'base64');
  const again = bytes.toString('base64');
  if (again !== text && again.replace(/=+$/, '') !== text) return false;
  cells.starts[row] = cells.arena.length;
  appendBytes(cells.arena, bytes);
  cells.ends[row] = cells.arena.length;
  return true;
};

const isJson = (bytes: Uint8Array): boolean => {
  const ended = Buffer.concat([bytes, Buffer.alloc(1)]);
  const end = skipValue(ended, skipSpace(ended, 0, arraySpace), arraySpace);
  return end >= 0 && skipSpace(ended, end, arraySpace) === bytes.length;
};

import { type BytesColumn, type Column, MISSING, NULL, VALUE } from '../../shared/connect/batch.ts';
import { toContiguous } from '../../shared/connect/contiguous.ts';
import { describeSchema, type PrimitiveSchema } from '../../shared/connect/schema.ts';
import { convertBoolean, convertFloat, convertInt, convertInt64 } from './convert-numbers.ts';
import { fitText } from './convert-text.ts';
import type { FieldType } from './field-type.ts';
import type { Arena, Misfit } from './rows.ts';

/**
 * A column before its type: the plain text of each cell, without quotes and escapes. Valid until the next ones are made, which lie in
 * the same arrays.
 */
export interface TextCells {
  readonly arena: Arena;
  readonly count: number;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** VALUE, NULL or MISSING; everything else was told to misfit already. */
  readonly states: Uint8Array;
}

const scratch = { starts: new Uint32Array(0), ends: new Uint32Array(0), states: new Uint8Array(0) };

/** Cells that are empty values. */
export const createTextCells = (arena: Arena, count: number): TextCells => {
  if (scratch.starts.length < count) {
    scratch.starts = new Uint32Array(count * 2);
    scratch.ends = new Uint32Array(count * 2);
    scratch.states = new Uint8Array(count * 2);
  }
  const starts = scratch.starts.subarray(0, count).fill(0);
  const ends = scratch.ends.subarray(0, count).fill(0);
  const states = scratch.states.subarray(0, count).fill(VALUE);
  return { arena, count, starts, ends, states };
};

export const textAt = ({ arena, starts, ends }: TextCells, row: number): string =>
  arena.data.toString('utf8', starts[row], ends[row]);

/**
 * A typed column. Strict, and exact: a text that the type can't hold without changing it is a misfit, never rounded or cut.
 */
export const convertColumn = (name: string, type: FieldType, cells: TextCells, misfit: Misfit): Column => {
  const { schema } = type;
  if (!schema.optional && schema.type !== 'any') refuseAbsent(name, schema, cells, misfit);
  const refuse = (row: number) =>
    misfit(row, `${name}: expected ${describeSchema(schema)}, got ${shown(textAt(cells, row))}`);
  const state = stateOf(cells.states);
  const common = { name, schema, ...(state === undefined ? {} : { state }) };
  switch (schema.type) {
    case 'int8':
    case 'int16':
    case 'int32':
      return { ...common, kind: 'int32', values: convertInt(cells, schema.type, refuse) };
    case 'int64':
      return { ...common, kind: 'int64', values: convertInt64(cells, refuse) };
    case 'float32':
    case 'float64':
      return { ...common, kind: 'float64', values: convertFloat(cells, schema.type, refuse) };
    case 'boolean':
      return { ...common, kind: 'boolean', values: convertBoolean(cells, refuse) };
    default:
      fitText(type, cells, refuse);
      return bytesColumn(common, cells);
  }
};

/** A read buffer beyond this holds a record that is too large to be in memory once more. */
const mostCopiedBytes = 4 * 1024 * 1024;

/**
 * The texts are copied now, while they are in the processor's cache: encoding would fetch each from its place in the read buffer, which
 * takes twice as long.
 */
const bytesColumn = (
  common: Omit<BytesColumn, 'kind' | 'data' | 'starts' | 'ends'>,
  { arena: { data }, starts, ends }: TextCells,
): BytesColumn => {
  const bytes =
    data.length > mostCopiedBytes
      ? { data, starts: starts.slice(), ends: ends.slice() }
      : toContiguous({ data, starts, ends });
  return { ...common, kind: 'bytes', ...bytes };
};

/** A column whose cells need no conversion. */
export const plainColumn = (name: string, schema: PrimitiveSchema, cells: TextCells): BytesColumn => {
  const state = stateOf(cells.states);
  return bytesColumn({ name, schema, ...(state === undefined ? {} : { state }) }, cells);
};

/** Column states, left out where every row has a value. */
const stateOf = (states: Uint8Array): Uint8Array | undefined => {
  for (let row = 0; row < states.length; row++) if (states[row] !== VALUE) return states.slice();
  return undefined;
};

const refuseAbsent = (name: string, schema: PrimitiveSchema, { count, states }: TextCells, misfit: Misfit) => {
  for (let row = 0; row < count; row++) {
    if (states[row] === VALUE) continue;
    const got = states[row] === NULL ? 'null' : states[row] === MISSING ? 'no such field' : '';
    misfit(
      row,
      `${name}: expected ${describeSchema(schema)}, got ${got} (declare ${describeSchema({ ...schema, optional: true })} if it may be absent)`,
    );
  }
};

const shown = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);

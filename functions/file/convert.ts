import { type BytesColumn, type Column, MISSING, NULL, VALUE } from '../../shared/connect/batch.ts';
import { describeSchema, type PrimitiveSchema } from '../../shared/connect/schema.ts';
import { convertBoolean, convertFloat, convertInt, convertInt64 } from './convert-numbers.ts';
import { fitText } from './convert-text.ts';
import type { FieldType } from './field-type.ts';
import type { Arena, Misfit } from './rows.ts';

/** A column before its type: the plain text of each cell, without quotes and escapes. */
export interface TextCells {
  readonly arena: Arena;
  readonly count: number;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** VALUE, NULL or MISSING; everything else was told to misfit already. */
  readonly states: Uint8Array;
}

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

const bytesColumn = (
  common: Omit<BytesColumn, 'kind' | 'data' | 'starts' | 'ends'>,
  cells: TextCells,
): BytesColumn => ({
  ...common,
  kind: 'bytes',
  data: cells.arena.data,
  starts: cells.starts,
  ends: cells.ends,
});

/** A column whose cells need no conversion. */
export const plainColumn = (name: string, schema: PrimitiveSchema, cells: TextCells): BytesColumn => {
  const state = stateOf(cells.states);
  return bytesColumn({ name, schema, ...(state === undefined ? {} : { state }) }, cells);
};

/** Column states, left out where every row has a value. */
const stateOf = (states: Uint8Array): Uint8Array | undefined => {
  for (let row = 0; row < states.length; row++) if (states[row] !== VALUE) return states;
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

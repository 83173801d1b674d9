import type { Schema } from '../connect/schema.ts';

/**
 * What becomes of a table that does not fit its records: `add` columns; `widen-only` also columns that are too narrow for a field of their
 * kind; `evolve` also makes a text of one that is of another kind; `ignore` leaves out what has no column; `fail`.
 */
export type Evolve = 'add' | 'widen-only' | 'evolve' | 'ignore' | 'fail';

/** A table of rows that wait has every column of the one they go to, and what that one gets meanwhile. */
export const evolveStaging = (evolve: Evolve): Evolve => (evolve === 'ignore' || evolve === 'fail' ? 'add' : evolve);

/** The digits that an exact number may have before its point and behind it. */
export interface Digits {
  readonly whole: number;
  readonly scale: number;
}

export const unbounded: Digits = { whole: Number.POSITIVE_INFINITY, scale: Number.POSITIVE_INFINITY };

const wholeDigits = { int8: 3, int16: 5, int32: 10, int64: 19 };

/** Undefined: its values are no exact numbers. */
export const digitsOf = (schema: Schema): Digits | undefined => {
  switch (schema.type) {
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
      return { whole: wholeDigits[schema.type], scale: 0 };
    case 'decimal': {
      const { precision, scale = 0 } = schema;
      return precision === undefined ? unbounded : { whole: precision - scale, scale };
    }
    default:
      return undefined;
  }
};

/** Whether what has these digits holds every number that has those. */
export const holdsDigits = (have: Digits, want: Digits): boolean =>
  have.whole >= want.whole && have.scale >= want.scale;

/** What holds the numbers of both. */
export const bothDigits = (one: Digits, other: Digits): Digits => ({
  whole: Math.max(one.whole, other.whole),
  scale: Math.max(one.scale, other.scale),
});

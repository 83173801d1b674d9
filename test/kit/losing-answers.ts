import { ConnectError } from '../../shared/connect/errors.ts';
import type { Table } from '../../shared/state/table.ts';

/** A table that loses answers: the write happens, and its caller is told that nobody answered. */
export interface LosingTable extends Table {
  /** The next `count` writes that succeed lose their answers. */
  loseAnswers(count: number): void;
}

export const losingAnswers = (table: Table): LosingTable => {
  let left = 0;
  return {
    ...table,
    loseAnswers(count) {
      left = count;
    },
    async write(writes) {
      const result = await table.write(writes);
      if (!result.ok || left === 0) return result;
      left--;
      throw new ConnectError('UNAVAILABLE', 'the answer was lost', { retriable: true });
    },
  };
};

/**
 * As the SDK does: a write whose answer was lost is sent once more, and it is the second answer that the caller gets. A condition
 * that the first attempt made false fails then.
 */
export const resending = (table: Table): LosingTable => {
  let left = 0;
  return {
    ...table,
    loseAnswers(count) {
      left = count;
    },
    async write(writes) {
      const result = await table.write(writes);
      if (!result.ok || left === 0) return result;
      left--;
      return table.write(writes);
    },
  };
};

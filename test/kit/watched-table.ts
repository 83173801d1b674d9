import { expect } from 'vitest';
import type { Item, Key, Table, Write } from '../../shared/state/table.ts';

/**
 * A table that checks every write it takes: offsets move by one commit and never back (invariant 1), a new owner of a lease has a
 * higher epoch (invariant 4). What is wrong goes to `onWrong`: thrown, it would be one more failed run. `onChange` is told what a
 * stream would carry: new segments and WAKE rows.
 */
export const watchedTable = (table: Table, onChange: (key: Key) => void, onWrong: (error: unknown) => void): Table => ({
  ...table,
  async write(writes) {
    const before = await table.getMany(writes.filter(isPut).map(({ put: { pk, sk } }) => ({ pk, sk })));
    const result = await table.write(writes);
    if (!result.ok) return result;
    for (const [i, { put }] of writes.filter(isPut).entries()) {
      try {
        if (put.sk.includes('#OFFSET#') && put.cache !== true) checkOffset(before[i], put);
        if (put.sk.startsWith('TASK#')) checkEpoch(before[i], put);
      } catch (error) {
        onWrong(error);
      }
      if (put.sk.startsWith('WAKE#') || (put.pk.startsWith('log#') && put.sk !== 'HEAD'))
        onChange({ pk: put.pk, sk: put.sk });
    }
    return result;
  },
});

const isPut = (write: Write): write is Extract<Write, { put: Item }> => 'put' in write;

const checkOffset = (before: Item | undefined, after: Item): void => {
  expect(after.seq, `${after.partition}: commits are counted one by one`).toBe(Number(before?.seq ?? 0) + 1);
  // An operator's order to start over.
  if (after.offset === 'null') return;
  expect(placeOf(after), `${after.partition}: an offset went back`).toBeGreaterThanOrEqual(
    before === undefined ? 0 : placeOf(before),
  );
};

/** An array's or the log's offset as a number that grows. */
const placeOf = ({ offset }: Item): number => {
  const {
    next,
    base = 0,
    index = 0,
  } = (JSON.parse(String(offset)) ?? {}) as Partial<Record<'next' | 'base' | 'index', number>>;
  return next ?? base * 1_000_000 + index;
};

const checkEpoch = (before: Item | undefined, after: Item): void => {
  const [was, is] = [Number(before?.epoch ?? 0), Number(after.epoch)];
  // A row whose connector was removed stays until its run is over: nobody has taken it.
  const isTaken = after.owner !== undefined && after.owner !== 'removed' && after.owner !== before?.owner;
  expect(is, `${after.sk}: the epoch of a lease went back`).toBeGreaterThanOrEqual(was);
  if (isTaken) expect(is, `${after.sk}: taken with an epoch that was used before`).toBeGreaterThan(was);
};

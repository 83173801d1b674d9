/** Numbers that follow from a seed. */
export interface Random {
  /** Both ends included. */
  integer(min: number, max: number): number;
  pick<T>(from: readonly T[]): T;
}

export const createRandom = (seed: number): Random => {
  let state = seed;
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const integer = (min: number, max: number) => min + Math.floor(next() * (max - min + 1));
  return { integer, pick: (from) => from[integer(0, from.length - 1)]! };
};

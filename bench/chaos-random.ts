import { mulberry32 } from '../infra/local/mulberry32.ts';

/** Numbers that follow from a seed. */
export interface Random {
  /** Both ends included. */
  integer(min: number, max: number): number;
  pick<T>(from: readonly T[]): T;
}

export const createRandom = (seed: number): Random => {
  const next = mulberry32(seed);
  const integer = (min: number, max: number) => min + Math.floor(next() * (max - min + 1));
  return { integer, pick: (from) => from[integer(0, from.length - 1)]! };
};

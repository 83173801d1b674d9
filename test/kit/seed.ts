import { onTestFailed } from 'vitest';
import { mulberry32 } from '../../infra/local/mulberry32.ts';

/** Random numbers that a failed test can have again, which tells its seed: `SLUICE_SEED=… npx vitest run …`. */
export interface Seeded {
  readonly seed: number;
  /** Both ends included. */
  integer(min: number, max: number): number;
  pick<T>(from: readonly T[]): T | undefined;
}

export const seeded = (name: string): Seeded => {
  const seed = Number(process.env.SLUICE_SEED ?? Date.now() % 1_000_000);
  onTestFailed(() => void process.stdout.write(`${name}: SLUICE_SEED=${seed}\n`));
  const next = mulberry32(seed);
  const integer = (min: number, max: number) => min + Math.floor(next() * (max - min + 1));
  return { seed, integer, pick: (from) => from[integer(0, from.length - 1)] };
};

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { planArbitrary, simulate } from '../../kit/simulation.ts';

/**
 * `SLUICE_STEPS=<n>` goes on until so many steps are done, and says how many there were; without it, some, and no longer than
 * `quickMs`. `SLUICE_SEED=<seed>[:<path>]` begins with that seed; with a path it replays one run exactly.
 */
const [seed = String(Date.now() % 2 ** 31), ...path] = process.env.SLUICE_SEED?.split(':') ?? [];
const steps = Number(process.env.SLUICE_STEPS ?? 40_000);
const quickMs = process.env.SLUICE_STEPS === undefined ? 24_000 : Number.POSITIVE_INFINITY;
const runsPerSeed = path.length > 0 ? 1 : 20;

/** The runs of a seed, and making a failure of one of them smaller, take no longer than this. */
const seedMs = 60_000;

it('whatever happens to a pipeline, nothing is lost, nothing doubled and every key in order', {
  timeout: quickMs === Number.POSITIVE_INFINITY ? 24 * 3_600_000 : quickMs + 2 * seedMs,
}, async () => {
  const startedMs = Date.now();
  let done = 0;
  let runs = 0;
  let current = Number(seed);
  for (; done < steps && Date.now() - startedMs < quickMs; current++) {
    const result = await fc.check(
      fc.asyncProperty(planArbitrary, async (plan) => {
        done += (await simulate(plan)).filter(isStep).length;
        runs++;
      }),
      {
        seed: current,
        numRuns: runsPerSeed,
        interruptAfterTimeLimit: seedMs,
        ...(path.length === 0 ? {} : { path: path.join(':') }),
      },
    );
    if (result.failed) {
      const { counterexamplePath, errorInstance, counterexample } = result;
      const replay = `SLUICE_SEED=${current}:${counterexamplePath} npx vitest run test/shared/runtime/simulation.test.ts`;
      throw new Error(`${replay}\n${JSON.stringify(counterexample)}\n${(errorInstance as Error).message}`);
    }
    if (path.length > 0) break;
  }
  if (process.env.SLUICE_STEPS !== undefined)
    process.stdout.write(
      `${done} steps, ${runs} pipelines, seeds ${seed} to ${current - 1}, ${Math.round((Date.now() - startedMs) / 1000)} s\n`,
    );
});

/** One operation of one process; how a process ended is none. */
const isStep = (line: string): boolean => !/ (ended|threw): /.test(line);

it('replays a seed exactly', async () => {
  for (const plan of fc.sample(planArbitrary, { seed: 7, numRuns: 3 }))
    expect(await simulate(plan)).toEqual(await simulate(plan));
});

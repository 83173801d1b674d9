import fc from 'fast-check';
import { expect, it } from 'vitest';
import { planArbitrary, simulate } from '../../kit/simulation.ts';

/** `SLUICE_SEED=<seed>[:<path>]` replays a run exactly, `SLUICE_RUNS=<n>` searches longer. */
const [seed = String(Date.now() % 2 ** 31), ...path] = process.env.SLUICE_SEED?.split(':') ?? [];
const runs = Number(process.env.SLUICE_RUNS ?? 80);

it('whatever happens to a pipeline, nothing is lost, nothing doubled and every key in order', {
  timeout: runs * 10_000,
}, async () => {
  const result = await fc.check(
    fc.asyncProperty(planArbitrary, async (plan) => void (await simulate(plan))),
    {
      seed: Number(seed),
      numRuns: runs,
      // On a slow machine it checks less; a failure is made smaller for no longer than this.
      interruptAfterTimeLimit: runs * 300,
      ...(path.length === 0 ? {} : { path: path.join(':') }),
    },
  );
  if (!result.failed) return;
  const { counterexamplePath, errorInstance, counterexample } = result;
  const replay = `SLUICE_SEED=${seed}:${counterexamplePath} npx vitest run test/shared/runtime/simulation.test.ts`;
  throw new Error(`${replay}\n${JSON.stringify(counterexample)}\n${(errorInstance as Error).message}`);
});

it('replays a seed exactly', async () => {
  for (const plan of fc.sample(planArbitrary, { seed: 7, numRuns: 3 }))
    expect(await simulate(plan)).toEqual(await simulate(plan));
});

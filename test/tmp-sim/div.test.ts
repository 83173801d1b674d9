import fc from 'fast-check';
import { appendFileSync } from 'node:fs';
import { it } from 'vitest';
import { planArbitrary, simulate } from '../kit/simulation.ts';
it('x', async () => {
  const seed = Number(process.env.SOAK_SEED);
  let n = 0;
  const t0 = Date.now();
  const plans = fc.sample(planArbitrary, { seed, numRuns: Number(process.env.SOAK_RUNS) });
  for (const plan of plans) {
    const t = Date.now();
    try { await simulate(plan); } catch (e) { appendFileSync('/tmp/soak-runner.log', `FAIL seed ${seed} run ${n}: ${(e as Error).message}\n${JSON.stringify(plan)}\n`); }
    if (++n % 50 === 0) appendFileSync('/tmp/soak-runner.log', `${n} ${Date.now() - t0} ms (last ${Date.now() - t})\n`);
  }
}, 3000000);

import fc from 'fast-check';
import { it } from 'vitest';
import { planArbitrary, simulate } from '../kit/simulation.ts';
it('x', async () => {
  for (const plan of fc.sample(planArbitrary, { seed: 7, numRuns: 3 })) {
    const t0 = Date.now();
    let a: readonly string[] = [], b: readonly string[] = [];
    try { a = await simulate(plan); b = await simulate(plan); } catch (e) { console.log((e as Error).message.slice(0, 6000)); }
    const i = a.findIndex((x, k) => x !== b[k]);
    console.log(a.length, b.length, 'diverge at', i, Date.now() - t0, 'ms');
    if (i >= 0) console.log(a.slice(Math.max(0, i - 15), i + 5).join('\n'), '\n-----\n', b.slice(i - 2, i + 5).join('\n'));
  }
}, 300000);

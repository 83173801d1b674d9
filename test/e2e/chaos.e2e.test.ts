import { expect, test } from 'vitest';
import { countsOf, difference, jsonLinesOf, same } from '../kit/rows.ts';
import { seeded } from '../kit/seed.ts';
import { type Envelope, makeWorkplace } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

const pipeline = `name: p
topics:
  rows: { queues: 2 }
sources:
  rows:
    connector: file
    every: 1m
    timeout: 5s
    maxRecords: 100
    config: { path: rows.jsonl, topic: rows, keyFields: [id], fields: { id: string, n: int32 } }
sinks:
  files:
    connector: file
    from: [rows]
    timeout: 5s
    maxRecords: 100
    config: { path: out }
`;

/** Row n updates key n mod 100. By hundreds they make so many calls that some are throttled, whatever the seed. */
const rows = Array.from({ length: 10_000 }, (_, n) => ({ id: `k${n % 100}`, n }));

test('nothing of chaos shows in the result of a run but that it says what it did', { timeout: 300_000 }, async () => {
  await using place = await makeWorkplace();
  await place.file('rows.jsonl', rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  await place.file('p.yaml', pipeline);
  const { seed } = seeded('chaos');
  const { code, stdout, stderr } = await place.sluice(['run', 'p.yaml', '--json', '--chaos', String(seed)]);
  expect(code, stderr + stdout).toBe(0);
  const { chaos } = (JSON.parse(stdout.trim().split('\n').at(-1)!) as Envelope).result as { chaos: string };
  expect(chaos).toMatch(new RegExp(`^chaos with seed ${seed}: .*\\d+ calls throttled`));

  const written = (await jsonLinesOf(place.path('out/rows'))) as typeof rows;
  expect(difference(countsOf(written), countsOf(rows))).toEqual(same);
  const last = new Map<string, number>();
  for (const { id, n } of written) {
    expect(n, id).toBeGreaterThan(last.get(id) ?? -1);
    last.set(id, n);
  }
  await until(() => place.processes().length === 0);
});

import { mkdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { jsonLinesOf } from '../kit/rows.ts';
import { envelopeOf, makeWorkplace, messageOf, repository, type Workplace } from '../kit/sluice.ts';

/** A source, a sink and transforms of the user's own, in files beside the pipeline: each kind of node has some. */
const numbers = `import { defineSource, pollOf } from 'sluice/connect/connector';
import * as z from 'zod';

export default defineSource({
  type: 'numbers',
  config: z.strictObject({ count: z.int(), topic: z.string() }),
  offset: z.strictObject({ after: z.int() }),
  replay: 'exact',
  topics: ({ topic }) => [topic],
  async open({ config: { count, topic } }) {
    const partition = { numbers: topic };
    return {
      async poll(offsets, budget) {
        const after = offsets.get(partition)?.after ?? 0;
        const left = Array.from({ length: count - after }, (_, i) => after + i + 1);
        const records = left.map((n) => ({ topic, key: String(n), value: { n }, partition, offset: { after: n } }));
        return pollOf(records, { caughtUp: true, budget });
      },
      async close() {},
    };
  },
});
`;

const collect = `import { appendFile } from 'node:fs/promises';
import { defineSink } from 'sluice/connect/connector';
import * as z from 'zod';

export default defineSink({
  type: 'collect',
  config: z.strictObject({ file: z.string() }),
  delivery: 'at-least-once',
  async open({ config: { file } }) {
    return {
      async put(batch) {
        for (const { topic, value } of batch) await appendFile(file, JSON.stringify({ topic, ...(value as object) }) + '\\n');
        return { committed: false };
      },
      async close() {},
    };
  },
});
`;

const transforms: Readonly<Record<string, string>> = {
  double: `recordTransform('double', (record) => ({ ...record, value: { n: 2 * Number((record.value as { n: number }).n) } }))`,
  // A list: both run, in this order.
  tens: `[
    recordTransform('tens', (record) => (Number((record.value as { n: number }).n) % 10 === 0 ? record : null)),
    recordTransform('tenth', (record) => withField(record, 'tenth', { type: 'int32' }, Number((record.value as { n: number }).n) / 10)),
  ]`,
  small: `recordTransform('small', (record) => {
    if (Number((record.value as { n: number }).n) > 10) throw new Error('too large');
    return record;
  })`,
};

const pipeline = (directory: string) => `name: own
sources:
  numbers: { connector: ./numbers.ts, every: 1m, transforms: [transforms/double.ts], config: { count: 10, topic: numbers } }
processors:
  tens: { from: [numbers], to: tens, transforms: [./transforms/tens.ts] }
sinks:
  all: { connector: ./collect.ts, from: [numbers, tens], config: { file: '${directory}/out/all.jsonl' } }
  small:
    connector: file
    from: [numbers]
    transforms: [./transforms/small.ts]
    deadLetter: true
    config: { path: small }
direct:
  straight:
    every: 1m
    source: { connector: ./numbers.ts, config: { count: 10, topic: straight } }
    sink: { connector: ./collect.ts, config: { file: '${directory}/out/straight.jsonl' } }
    transforms: [./transforms/double.ts, ./transforms/tens.ts]
`;

let place: Workplace;

beforeAll(async () => {
  place = await makeWorkplace();
  await symlink(join(repository, 'node_modules'), place.path('node_modules'));
  for (const name of ['out', 'transforms']) await mkdir(place.path(name));
  await place.file('numbers.ts', numbers);
  await place.file('collect.ts', collect);
  for (const [name, transform] of Object.entries(transforms)) {
    const head = "import { recordTransform, withField } from 'sluice/connect/transform';\n";
    await place.file(`transforms/${name}.ts`, `${head}export default ${transform};\n`);
  }
  await place.file('own.yaml', pipeline(place.directory));
});
afterAll(() => place[Symbol.asyncDispose]());

const linesOf = async (file: string): Promise<unknown[]> =>
  (await readFile(place.path(file), 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

test("connectors and transforms of the user's own do their part in every kind of node", async () => {
  expect(envelopeOf(await place.sluice(['run', 'own.yaml', '--json']))).toMatchObject({ ok: true });
  const rows = (topic: string, values: readonly number[]) => values.map((n) => ({ topic, n }));
  const doubled = [2, 4, 6, 8, 10, 12, 14, 16, 18, 20];
  const tens = (topic: string) => rows(topic, [10, 20]).map((row) => ({ ...row, tenth: row.n / 10 }));
  const all = (await linesOf('out/all.jsonl')) as { topic: string }[];
  expect(all.filter(({ topic }) => topic === 'numbers')).toEqual(rows('numbers', doubled));
  expect(all.filter(({ topic }) => topic === 'tens')).toEqual(tens('tens'));
  expect(await linesOf('out/straight.jsonl')).toEqual(tens('straight'));
  expect(await jsonLinesOf(place.path('small/numbers'))).toEqual([2, 4, 6, 8, 10].map((n) => ({ n })));
  const letters = envelopeOf(await place.sluice(['topics', 'tail', 'own-small.dlq', '--json'])).result;
  expect(JSON.stringify(letters).match(/transform small: too large/g)).toHaveLength(5);
});

test('a transform that does not compile is told with its place, and nothing runs', async () => {
  await place.file('transforms/broken.ts', 'const rates = { EUR: 1 };\nexport default rates[;\n');
  const broken = pipeline(place.directory).replace('./transforms/small.ts', './transforms/broken.ts');
  await place.file('broken.yaml', broken);
  const ended = await place.sluice(['run', 'broken.yaml']);
  expect(ended.code).toBe(2);
  expect(messageOf(ended)).toContain(
    'broken.yaml:11: sinks.small.transforms.0: transforms/broken.ts:2:22: Unexpected ";"',
  );
});

import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { jsonLinesOf } from '../kit/rows.ts';
import { makeWorkplace, messageOf, repository } from '../kit/sluice.ts';

/** One record takes more memory than its function has, as a document of 30 MB does when it is parsed, and time with it. */
const heavy = `import { recordTransform } from 'sluice/connect/transform';

const held: Buffer[] = [];
export default recordTransform('heavy', (record) => {
  if (Number((record.value as { n: number }).n) === 13) {
    held.push(Buffer.alloc(600 * 1024 * 1024, 1));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000);
  }
  return record;
});
`;

const pipeline = `name: p
sources:
  rows: { connector: file, every: 1m, config: { path: rows.jsonl, keyFields: [n], fields: { n: int32 } } }
sinks:
  files:
    connector: file
    from: [rows]
    maxRecords: 8
    memoryMb: 256
    transforms: [./heavy.ts]
    config: { path: out }
`;

test('a record that kills its function is FAILED with exactly its offset, and never skipped but by an operator (H13)', {
  timeout: 300_000,
}, async () => {
  await using place = await makeWorkplace();
  await symlink(join(repository, 'node_modules'), place.path('node_modules'));
  const written = async () => ((await jsonLinesOf(place.path('out/rows'))) as { n: number }[]).map(({ n }) => n);
  await place.file('rows.jsonl', Array.from({ length: 20 }, (_, n) => `{"n":${n}}\n`).join(''));
  await place.file('heavy.ts', heavy);
  await place.file('p.yaml', pipeline);

  const ended = await place.sluice(['run', 'p.yaml']);
  expect(ended.code).toBe(1);
  const partition = '{"generation":0,"queue":0,"topic":"rows"}';
  expect(messageOf(ended)).toMatch(
    /POISON: the record at \{"generation":0,"queue":0,"topic":"rows"\} \{"base":0,"index":14\} killed its function \d times/,
  );
  expect(await written(), 'all that is before it').toEqual(Array.from({ length: 13 }, (_, n) => n));

  for (const args of [
    ['connectors', 'stop', 'p-files'],
    ['offsets', 'set', 'p-files', partition, '{"base":0,"index":14}'],
    ['connectors', 'resume', 'p-files'],
  ]) {
    const one = await place.sluice(args);
    expect(one.code, messageOf(one)).toBe(0);
  }
  const last = await place.sluice(['run', 'p.yaml']);
  expect(last.code, messageOf(last)).toBe(0);
  expect(await written()).toEqual(Array.from({ length: 20 }, (_, n) => n).filter((n) => n !== 13));
});

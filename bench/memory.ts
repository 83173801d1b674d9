/**
 * The largest resident set of a function, whatever it is given: 256 MB are to be enough.
 *
 *     npx node bench/memory.ts
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeLineitem } from './lineitem.ts';
import { measurePipeline } from './pipeline.ts';

const work = await mkdtemp(join(tmpdir(), 'sluice-memory-'));
const mebibyte = 1 << 20;
/** Text that does not compress. */
const noise = (bytes: number): string => randomBytes(bytes / 2).toString('hex');
const lineitem = join(tmpdir(), 'sluice-lineitem-300000.jsonl');
if (!existsSync(lineitem)) await writeLineitem(lineitem, 300_000);

const measure = async (name: string, input: string, from: object, to: object): Promise<void> => {
  const { rssMb, seconds } = await measurePipeline(work, {
    sources: { in: { connector: 'file', trigger: 'manual', config: { path: input, topic: 'rows', ...from } } },
    sinks: { out: { connector: 'file', from: ['rows'], config: { path: join(work, name), ...to } } },
  });
  console.log(`| ${name} | ${rssMb.in} | ${rssMb.out} | ${seconds.toFixed(1)} |`);
};

const write = async (name: string, content: string): Promise<string> => {
  await writeFile(join(work, name), content);
  return join(work, name);
};

console.log('| input | source RSS MB | sink RSS MB | s |\n|---|---|---|---|');
try {
  const line = `${noise(31 * mebibyte)}\n`;
  await measure(
    'lines of 31 MB, text',
    await write('lines.txt', line.repeat(3)),
    { format: 'text' },
    { format: 'text' },
  );
  const object = `${JSON.stringify({ id: 1, text: noise(30 * mebibyte) })}\n`;
  await measure('objects of 30 MB, JSON', await write('objects.jsonl', object.repeat(3)), {}, { format: 'jsonl' });
  const wide = `${JSON.stringify(Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`field_${i}`, `${noise(20)}`])))}\n`;
  await measure('rows of 2,000 fields', await write('wide.jsonl', wide.repeat(2_000)), {}, { format: 'jsonl' });
  await measure('Parquet', lineitem, { format: 'jsonl' }, { format: 'parquet' });
  await measure(
    'Parquet in 21 partitions',
    lineitem,
    { format: 'jsonl' },
    { format: 'parquet', partitionBy: ['l_shipmode', 'l_returnflag'] },
  );
} finally {
  await rm(work, { recursive: true, force: true });
}

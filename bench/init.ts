import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { bundle } from '../infra/bundle.ts';
import { connectorEntry, platformEntries, processorEntry } from '../infra/bundle-entries.ts';
import { sinkPlugins, sourcePlugins } from '../infra/connectors.ts';

/**
 * `npx node bench/init.ts [runs]`: what it costs to start each function, as CPU from the start of the process until its handler is
 * loaded, over a Node that loads an empty module. The least of nine runs each, taken in turn, so that a busy moment hits all alike.
 */
const runs = Number(process.argv[2] ?? 9);

const directory = mkdtempSync(join(tmpdir(), 'sluice-init-'));
const empty = join(directory, 'empty.mjs');
writeFileSync(empty, 'export const handler = () => {};\n');

const bundles = await bundle([
  ...Object.values(platformEntries),
  processorEntry(),
  ...[...sourcePlugins, ...sinkPlugins].map((plugin) => connectorEntry(plugin)),
]);
const modules = [
  { name: 'bare node', file: empty, bytes: 0 },
  ...bundles.map(({ name, directory, bytes }) => ({ name, file: join(directory, 'index.mjs'), bytes })),
];

const cpuMs = (file: string): number => {
  const script = `await import(${JSON.stringify(pathToFileURL(file).href)});
const { user, system } = process.cpuUsage();
console.log((user + system) / 1000);`;
  const env = { PATH: process.env.PATH, AWS_REGION: 'us-east-1', AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'x' };
  return Number(execFileSync(process.execPath, ['--input-type=module', '--eval', script], { env, encoding: 'utf8' }));
};

const taken = modules.map(() => Infinity);
for (let run = 0; run < runs; run++)
  for (const [index, { file }] of modules.entries()) taken[index] = Math.min(taken[index]!, cpuMs(file));
rmSync(directory, { recursive: true });

for (const [index, { name, bytes }] of modules.entries()) {
  const over = index === 0 ? '' : ` +${(taken[index]! - taken[0]!).toFixed(0)} ms`;
  console.log(
    `${name.padEnd(14)} ${String(Math.round(bytes / 1024)).padStart(5)} KB ${taken[index]!.toFixed(0).padStart(5)} ms${over}`,
  );
}

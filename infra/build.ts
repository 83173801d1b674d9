import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.ts';
import { connectorEntry, platformEntries, processorEntry } from './bundle-entries.ts';
import { sinkPlugins, sourcePlugins } from './connectors.ts';
import { writePipelineSchema } from './pipeline-schema-json.ts';

/**
 * `npm run build`: what an installed package has, because Node strips no types under node_modules. JavaScript and types of every module
 * in dist/, the bundle of every function in dist/lambda/<name>/, and the JSON schema of pipeline files.
 */
const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');

rmSync(dist, { recursive: true, force: true });
writePipelineSchema();
execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit',
});

const bundles = await bundle([
  ...Object.values(platformEntries),
  processorEntry(),
  ...[...sourcePlugins, ...sinkPlugins].map((plugin) => connectorEntry(plugin)),
]);
for (const { name, directory, bytes } of bundles) {
  const target = join(dist, 'lambda', name);
  mkdirSync(target, { recursive: true });
  cpSync(directory, target, { recursive: true });
  console.log(`dist/lambda/${name} ${Math.round(bytes / 1024)} KB`);
}

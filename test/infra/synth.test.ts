import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { fileSource } from '../../infra/connectors.ts';
import { Pipeline } from '../../infra/constructs/pipeline.ts';
import { Trigger } from '../../infra/constructs/trigger.ts';
import { synthPipelines } from '../../infra/synth.ts';

const temporary = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'sluice-synth-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
};

const connectorsOf = (assembly: string): readonly string[] => {
  const { Resources } = JSON.parse(readFileSync(join(assembly, 'Sluice.template.json'), 'utf8'));
  const rows = Object.values(Resources as Record<string, { Type: string; Properties: never }>).filter(
    ({ Type }) => Type === 'Custom::SluiceConnector',
  );
  return rows.map(({ Properties }) => JSON.stringify(Properties).match(/\\"name\\":\\"([^"\\]+)/)![1]!);
};

it('makes one assembly of pipelines in YAML, in TypeScript and by constructs, with the bundles they need', async () => {
  const directory = temporary();
  const program = join(directory, 'customers.ts');
  const infra = join(import.meta.dirname, '../../infra');
  writeFileSync(
    program,
    `import { fileSource } from '${infra}/connectors.ts';
import { Pipeline } from '${infra}/constructs/pipeline.ts';
import { Trigger } from '${infra}/constructs/trigger.ts';
import type { BuildPipelines } from '${infra}/synth.ts';

const build: BuildPipelines = (scope, platform) => {
  const pipeline = new Pipeline(scope, 'Customers', { platform, name: 'customers' });
  pipeline.addSource('files', { connector: fileSource({ path: 'customers.csv' }), trigger: Trigger.manual() });
};
export default build;
`,
  );
  const outdir = join(directory, 'out');
  const assembly = await synthPipelines({
    files: ['infra/pipelines/quickstart.yaml', program],
    build: (scope, platform) => {
      const pipeline = new Pipeline(scope, 'Orders', { platform, name: 'orders' });
      pipeline.addSource('orders', { connector: fileSource({ path: 'orders.csv' }), trigger: Trigger.manual() });
    },
    outdir,
  });
  expect(assembly).toBe(outdir);
  expect(connectorsOf(assembly)).toEqual([
    'quickstart-movies',
    'quickstart-flights',
    'quickstart-postgres',
    'quickstart-parquet',
    'customers-files',
    'orders',
  ]);
  const assets = readdirSync(assembly).filter((name) => name.startsWith('asset.'));
  // Three of the platform, and one per plugin: a bundle that two functions share is one asset.
  expect(assets).toHaveLength(6);
  for (const asset of assets) expect(readdirSync(join(assembly, asset))).toEqual(['index.mjs']);
});

it('says what a program must export', async () => {
  const program = join(temporary(), 'none.ts');
  writeFileSync(program, 'export const x = 1;\n');
  await expect(synthPipelines({ files: [program] })).rejects.toThrow(
    /none.ts has no default export that is a function/,
  );
});

import { hash } from 'node:crypto';
import { isAbsolute } from 'node:path';
import type { SinkPlugin, SourcePlugin } from './connectors.ts';
import { transformModule } from './transform-files.ts';

/** What one bundle is made of: a handler's file, or the text of a module that is written here. */
export type BundleEntry = { readonly name: string } & ({ readonly file: string } | { readonly text: string });

export const platformEntries = {
  dispatcher: { name: 'dispatcher', file: 'functions/dispatcher/dispatcher.handler.ts' },
  coordinator: { name: 'coordinator', file: 'functions/coordinator/coordinator.handler.ts' },
  deploy: { name: 'deploy', file: 'functions/deploy/deploy.handler.ts' },
} as const satisfies Record<string, BundleEntry>;

/** `transforms` here and below: paths, or names of those that come with Sluice, in the order in which they run. */
export const processorEntry = (transforms: readonly string[] = []): BundleEntry =>
  transforms.length === 0
    ? { name: 'processor', file: 'functions/processor/processor.handler.ts' }
    : writtenEntry('processor', [], 'processorHandler', transforms);

export const connectorEntry = (plugin: SourcePlugin | SinkPlugin, transforms: readonly string[] = []): BundleEntry => {
  const name = `${plugin.plugin}-${plugin.role}`;
  return plugin.handler !== undefined && transforms.length === 0
    ? { name, file: plugin.handler }
    : writtenEntry(name, [plugin], `${plugin.role}Handler`, transforms);
};

export const directEntry = (source: SourcePlugin, sink: SinkPlugin, transforms: readonly string[] = []): BundleEntry =>
  writtenEntry(`direct-${source.plugin}-${sink.plugin}`, [source, sink], 'directHandler', transforms);

/**
 * A function of just these: a registry of connectors would pull in every driver. The name ends in a hash of the text, as several
 * pipelines may join the same connectors with other transforms.
 */
const writtenEntry = (
  name: string,
  plugins: readonly (SourcePlugin | SinkPlugin)[],
  handler: 'sourceHandler' | 'sinkHandler' | 'directHandler' | 'processorHandler',
  transforms: readonly string[],
): BundleEntry => {
  const names = transforms.map((_, index) => `transform${index}`);
  const values = [...plugins.map(({ role }) => role), `[${names.join(', ')}]`];
  const text = [
    `import { ${handler} } from './shared/lambda/handlers';`,
    ...plugins.map(({ role, module, exportName }) => `import { ${exportName} as ${role} } from ${specifier(module)};`),
    ...transforms.map((file, index) => `import ${names[index]} from ${specifier(transformModule(file))};`),
    `export const handler = ${handler}(${values.join(', ')});`,
  ].join('\n');
  return { name: `${name}-${hash('sha256', text).slice(0, 8)}`, text };
};

/** Our own modules stand under the root, without their extension: the installed package holds what tsc made of them. */
const specifier = (module: string): string =>
  JSON.stringify(isAbsolute(module) ? module : `./${module.replace(/\.ts$/, '')}`);

import type { SinkPlugin, SourcePlugin } from './connectors.ts';

/** What one bundle is made of: a handler's file, or the text of a module that is written here. */
export type BundleEntry = { readonly name: string } & ({ readonly file: string } | { readonly text: string });

export const platformEntries = {
  dispatcher: { name: 'dispatcher', file: 'functions/dispatcher/dispatcher.handler.ts' },
  coordinator: { name: 'coordinator', file: 'functions/coordinator/coordinator.handler.ts' },
  deploy: { name: 'deploy', file: 'functions/deploy/deploy.handler.ts' },
} as const satisfies Record<string, BundleEntry>;

export const processorEntry: BundleEntry = { name: 'processor', file: 'functions/processor/processor.handler.ts' };

export const connectorEntry = ({ plugin, role, handler }: SourcePlugin | SinkPlugin): BundleEntry => ({
  name: `${plugin}-${role}`,
  file: handler,
});

/** A function that holds a source and a sink. Static imports of just these two: a registry would pull in every driver. */
export const directEntry = (source: SourcePlugin, sink: SinkPlugin): BundleEntry => ({
  name: `direct-${source.plugin}-${sink.plugin}`,
  text: [
    `import { directHandler } from './shared/lambda/handlers.ts';`,
    `import { ${source.exportName} as source } from './${source.module}';`,
    `import { ${sink.exportName} as sink } from './${sink.module}';`,
    'export const handler = directHandler(source, sink);',
  ].join('\n'),
});

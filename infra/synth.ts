import { registerHooks } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { App, Stack } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';
import { ConnectError, isCode } from '../shared/connect/errors.ts';
import { bundle } from './bundle.ts';
import { connectorEntry, directEntry, platformEntries, processorEntry } from './bundle-entries.ts';
import { ownModule } from './compile.ts';
import { Pipeline } from './constructs/pipeline.ts';
import { Platform } from './constructs/platform.ts';
import { loadPipelineFiles } from './pipeline-file.ts';
import type { PipelineModel } from './pipeline-model.ts';

/** The default export of a pipeline file in TypeScript: adds pipelines to a platform by constructs. */
export type BuildPipelines = (scope: Construct, platform: Platform) => void;

export interface SynthOptions {
  /** Pipeline files: YAML, JSON of a Kafka Connect or RocketMQ Connect task, or TypeScript. */
  readonly files?: readonly string[];
  /** Adds pipelines by constructs. */
  readonly build?: BuildPipelines;
  /** Where the cloud assembly goes. @default - a temporary directory */
  readonly outdir?: string;
}

/**
 * Synthesizes one app with one platform and the pipelines on it, for the local host; returns the directory of the cloud assembly. There
 * a path is a path, and what a connector's check finds stops nothing.
 */
export const synthPipelines = async ({ files = [], build, outdir }: SynthOptions): Promise<string> => {
  const context = { 'sluice:local': true };
  const app = new App({ ...appProps, context, ...(outdir === undefined ? {} : { outdir }) });
  await addPipelines(app, files, build);
  return resolve(app.synth().directory);
};

/** Without what takes most of a synth's time: the validation of the template takes seconds, and a test of the constructs does it. */
export const appProps = { builtinCloudFormationValidation: false, analyticsReporting: false, treeMetadata: false };

/**
 * Adds the stack of a platform and its pipelines. One stack: a pipeline that is left out of the app is then removed by the next deploy,
 * its connectors' `deleted` run first.
 */
export const addPipelines = async (
  scope: Construct,
  files: readonly string[],
  build?: BuildPipelines,
): Promise<Platform> => {
  const programs = files.filter((file) => file.endsWith('.ts') || file.endsWith('.js'));
  const models = loadPipelineFiles(files.filter((file) => !programs.includes(file)));
  const builders = await Promise.all(programs.map(loadProgram));
  // All at once, before the constructs ask for them one by one.
  await bundle(entriesOf(models));
  const { name, stackName } = platformOf(scope);
  const stack = new Stack(scope, stackName, { description: 'Sluice: connectors, each its own function' });
  const platform = new Platform(stack, 'Platform', { name });
  const problems = collectProblems();
  for (const model of models) problems.of(() => addPipeline(stack, platform, model));
  for (const builder of builders) problems.of(() => builder(stack, platform));
  problems.of(() => build?.(stack, platform));
  problems.throwAll();
  return platform;
};

/** `-c platform=test` makes another platform beside the one that there is without. */
const platformOf = (scope: Construct): { readonly name: string; readonly stackName: string } => {
  const name = (scope.node.tryGetContext('platform') as string | undefined) ?? 'default';
  return { name, stackName: name === 'default' ? 'Sluice' : `Sluice-${name}` };
};

/** Goes on after what a user has to correct, so that all of it is told at once. */
const collectProblems = () => {
  const messages: string[] = [];
  return {
    of(work: () => unknown): void {
      try {
        work();
      } catch (thrown) {
        if (!isCode(thrown, 'CONFIG_INVALID')) throw thrown;
        messages.push(thrown.message);
      }
    },
    throwAll(): void {
      if (messages.length > 0) throw new ConnectError('CONFIG_INVALID', messages.join('\n'));
    },
  };
};

const loadProgram = async (file: string): Promise<BuildPipelines> => {
  const hooks = registerHooks({
    resolve: (specifier, context, next) => next(ownModule(specifier) ?? specifier, context),
  });
  const { default: build } = await (
    import(pathToFileURL(resolve(file)).href) as Promise<{ default?: unknown }>
  ).finally(() => hooks.deregister());
  if (typeof build === 'function') return build as BuildPipelines;
  throw new ConnectError(
    'CONFIG_INVALID',
    `${file} has no default export that is a function; write \`export default (scope, platform) => { new Pipeline(scope, …) }\``,
  );
};

const entriesOf = (models: readonly PipelineModel[]) => {
  const entries = models.flatMap(({ sources, processors, sinks, direct }) => [
    ...[...Object.values(sources), ...Object.values(sinks)].map(({ connector, transforms }) =>
      connectorEntry(connector, transforms),
    ),
    ...Object.values(processors).map(({ transforms }) => processorEntry(transforms)),
    ...Object.values(direct).map(({ source, sink, transforms }) => directEntry(source, sink, transforms)),
  ]);
  return [...new Map([...Object.values(platformEntries), ...entries].map((entry) => [entry.name, entry])).values()];
};

/** A checked pipeline file as constructs. */
export const addPipeline = (scope: Construct, platform: Platform, model: PipelineModel): Pipeline => {
  const { name, topics, externalTopics } = model;
  const pipeline = new Pipeline(scope, name, { platform, name, topics, externalTopics });
  const problems = collectProblems();
  for (const [node, props] of Object.entries(model.sources)) problems.of(() => pipeline.addSource(node, props));
  for (const [node, props] of Object.entries(model.processors)) problems.of(() => pipeline.addProcessor(node, props));
  for (const [node, props] of Object.entries(model.sinks)) problems.of(() => pipeline.addSink(node, props));
  for (const [node, props] of Object.entries(model.direct)) problems.of(() => pipeline.addDirect(node, props));
  problems.throwAll();
  return pipeline;
};

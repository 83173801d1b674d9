import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { App, Stack } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';
import { ConnectError } from '../shared/connect/errors.ts';
import { bundle } from './bundle.ts';
import { connectorEntry, directEntry, platformEntries, processorEntry } from './bundle-entries.ts';
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

/** Synthesizes one app with one platform and the pipelines on it; returns the directory of the cloud assembly. */
export const synthPipelines = async ({ files = [], build, outdir }: SynthOptions): Promise<string> => {
  const app = new App({ ...appProps, ...(outdir === undefined ? {} : { outdir }) });
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
  const stack = new Stack(scope, 'Sluice', { description: 'Sluice: connectors, each its own function' });
  const platform = new Platform(stack, 'Platform');
  for (const model of models) addPipeline(stack, platform, model);
  for (const builder of builders) builder(stack, platform);
  build?.(stack, platform);
  return platform;
};

const loadProgram = async (file: string): Promise<BuildPipelines> => {
  const { default: build } = (await import(pathToFileURL(resolve(file)).href)) as { default?: unknown };
  if (typeof build === 'function') return build as BuildPipelines;
  throw new ConnectError(
    'CONFIG_INVALID',
    `${file} has no default export that is a function; write \`export default (scope, platform) => { new Pipeline(scope, …) }\``,
  );
};

const entriesOf = (models: readonly PipelineModel[]) => {
  const entries = models.flatMap(({ sources, processors, sinks, direct }) => [
    ...[...Object.values(sources), ...Object.values(sinks)].map(({ connector }) => connectorEntry(connector)),
    ...Object.values(processors).map(() => processorEntry),
    ...Object.values(direct).map(({ source, sink }) => directEntry(source, sink)),
  ]);
  return [...new Map([...Object.values(platformEntries), ...entries].map((entry) => [entry.name, entry])).values()];
};

/** A checked pipeline file as constructs. */
export const addPipeline = (scope: Construct, platform: Platform, model: PipelineModel): Pipeline => {
  const { name, topics, externalTopics } = model;
  const pipeline = new Pipeline(scope, name, { platform, name, topics, externalTopics });
  for (const [node, props] of Object.entries(model.sources)) pipeline.addSource(node, props);
  for (const [node, props] of Object.entries(model.processors)) pipeline.addProcessor(node, props);
  for (const [node, props] of Object.entries(model.sinks)) pipeline.addSink(node, props);
  for (const [node, props] of Object.entries(model.direct)) pipeline.addDirect(node, props);
  return pipeline;
};

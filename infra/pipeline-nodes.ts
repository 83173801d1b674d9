import { resolve } from 'node:path';
import { Duration } from 'aws-cdk-lib/core';
import type * as z from 'zod';
import { isCode } from '../shared/connect/errors.ts';
import { deliveryProblem } from '../shared/connect/spec.ts';
import { type FrameworkConfig, type Role, splitConfig } from '../shared/management/config-keys.ts';
import { sinkFile, sourceFile } from './connector-file.ts';
import {
  type Sink,
  type SinkPlugin,
  type Source,
  type SourcePlugin,
  sinkOf,
  sinkPlugins,
  sourceOf,
  sourcePlugins,
} from './connectors.ts';
import type {
  ConnectorOptions,
  DirectProps,
  ErrorProps,
  ProcessorProps,
  SinkProps,
  SourceProps,
} from './constructs/pipeline-props.ts';
import type { Trigger } from './constructs/trigger.ts';
import type { DirectSection, ProcessorSection, SinkSection, SourceSection } from './pipeline-schema.ts';
import { readTrigger, type TriggerSection } from './pipeline-trigger.ts';
import { parseDuration } from './pipeline-units.ts';
import { type Problem, problemsOf } from './problems.ts';
import { transformIn, transformProblems } from './transform-files.ts';

/** A node of a pipeline file as the constructs take it. Where it has problems, `props` is missing. Paths are relative to the node. */
export interface ReadNode<Props> {
  readonly props?: Props;
  readonly problems: readonly Problem[];
  /** Framework keys that mean nothing here. */
  readonly ignored: readonly string[];
}

/** `from` as it stands in the file: which topics a name means is not known by the node alone. */
export type ReadSink = Omit<SinkProps, 'from'> & { readonly from: readonly string[] };
export type ReadProcessor = Omit<ProcessorProps, 'from'> & { readonly from: readonly string[] };

/** The topics of a source whose config is good. */
export const sourceTopics = ({ schema, config, topics }: Source): readonly string[] => topics(schema.parse(config));

export const readSource = (section: z.output<typeof SourceSection>, directory: string): ReadNode<SourceProps> => {
  const { value, problems, ignored, framework } = readConnector<Source>('source', section, directory, []);
  const { options, problems: found } = readOptions(section, directory, [framework]);
  const all = [...problems, ...found];
  return value === undefined || all.length > 0
    ? { problems: all, ignored }
    : { props: { ...options, connector: value, trigger: options.trigger! }, problems: [], ignored };
};

export const readSink = (section: z.output<typeof SinkSection>, directory: string): ReadNode<ReadSink> => {
  const { value, problems, ignored, framework } = readConnector<Sink>('sink', section, directory, []);
  const { options, problems: found } = readOptions(section, directory, [framework]);
  const delivery = section.delivery ?? framework.delivery;
  const refused = delivery && value && deliveryProblem(delivery, 'exact', value.delivery);
  const all = [...problems, ...found, ...(refused ? [{ path: ['delivery'], message: refused }] : [])];
  if (section.from === undefined && framework.from === undefined)
    all.push({ path: ['from'], message: 'give the sources, processors or topics that it reads' });
  if (section.from !== undefined && framework.from !== undefined)
    all.push({ path: ['from'], message: `config says ${framework.from.join(', ')}: give one of both` });
  const from = section.from ?? framework.from ?? [];
  return value === undefined || all.length > 0
    ? { problems: all, ignored }
    : { props: { ...options, connector: value, from, delivery }, problems: [], ignored };
};

export const readProcessor = (
  section: z.output<typeof ProcessorSection>,
  directory: string,
): ReadNode<ReadProcessor> => {
  const { options, problems } = readOptions(section, directory, []);
  if (problems.length > 0) return { problems, ignored: [] };
  return { props: { ...options, from: section.from, to: section.to }, problems, ignored: [] };
};

export const readDirect = (section: z.output<typeof DirectSection>, directory: string): ReadNode<DirectProps> => {
  const source = readConnector<Source>('source', section.source, directory, ['source']);
  const sink = readConnector<Sink>('sink', section.sink, directory, ['sink']);
  const { options, problems } = readOptions(section, directory, [source.framework, sink.framework]);
  const delivery = section.delivery ?? source.framework.delivery ?? sink.framework.delivery;
  const refused =
    delivery && source.value && sink.value && deliveryProblem(delivery, source.value.replay, sink.value.delivery);
  const all = [...source.problems, ...sink.problems, ...problems];
  if (refused) all.push({ path: ['delivery'], message: refused });
  const ignored = [...source.ignored, ...sink.ignored];
  return source.value === undefined || sink.value === undefined || all.length > 0
    ? { problems: all, ignored }
    : {
        props: { ...options, source: source.value, sink: sink.value, trigger: options.trigger!, delivery },
        problems: [],
        ignored,
      };
};

interface ReadConnector<Value> {
  readonly value?: Value;
  readonly framework: FrameworkConfig;
  readonly problems: readonly Problem[];
  readonly ignored: readonly string[];
}

/** The plugin and its config, once the framework's keys are taken out of it. */
const readConnector = <Value extends Source | Sink>(
  role: Role,
  { connector, config }: { readonly connector?: string | undefined; readonly config: Record<string, unknown> },
  directory: string,
  at: readonly PropertyKey[],
): ReadConnector<Value> => {
  const split = splitConfig(config, role);
  const { framework, ignored, spelled } = split;
  const problems: Problem[] = split.problems.map(({ key, message }) => ({ path: [...at, 'config', key], message }));
  const name = connector ?? split.plugin;
  if (connector !== undefined && split.plugin !== undefined && connector !== split.plugin)
    problems.push({ path: [...at, 'connector'], message: `config names a class of ${split.plugin}: give one of both` });
  const { plugin, problem } = findPlugin(role, name, directory);
  if (plugin === undefined) {
    if (name !== undefined || split.problems.length === 0)
      problems.push({ path: [...at, 'connector'], message: problem! });
    return { framework, problems, ignored };
  }
  const value =
    plugin.role === 'source' ? sourceOf(plugin, split.config, directory) : sinkOf(plugin, split.config, directory);
  const parsed = plugin.schema.safeParse(value.config);
  if (!parsed.success)
    for (const { path, message } of problemsOf(parsed.error)) {
      const [key, ...rest] = path;
      const key0 = key === undefined ? [] : [spelled[String(key)] ?? key];
      problems.push({ path: [...at, 'config', ...key0, ...rest], message });
    }
  return problems.length > 0
    ? { framework, problems, ignored }
    : { value: value as Value, framework, problems, ignored };
};

interface FoundPlugin {
  readonly plugin?: SourcePlugin | SinkPlugin;
  readonly problem?: string;
}

/** One of ours by its name, or the user's own by its file. */
const findPlugin = (role: Role, name: string | undefined, directory: string): FoundPlugin => {
  const plugins = role === 'source' ? sourcePlugins : sinkPlugins;
  const plugin = plugins.find((one) => one.plugin === name);
  if (plugin !== undefined) return { plugin };
  const known = `${plugins.map((one) => one.plugin).join(', ')}, or a file of your own such as ./my-${role}.ts`;
  if (name === undefined) return { problem: `give the ${role}'s plugin: ${known}` };
  if (!/\.[cm]?[jt]s$/.test(name)) return { problem: `there is no ${role} "${name}"; ${role}s are: ${known}` };
  try {
    const path = resolve(directory, name);
    return { plugin: role === 'source' ? sourceFile(path) : sinkFile(path) };
  } catch (thrown) {
    if (!isCode(thrown, 'CONFIG_INVALID')) throw thrown;
    return { problem: thrown.message };
  }
};

type Section = TriggerSection &
  Pick<z.output<typeof SourceSection>, 'timeout' | 'errors'> &
  Omit<ConnectorOptions, 'errors' | 'timeout'>;

/** What a node says itself comes before what its config says in the framework's keys; to say both is refused. */
const readOptions = (section: Section, directory: string, frameworks: readonly FrameworkConfig[]) => {
  const { trigger, problems: found } = readTrigger(section);
  const problems: Problem[] = [...found];
  const framework: FrameworkConfig = Object.assign({}, ...frameworks);
  for (const key of ['tasks', 'maxRecords', 'errors'] as const)
    if (section[key] !== undefined && framework[key] !== undefined)
      problems.push({ path: [key], message: 'config says it too: give one of both' });
  const timeout = section.timeout === undefined ? undefined : parseDuration(section.timeout);
  const timeoutMs = timeout?.toMilliseconds() ?? 1000;
  if (timeoutMs < 1000 || timeoutMs > 900_000 || timeoutMs % 1000 !== 0)
    problems.push({ path: ['timeout'], message: `expected whole seconds, 1s to 15m, got ${section.timeout}` });
  const errors = readErrors(section, framework);
  const transforms = section.transforms?.map((file) => transformIn(directory, file));
  problems.push(...transformProblems(transforms));
  const { deadLetter, memoryMb, maxBytes } = section;
  const options: ConnectorOptions & { readonly trigger: Trigger | undefined } = {
    tasks: section.tasks ?? framework.tasks,
    maxRecords: section.maxRecords ?? framework.maxRecords,
    maxBytes,
    memoryMb,
    deadLetter,
    timeout,
    errors,
    transforms,
    trigger,
  };
  return { options, problems };
};

const readErrors = ({ errors }: Section, framework: FrameworkConfig): ErrorProps | undefined => {
  if (errors !== undefined) {
    const { tolerance, retryTimeout, retryDelayMax, deadLetterTopic } = errors;
    return {
      tolerance,
      retryTimeout: retryTimeout === undefined ? undefined : parseDuration(retryTimeout),
      retryDelayMax: retryDelayMax === undefined ? undefined : parseDuration(retryDelayMax),
      deadLetterTopic,
    };
  }
  if (framework.errors === undefined) return undefined;
  const { tolerance, retryTimeoutMs, retryDelayMaxMs, deadLetterTopic } = framework.errors;
  return {
    tolerance,
    retryTimeout: retryTimeoutMs === undefined ? undefined : Duration.millis(retryTimeoutMs),
    retryDelayMax: retryDelayMaxMs === undefined ? undefined : Duration.millis(retryDelayMaxMs),
    deadLetterTopic,
  };
};

import { Duration } from 'aws-cdk-lib/core';
import type * as z from 'zod';
import { isCode } from '../shared/connect/errors.ts';
import { deliveryProblem } from '../shared/connect/spec.ts';
import { type FrameworkConfig, type Role, splitConfig } from '../shared/management/config-keys.ts';
import { type Sink, type Source, sinkOf, sinkPlugins, sourceOf, sourcePlugins } from './connectors.ts';
import type {
  ConnectorOptions,
  DirectProps,
  ErrorProps,
  ProcessorProps,
  SinkProps,
  SourceProps,
} from './constructs/pipeline-props.ts';
import { Trigger } from './constructs/trigger.ts';
import type { DirectSection, ProcessorSection, SinkSection, SourceSection } from './pipeline-schema.ts';
import { type Problem, problemsOf } from './problems.ts';

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

export const readSource = (section: z.output<typeof SourceSection>): ReadNode<SourceProps> => {
  const { value, problems, ignored, framework } = readConnector<Source>('source', section, []);
  const { options, problems: found } = readOptions(section, [framework]);
  const all = [...problems, ...found];
  return value === undefined || all.length > 0
    ? { problems: all, ignored }
    : { props: { ...options, connector: value, trigger: options.trigger! }, problems: [], ignored };
};

export const readSink = (section: z.output<typeof SinkSection>): ReadNode<ReadSink> => {
  const { value, problems, ignored, framework } = readConnector<Sink>('sink', section, []);
  const { options, problems: found } = readOptions(section, [framework]);
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

export const readProcessor = (section: z.output<typeof ProcessorSection>): ReadNode<ReadProcessor> => {
  const { options, problems } = readOptions(section, []);
  if (problems.length > 0) return { problems, ignored: [] };
  return { props: { ...options, from: section.from, to: section.to }, problems, ignored: [] };
};

export const readDirect = (section: z.output<typeof DirectSection>): ReadNode<DirectProps> => {
  const source = readConnector<Source>('source', section.source, ['source']);
  const sink = readConnector<Sink>('sink', section.sink, ['sink']);
  const { options, problems } = readOptions(section, [source.framework, sink.framework]);
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
  at: readonly PropertyKey[],
): ReadConnector<Value> => {
  const split = splitConfig(config, role);
  const { framework, ignored, spelled } = split;
  const problems: Problem[] = split.problems.map(({ key, message }) => ({ path: [...at, 'config', key], message }));
  const name = connector ?? split.plugin;
  if (connector !== undefined && split.plugin !== undefined && connector !== split.plugin)
    problems.push({ path: [...at, 'connector'], message: `config names a class of ${split.plugin}: give one of both` });
  const plugins = role === 'source' ? sourcePlugins : sinkPlugins;
  const plugin = plugins.find((one) => one.plugin === name);
  if (plugin === undefined) {
    const known = plugins.map((one) => one.plugin).join(', ');
    if (name !== undefined)
      problems.push({ path: [...at, 'connector'], message: `there is no ${role} "${name}"; ${role}s are: ${known}` });
    else if (split.problems.length === 0)
      problems.push({ path: [...at, 'connector'], message: `give the ${role}'s plugin: ${known}` });
    return { framework, problems, ignored };
  }
  const value = plugin.role === 'source' ? sourceOf(plugin, split.config) : sinkOf(plugin, split.config);
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

type Section = Pick<z.output<typeof SourceSection>, 'every' | 'trigger' | 'timeout' | 'errors'> &
  Omit<ConnectorOptions, 'errors' | 'timeout'>;

/** What a node says itself comes before what its config says in the framework's keys; to say both is refused. */
const readOptions = (section: Section, frameworks: readonly FrameworkConfig[]) => {
  const problems: Problem[] = [];
  const framework: FrameworkConfig = Object.assign({}, ...frameworks);
  for (const key of ['tasks', 'maxRecords', 'errors'] as const)
    if (section[key] !== undefined && framework[key] !== undefined)
      problems.push({ path: [key], message: 'config says it too: give one of both' });
  const { trigger, problem } = readTrigger(section);
  if (problem !== undefined) problems.push({ path: ['every'], message: problem });
  const timeout = section.timeout === undefined ? undefined : parseDuration(section.timeout);
  const timeoutMs = timeout?.toMilliseconds() ?? 1000;
  if (timeoutMs < 1000 || timeoutMs > 900_000 || timeoutMs % 1000 !== 0)
    problems.push({ path: ['timeout'], message: `expected whole seconds, 1s to 15m, got ${section.timeout}` });
  const errors = readErrors(section, framework);
  const { deadLetter, memoryMb, maxBytes } = section;
  const options: ConnectorOptions & { readonly trigger: Trigger | undefined } = {
    tasks: section.tasks ?? framework.tasks,
    maxRecords: section.maxRecords ?? framework.maxRecords,
    maxBytes,
    memoryMb,
    deadLetter,
    timeout,
    errors,
    trigger,
  };
  return { options, problems };
};

const readTrigger = ({ every, trigger }: Section): { trigger?: Trigger; problem?: string } => {
  if (trigger !== undefined) return { trigger: Trigger.manual() };
  if (every === undefined) return {};
  try {
    return { trigger: Trigger.every(parseDuration(every)) };
  } catch (thrown) {
    if (!isCode(thrown, 'CONFIG_INVALID')) throw thrown;
    return { problem: `${every} is not possible, a schedule has whole minutes; give 1m or more` };
  }
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

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Of the form that the schema has checked. */
export const parseDuration = (text: string): Duration => {
  const [, count, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text)!;
  return Duration.millis(Number(count) * unitMs[unit as keyof typeof unitMs]);
};

import { Duration } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import { ConnectorSpec, deliveryProblem, namePattern, onData, TopicSpec } from '../../shared/connect/spec.ts';
import { type BundleEntry, connectorEntry, directEntry, processorEntry } from '../bundle-entries.ts';
import type { Sink, Source } from '../connectors.ts';
import { type Problem, problemsOf, requireNoProblems } from '../problems.ts';
import { Connector, type DirectNode, type ProcessorNode, type SinkNode, type SourceNode } from './connector.ts';
import { connectorName } from './connector-name.ts';
import { errorPolicy } from './error-policy.ts';
import type {
  ConnectorOptions,
  DirectProps,
  From,
  PipelineProps,
  ProcessorProps,
  SinkProps,
  SourceProps,
  TopicProps,
} from './pipeline-props.ts';
import type { Platform } from './platform.ts';
import { Trigger } from './trigger.ts';

/** The kind of a connector and what only its kind has. */
type Part = Pick<ConnectorSpec, 'kind'> &
  Partial<Pick<ConnectorSpec, 'plugin' | 'sinkPlugin' | 'config' | 'sinkConfig' | 'from' | 'to' | 'delivery'>>;

/**
 * Sources, processors and sinks, joined by topics. What can't run is refused when it is added, with every problem at once; what only
 * shows at the end (a topic that nobody writes, a loop) when the app is synthesized.
 */
export class Pipeline extends Construct {
  readonly platform: Platform;
  readonly pipelineName: string;
  private readonly topics: { readonly [topic: string]: TopicProps };
  private readonly written = new Set<string>();

  constructor(scope: Construct, id: string, props: PipelineProps) {
    super(scope, id);
    this.platform = props.platform;
    this.pipelineName = props.name;
    this.topics = props.topics ?? {};
    requireNoProblems(this.node.path, nameProblems(props.name));
    for (const topic of props.externalTopics ?? []) this.platform._graph.addExternal(topic);
    this.node.addValidation({ validate: () => this.unwrittenTopics() });
  }

  /** Reads a system into topics. */
  addSource(name: string, props: SourceProps): SourceNode {
    const { connector, trigger } = props;
    const { data, problems } = checkConfig(connector, 'config');
    const to = data === undefined ? [] : this.topicSpecs(connector.topics(data));
    const part = { kind: 'source', plugin: connector.plugin, config: connector.config, to } as const;
    return this.add(name, part, { ...props, trigger }, connectorEntry(connector), [
      ...problems,
      ...scheduledProblems(trigger),
    ]);
  }

  /** Writes topics into a system. */
  addSink(name: string, props: SinkProps): SinkNode {
    const { connector, delivery, trigger = Trigger.onData() } = props;
    const { topics, problems } = this.topicsOf(props.from);
    // A sink reads the log, whose replay is exact whatever the source's is.
    const refused = delivery && deliveryProblem(delivery, 'exact', connector.delivery);
    const part = { kind: 'sink', plugin: connector.plugin, config: connector.config, from: topics, delivery } as const;
    return this.add(name, part, { ...props, trigger }, connectorEntry(connector), [
      ...checkConfig(connector, 'config').problems,
      ...problems,
      ...(refused ? [{ path: ['delivery'], message: refused }] : []),
    ]);
  }

  /** Copies topics into another topic, exactly once. */
  addProcessor(name: string, props: ProcessorProps): ProcessorNode {
    const { trigger = Trigger.onData() } = props;
    const { topics, problems } = this.topicsOf(props.from);
    const part = { kind: 'processor', from: topics, to: this.topicSpecs([props.to]) } as const;
    const node = this.add(name, part, { ...props, trigger }, processorEntry, problems);
    this.platform._graph.edges.push({ from: topics, to: props.to });
    return node;
  }

  /** Copies from one system into another, with no topic between them. */
  addDirect(name: string, props: DirectProps): DirectNode {
    const { source, sink, delivery, trigger } = props;
    const refused = delivery && deliveryProblem(delivery, source.replay, sink.delivery);
    const part = {
      kind: 'direct',
      plugin: source.plugin,
      config: source.config,
      sinkPlugin: sink.plugin,
      sinkConfig: sink.config,
      delivery,
    } as const;
    return this.add(name, part, { ...props, trigger }, directEntry(source, sink), [
      ...checkConfig(source, 'source').problems,
      ...checkConfig(sink, 'sink').problems,
      ...scheduledProblems(trigger),
      ...(refused ? [{ path: ['delivery'], message: refused }] : []),
    ]);
  }

  private add<P extends Part>(
    node: string,
    part: P,
    options: ConnectorOptions & { readonly trigger: Trigger },
    entry: BundleEntry,
    found: readonly Problem[],
  ): Connector<P['kind']> {
    const path = `${this.node.path}/${node}`;
    const graph = this.platform._graph;
    const name = connectorName(this.pipelineName, node);
    const taken = graph.nameProblem(name);
    const errors = errorPolicy(name, options);
    const parsed = ConnectorSpec.omit({ functionName: true }).safeParse({
      ...part,
      name,
      tasks: options.tasks,
      errors: errors.policy,
      trigger: options.trigger.description,
      managedBy: 'deploy',
      maxRecords: options.maxRecords,
      maxBytes: options.maxBytes,
    });
    requireNoProblems(path, [
      ...(taken === undefined ? [] : [{ path: [], message: taken }]),
      ...nameProblems(node),
      ...found,
      ...errors.problems,
      ...(parsed.error === undefined ? [] : problemsOf(parsed.error)),
      ...(part.to ?? []).flatMap((topic) => {
        const message = graph.topicProblem(topic);
        return message === undefined ? [] : [{ path: ['topics'], message }];
      }),
    ]);
    graph.addConnector(name, path);
    for (const topic of part.to ?? []) this.declareTopic(topic, path);
    return new Connector(this, node, {
      platform: this.platform,
      spec: parsed.data as Omit<ConnectorSpec, 'functionName'> & { readonly kind: P['kind'] },
      entry,
      trigger: options.trigger,
      memoryMb: options.memoryMb ?? 512,
      timeout: options.timeout ?? Duration.minutes(2),
    });
  }

  private declareTopic(topic: TopicSpec, path: string): void {
    this.written.add(topic.name);
    this.platform._graph.addTopic(topic, path);
    this.platform._keepObjects(Duration.millis(topic.retentionMs));
  }

  private topicSpecs(names: readonly string[]): TopicSpec[] {
    return names.map((name) => {
      const { queues, retention } = this.topics[name] ?? {};
      return {
        name,
        queues: queues ?? defaults.queues,
        retentionMs: retention?.toMilliseconds() ?? defaults.retentionMs,
      };
    });
  }

  private topicsOf(from: readonly From[]): { readonly topics: string[]; readonly problems: readonly Problem[] } {
    const problem = (message: string) => ({ path: ['from'], message });
    const problems = from.flatMap((one) => {
      if (typeof one === 'string' || one.platform === this.platform) return [];
      return [
        problem(
          `${one.node.path} is on another platform, whose topics can't be read here: read it in a pipeline of that one`,
        ),
      ];
    });
    const topics = new Set(from.flatMap((one) => (typeof one === 'string' ? [one] : one.topics)));
    return {
      topics: [...topics],
      problems: from.length === 0 ? [problem('give at least one source, processor or topic')] : problems,
    };
  }

  private unwrittenTopics(): string[] {
    const topics = [...this.written].sort().join(', ');
    return Object.keys(this.topics)
      .filter((topic) => !this.written.has(topic))
      .map(
        (topic) => `topics.${topic}: no source or processor of this pipeline writes it; it writes ${topics || 'none'}`,
      );
  }
}

const defaults = TopicSpec.parse({ name: 'default' });

const nameProblems = (name: string): readonly Problem[] =>
  namePattern.test(name)
    ? []
    : [{ path: [], message: `"${name}" is not a name; use letters, digits, ".", "_" and "-", at most 200` }];

const checkConfig = (
  { schema, config }: Source | Sink,
  at: string,
): { readonly data?: unknown; readonly problems: readonly Problem[] } => {
  const parsed = schema.safeParse(config);
  return parsed.success ? { data: parsed.data, problems: [] } : { problems: problemsOf(parsed.error, [at]) };
};

const scheduledProblems = (trigger: Trigger): readonly Problem[] =>
  trigger.description === onData
    ? [{ path: ['trigger'], message: 'there is no topic to wait for; use Trigger.every() or Trigger.manual()' }]
    : [];

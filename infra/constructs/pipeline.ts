import { Duration, RemovalPolicy } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import { untoldProblem } from '../../shared/connect/control.ts';
import { namePattern } from '../../shared/connect/name.ts';
import { ConnectorSpec, deliveryProblem, TopicSpec } from '../../shared/connect/spec.ts';
import { type BundleEntry, connectorEntry, directEntry, processorEntry } from '../bundle-entries.ts';
import type { Sink, Source } from '../connectors.ts';
import { type Problem, problemsOf, requireNoProblems } from '../problems.ts';
import { transformProblems, transformTitle } from '../transform-files.ts';
import { Connector, type DirectNode, type ProcessorNode, type SinkNode, type SourceNode } from './connector.ts';
import { connectorName } from './connector-name.ts';
import { errorPolicy } from './error-policy.ts';
import { networkOf, networkProblems } from './network.ts';
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
import type { IPlatform } from './platform-use.ts';
import { platformRegionProblems, triggerRegionProblems } from './region.ts';
import { countResources } from './resource-count.ts';
import { Trigger } from './trigger.ts';

/** The kind of a connector and what only its kind has. */
type Part = Pick<ConnectorSpec, 'kind'> &
  Partial<
    Pick<ConnectorSpec, 'plugin' | 'sinkPlugin' | 'config' | 'sinkConfig' | 'from' | 'to' | 'delivery' | 'hold' | 'lag'>
  >;

/**
 * Sources, processors and sinks, joined by topics. What can't run is refused when it is added, with every problem at once; what only
 * shows at the end (a topic that nobody writes, a loop) when the app is synthesized.
 */
export class Pipeline extends Construct {
  readonly platform: IPlatform;
  readonly pipelineName: string;
  private readonly removalPolicy: RemovalPolicy;
  private readonly topics: { readonly [topic: string]: TopicProps };
  private readonly written = new Set<string>();

  constructor(scope: Construct, id: string, props: PipelineProps) {
    super(scope, id);
    this.platform = props.platform;
    this.pipelineName = props.name;
    this.topics = props.topics ?? {};
    this.removalPolicy = props.removalPolicy ?? RemovalPolicy.DESTROY;
    requireNoProblems(this.node.path, [...nameProblems(props.name), ...platformRegionProblems(this, props.platform)]);
    for (const topic of props.externalTopics ?? []) this.platform._use.graph.addExternal(topic);
    this.node.addValidation({ validate: () => this.unwrittenTopics() });
    countResources(this, `pipeline ${props.name}`);
  }

  /** Reads a system into topics. */
  addSource(name: string, props: SourceProps): SourceNode {
    const { connector, trigger } = props;
    const { data, problems } = this.checkConfig(connector, 'config');
    const to = data === undefined ? [] : this.topicSpecs(connector.topics(data));
    const names = to.map((topic) => topic.name);
    this.platform._use.graph.addSource(names, `${this.node.path}/${name}`, connector.told);
    const part = {
      kind: 'source',
      plugin: connector.plugin,
      config: connector.config,
      to,
      ...upstreamOf(connector),
    } as const;
    return this.add(
      name,
      part,
      { ...props, trigger },
      connectorEntry(connector, props.transforms),
      [connector],
      [...problems, ...upstreamProblems(trigger)],
    );
  }

  /** Writes topics into a system. */
  addSink(name: string, props: SinkProps): SinkNode {
    const { connector, delivery, trigger = Trigger.onData() } = props;
    const { topics, problems } = this.topicsOf(props.from);
    // A sink reads the log, whose replay is exact whatever the source's is.
    const refused = delivery && deliveryProblem(delivery, 'exact', connector.delivery);
    const part = { kind: 'sink', plugin: connector.plugin, config: connector.config, from: topics, delivery } as const;
    const { wantedOrder } = connector;
    if (wantedOrder !== undefined)
      this.platform._use.graph.addOrderedReader(topics, `${this.node.path}/${name}`, wantedOrder);
    return this.add(
      name,
      part,
      { ...props, trigger },
      connectorEntry(connector, props.transforms),
      [connector],
      [
        ...this.checkConfig(connector, 'config').problems,
        ...problems,
        ...(refused ? [{ path: ['delivery'], message: refused }] : []),
      ],
    );
  }

  /** Copies topics into another topic, exactly once. */
  addProcessor(name: string, props: ProcessorProps): ProcessorNode {
    const { trigger = Trigger.onData() } = props;
    const { topics, problems } = this.topicsOf(props.from);
    const part = { kind: 'processor', from: topics, to: this.topicSpecs([props.to]) } as const;
    const node = this.add(name, part, { ...props, trigger }, processorEntry(props.transforms), [], problems);
    this.platform._use.graph.edges.push({ from: topics, to: props.to });
    return node;
  }

  /** Copies from one system into another, with no topic between them. */
  addDirect(name: string, props: DirectProps): DirectNode {
    const { source, sink, delivery, trigger } = props;
    const refused = delivery && deliveryProblem(delivery, source.replay, sink.delivery);
    const untold = sink.wantedOrder && untoldProblem(sink.wantedOrder, `source ${source.plugin}`, source.told);
    const part = {
      kind: 'direct',
      plugin: source.plugin,
      config: source.config,
      ...upstreamOf(source),
      sinkPlugin: sink.plugin,
      sinkConfig: sink.config,
      delivery,
    } as const;
    return this.add(
      name,
      part,
      { ...props, trigger },
      directEntry(source, sink, props.transforms),
      [source, sink],
      [
        ...this.checkConfig(source, 'source').problems,
        ...this.checkConfig(sink, 'sink').problems,
        ...upstreamProblems(trigger),
        ...(refused ? [{ path: ['delivery'], message: refused }] : []),
        ...(untold ? [{ path: ['sink'], message: untold }] : []),
      ],
    );
  }

  private add<P extends Part>(
    node: string,
    part: P,
    options: ConnectorOptions & { readonly trigger: Trigger },
    entry: BundleEntry,
    systems: readonly (Source | Sink)[],
    found: readonly Problem[],
  ): Connector<P['kind']> {
    const path = `${this.node.path}/${node}`;
    const graph = this.platform._use.graph;
    const name = connectorName(this.pipelineName, node);
    const taken = graph.nameProblem(name);
    const errors = errorPolicy(name, options);
    const parsed = ConnectorSpec.omit({ functionName: true }).safeParse({
      ...part,
      name,
      transforms: options.transforms?.map(transformTitle),
      tasks: options.tasks,
      errors: errors.policy,
      trigger: options.trigger.description,
      ...options.trigger._parts.spec,
      managedBy: 'deploy',
      maxRecords: options.maxRecords,
      maxBytes: options.maxBytes,
    });
    requireNoProblems(path, [
      ...(taken === undefined ? [] : [{ path: [], message: taken }]),
      ...nameProblems(node),
      ...found,
      ...transformProblems(options.transforms),
      ...errors.problems,
      ...networkProblems(options),
      ...triggerRegionProblems(this, options.trigger),
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
      systems,
      trigger: options.trigger,
      network: networkOf(options),
      check: options.check ?? !isLocal(this),
      removalPolicy: this.removalPolicy,
      memoryMb: options.memoryMb ?? 512,
      timeout: options.timeout ?? Duration.minutes(2),
    });
  }

  private declareTopic(topic: TopicSpec, path: string): void {
    this.written.add(topic.name);
    this.platform._use.graph.addTopic(topic, path);
  }

  private topicSpecs(names: readonly string[]): TopicSpec[] {
    return names.map((name) => {
      const { queues, retention, maxBacklog } = this.topics[name] ?? {};
      const capMs = this.platform._use.unreadCap?.toMilliseconds();
      return {
        name,
        queues: queues ?? defaults.queues,
        retentionMs: retention?.toMilliseconds() ?? defaults.retentionMs,
        ...(capMs === undefined ? {} : { capMs }),
        ...(maxBacklog === undefined ? {} : { maxBacklogBytes: maxBacklog.toBytes() }),
      };
    });
  }

  private checkConfig(
    system: Source | Sink,
    at: string,
  ): { readonly data?: unknown; readonly problems: readonly Problem[] } {
    const parsed = system.schema.safeParse(system.config);
    if (!parsed.success) return { problems: problemsOf(parsed.error, [at]) };
    return { data: parsed.data, problems: isLocal(this) ? [] : pathProblems(system, at) };
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

/** Whether the app is synthesized for the local host, whose functions see the files of this machine. */
const isLocal = (scope: Construct): boolean => scope.node.tryGetContext('sluice:local') === true;

const pathProblems = ({ paths = [], config }: Source | Sink, at: string): readonly Problem[] =>
  paths.flatMap((key) => {
    const path = (config as { readonly [key: string]: unknown } | undefined)?.[key];
    return typeof path !== 'string' || path === '' || /^(s3:\/\/|\$\{)/.test(path)
      ? []
      : [
          {
            path: [at, key],
            message: `${path} is on this machine, where a deployed function is not; use s3://bucket/prefix/, or run it here by \`sluice run\``,
          },
        ];
  });

/** What the coordinator must know of a source's upstream. */
const upstreamOf = ({ hold, lag }: Source): Pick<ConnectorSpec, 'hold' | 'lag'> => ({
  ...(hold === undefined ? {} : { hold }),
  ...(lag === undefined ? {} : { lag }),
});

const upstreamProblems = ({ _parts: { ofLog } }: Trigger): readonly Problem[] =>
  ofLog
    ? [{ path: ['trigger'], message: 'there is no topic to wait for; use Trigger.every() or Trigger.manual()' }]
    : [];

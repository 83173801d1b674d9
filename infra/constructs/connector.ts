import type { IMetric, Metric, MetricOptions } from 'aws-cdk-lib/aws-cloudwatch';
import type { Connections, IConnectable } from 'aws-cdk-lib/aws-ec2';
import { type IGrantable, type IPrincipal, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import { Annotations, CustomResource, Duration, FileSystem, RemovalPolicy, Stack } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import type { ConnectorKind, ConnectorSpec } from '../../shared/connect/spec.ts';
import type { BundleEntry } from '../bundle-entries.ts';
import type { Sink, Source } from '../connectors.ts';
import { refused } from '../problems.ts';
import { allow, getObjects, putObjects, tableAccess } from './access.ts';
import { explainNotifications } from './acknowledged.ts';
import { bundledFunction } from './bundled-function.ts';
import { wakeByMessages, wakeByObjects, warnOfOtherObjects } from './events.ts';
import { type FigureOfLag, type FigureOfRuns, lagMetric, runMetric } from './metrics.ts';
import { type NetworkProps, warnOfMissingEndpoints } from './network.ts';
import type { IPlatform } from './platform-use.ts';
import { waitForSystems } from './readiness.ts';
import { schedule } from './schedule.ts';
import { secretReferences, secretRights } from './secret-access.ts';
import type { ScheduleSpec, Trigger } from './trigger.ts';

/** @internal */
export interface ConnectorProps<Kind extends ConnectorKind> {
  readonly platform: IPlatform;
  /** All of it but the function, which is made here. */
  readonly spec: Omit<ConnectorSpec, 'functionName'> & { readonly kind: Kind };
  /** The systems that its function reaches, with their configs. */
  readonly systems: readonly (Source | Sink)[];
  readonly entry: BundleEntry;
  readonly trigger: Trigger;
  readonly network: NetworkProps;
  /** Whether a problem that its check finds fails the deploy. */
  readonly check: boolean;
  readonly removalPolicy: RemovalPolicy;
  readonly memoryMb: number;
  readonly timeout: Duration;
}

/**
 * A connector: a function of its own with a role of its own, and the row that makes it one. Made by the methods of `Pipeline`.
 * Grant it what its system asks for: `bucket.grantRead(connector)`.
 */
export class Connector<Kind extends ConnectorKind = ConnectorKind>
  extends Construct
  implements IGrantable, IConnectable
{
  readonly kind: Kind;
  /** Unique on its platform; the connector's identity in status, offsets and dead letters. */
  readonly connectorName: string;
  /** The topics it writes. */
  readonly topics: readonly string[];
  readonly platform: IPlatform;
  private readonly readsTopics: boolean;
  readonly function: LambdaFunction;
  readonly grantPrincipal: IPrincipal;

  constructor(scope: Construct, id: string, props: ConnectorProps<Kind>) {
    super(scope, id);
    const { platform, spec } = props;
    const { schedule: when, objects, queue } = props.trigger._parts;
    this.kind = spec.kind;
    this.connectorName = spec.name;
    this.platform = platform;
    this.readsTopics = spec.from !== undefined;
    this.topics = (spec.to ?? []).map(({ name }) => name);
    const directory = platform._use.directoryOf(props.entry);
    this.function = bundledFunction(this, {
      description: `Sluice ${spec.kind} ${spec.name}`,
      directory,
      memoryMb: props.memoryMb,
      timeout: props.timeout,
      environment: {
        ...platform._use.environment,
        SLUICE_CONNECTOR: spec.name,
        // Batches live in large buffers outside of the young generation: a small one keeps the memory of a run down.
        NODE_OPTIONS: '--max-semi-space-size=4',
      },
      logRetention: platform._use.logRetention,
      statements: [...this.access(spec), ...this.systemAccess(props.systems)],
      onFailure: platform._use.coordinator,
      network: props.network,
    });
    this.grantPrincipal = this.function.grantPrincipal;

    const permissions = platform._use.allowInvokeOf(this.function, when !== undefined);
    const row = new CustomResource(this, 'Connector', {
      resourceType: 'Custom::SluiceConnector',
      serviceToken: platform._use.deployFunctionArn,
      serviceTimeout: Duration.minutes(16),
      properties: {
        Spec: Stack.of(this).toJsonString({ ...spec, functionName: this.function.functionName }),
        // New code is a change of the connector: it is checked again, runs of the old code end, and what had failed is tried again.
        Release: FileSystem.fingerprint(directory),
        Check: props.check ? 'required' : 'reported',
        ...(props.removalPolicy === RemovalPolicy.RETAIN ? { Retain: 'true' } : {}),
      },
    });
    this.prepareNetwork(props, row);
    // On removal the row goes first: its function still runs `deleted`, with its role and by these permissions.
    row.node.addDependency(...permissions);
    if (when !== undefined) this.scheduleTasks(when, spec.tasks, row);
    if (queue !== undefined) wakeByMessages(this, this.function, props.timeout, queue, row);
    if (objects === undefined) return;
    wakeByObjects(this, this.function, objects, row);
    explainNotifications(this);
    if (spec.from === undefined) warnOfOtherObjects(this, objects, spec.config);
  }

  /** Its security groups, for systems in its VPC: `sink.connections.allowTo(database, Port.tcp(5432))`. */
  get connections(): Connections {
    if (this.function.isBoundToVpc) return this.function.connections;
    throw refused(
      `${this.node.path} is in no VPC, and so it has no security group to allow connections of: give it vpc`,
    );
  }

  /** How often its function ran. */
  metricInvocations(options?: MetricOptions): IMetric {
    return this.function.metricInvocations(options);
  }

  /** Runs that died: out of memory or time. A run that fails by itself says so in the connector's status, and the platform's alarm rings. */
  metricErrors(options?: MetricOptions): IMetric {
    return this.function.metricErrors(options);
  }

  /** How long its runs took. */
  metricDuration(options?: MetricOptions): IMetric {
    return this.function.metricDuration(options);
  }

  /** Runs that Lambda had no room for. */
  metricThrottles(options?: MetricOptions): IMetric {
    return this.function.metricThrottles(options);
  }

  /** A figure of its runs, from the line that each writes to its log: a custom metric, $0.30 a month, made by the first call. */
  metricOfRuns(figure: FigureOfRuns, options?: MetricOptions): IMetric {
    return runMetric(this, this.function.logGroup, this.connectorName, figure, options);
  }

  /**
   * How far it is behind: who reads topics, every minute in which it is; a source of changes, every ten minutes. A custom metric, $0.30 a
   * month, made by the first call. Without one the platform's alarm rings where half of what an upstream keeps is used.
   */
  metricOfLag(figure: FigureOfLag, options?: MetricOptions): Metric {
    const logs = this.readsTopics ? this.platform._use.coordinatorLogs : this.function.logGroup;
    return lagMetric(this, logs, this.connectorName, figure, options);
  }

  /** What its systems and their secrets ask of its role. */
  private systemAccess(systems: readonly (Source | Sink)[]): readonly PolicyStatement[] {
    const { partition, region, account } = Stack.of(this);
    const rights = systems.flatMap(
      ({ access, schema, config }) => access?.(schema.parse(config), { partition, region, account }) ?? [],
    );
    return [
      ...rights.map(
        ({ actions, resources, conditions = {} }) =>
          new PolicyStatement({ actions: [...actions], resources: [...resources], conditions }),
      ),
      ...secretRights(this, secretReferences(systems.map(({ config }) => config))),
    ];
  }

  private prepareNetwork({ network, systems }: ConnectorProps<Kind>, row: Construct): void {
    const configs = systems.map(({ config }) => config);
    const securityGroups = network.vpc === undefined ? [] : this.connections.securityGroups;
    // Its own security group lets it reach everything, so `allowTo` has nothing to add to it but to the other side.
    if (network.securityGroups === undefined)
      Annotations.of(this).acknowledgeWarning('@aws-cdk/aws-ec2:ipv4IgnoreEgressRule', 'it may reach everything');
    waitForSystems(row, configs, network, securityGroups);
    warnOfMissingEndpoints(
      this,
      network,
      secretReferences(configs).map(({ service }) => service),
    );
  }

  private access({ name, from = [], errors }: ConnectorProps<Kind>['spec']): readonly PolicyStatement[] {
    const { platform } = this;
    const { table, bucket } = platform;
    const { graph, coordinator } = platform._use;
    const letters = errors.deadLetterTopic === undefined ? [] : [errors.deadLetterTopic];
    const writes = [...this.topics, ...letters];
    const statements = [
      ...tableAccess(table, { connector: name, reads: from, writes }),
      // Lambda tells the coordinator of a run that died, in the name of the function's role.
      allow(['lambda:InvokeFunction'], [coordinator.functionArn]),
    ];
    if (writes.length > 0) statements.push(putObjects(bucket, name));
    for (const topic of writes) graph.addWriter(topic, name);
    if (from.length > 0) statements.push(this.readObjects(from));
    return statements;
  }

  /** The objects of those who write the topics it reads, those that are added after it too. */
  private readObjects(topics: readonly string[]): PolicyStatement {
    const { bucket } = this.platform;
    const { graph } = this.platform._use;
    const statement = getObjects(bucket, []);
    const known = new Set<string>();
    const onWriter = (writer: string) => {
      if (!known.has(writer)) statement.addResources(...getObjects(bucket, [writer]).resources);
      known.add(writer);
    };
    for (const topic of topics) graph.addReader(topic, this.node.path, onWriter);
    return statement;
  }

  private scheduleTasks(when: ScheduleSpec, tasks: number, row: Construct): void {
    for (let task = 0; task < tasks; task++) {
      const input = { connector: this.connectorName, task, reason: 'schedule' };
      const role = this.platform._use.schedulerRole;
      const one = schedule(this, `Task${task}`, { target: this.function, when, input, role });
      // Not before there is a row to run by, and gone before the row.
      one.node.addDependency(row);
    }
  }
}

export type SourceNode = Connector<'source'>;
export type SinkNode = Connector<'sink'>;
export type ProcessorNode = Connector<'processor'>;
export type DirectNode = Connector<'direct'>;

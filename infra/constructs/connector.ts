import type { IGrantable, IPrincipal, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import { CustomResource, Duration, Stack } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import type { ConnectorKind, ConnectorSpec } from '../../shared/connect/spec.ts';
import type { BundleEntry } from '../bundle-entries.ts';
import { getObjects, putObjects, tableAccess } from './access.ts';
import { bundledFunction } from './bundled-function.ts';
import type { Platform } from './platform.ts';
import type { Trigger } from './trigger.ts';

/** @internal */
export interface ConnectorProps<Kind extends ConnectorKind> {
  readonly platform: Platform;
  /** All of it but the function, which is made here. */
  readonly spec: Omit<ConnectorSpec, 'functionName'> & { readonly kind: Kind };
  readonly entry: BundleEntry;
  readonly trigger: Trigger;
  readonly memoryMb: number;
  readonly timeout: Duration;
}

/**
 * A connector: a function of its own with a role of its own, and the row that makes it one. Made by the methods of `Pipeline`.
 * Grant it what its system asks for: `bucket.grantRead(connector)`.
 */
export class Connector<Kind extends ConnectorKind = ConnectorKind> extends Construct implements IGrantable {
  readonly kind: Kind;
  /** Unique on its platform; the connector's identity in status, offsets and dead letters. */
  readonly connectorName: string;
  /** The topics it writes. */
  readonly topics: readonly string[];
  readonly platform: Platform;
  readonly function: LambdaFunction;
  readonly grantPrincipal: IPrincipal;

  constructor(scope: Construct, id: string, props: ConnectorProps<Kind>) {
    super(scope, id);
    const { platform, spec, trigger } = props;
    this.kind = spec.kind;
    this.connectorName = spec.name;
    this.platform = platform;
    this.topics = (spec.to ?? []).map(({ name }) => name);
    this.function = bundledFunction(this, {
      description: `Sluice ${spec.kind} ${spec.name}`,
      directory: platform._directoryOf(props.entry),
      memoryMb: props.memoryMb,
      timeout: props.timeout,
      environment: {
        ...platform._environment,
        SLUICE_CONNECTOR: spec.name,
        // Batches live in large buffers outside of the young generation: a small one keeps the memory of a run down.
        NODE_OPTIONS: '--max-semi-space-size=4',
      },
      logRetention: platform._logRetention,
      statements: this.access(spec),
    });
    this.grantPrincipal = this.function.grantPrincipal;

    const permissions = platform._allowInvokeOf(this.function, trigger.interval !== undefined);
    const row = new CustomResource(this, 'Connector', {
      resourceType: 'Custom::SluiceConnector',
      serviceToken: platform.deployFunction.functionArn,
      serviceTimeout: Duration.minutes(6),
      properties: { Spec: Stack.of(this).toJsonString({ ...spec, functionName: this.function.functionName }) },
    });
    // On removal the row goes first: its function still runs `deleted`, with its role and by these permissions.
    row.node.addDependency(...permissions);
    if (trigger.interval !== undefined) this.scheduleTasks(trigger.interval, spec.tasks, row);
  }

  private access({ name, from = [], errors }: ConnectorProps<Kind>['spec']): readonly PolicyStatement[] {
    const { platform } = this;
    const { table, bucket, _graph: graph } = platform;
    const letters = errors.deadLetterTopic === undefined ? [] : [errors.deadLetterTopic];
    const writes = [...this.topics, ...letters];
    const statements = [...tableAccess(table, { connector: name, reads: from, writes })];
    if (writes.length > 0) statements.push(putObjects(bucket, name));
    for (const topic of writes) graph.addWriter(topic, name);
    if (from.length > 0) statements.push(this.readObjects(from));
    return statements;
  }

  /** The objects of those who write the topics it reads, those that are added after it too. */
  private readObjects(topics: readonly string[]): PolicyStatement {
    const { _graph: graph, bucket } = this.platform;
    const statement = getObjects(bucket, []);
    const known = new Set<string>();
    const onWriter = (writer: string) => {
      if (!known.has(writer)) statement.addResources(...getObjects(bucket, [writer]).resources);
      known.add(writer);
    };
    for (const topic of topics) graph.addReader(topic, this.node.path, onWriter);
    return statement;
  }

  private scheduleTasks(interval: Duration, tasks: number, row: Construct): void {
    for (let task = 0; task < tasks; task++) {
      const input = { connector: this.connectorName, task, reason: 'schedule' };
      const schedule = this.platform._schedule(this.function, `Task${task}`, interval, input);
      // Not before there is a row to run by, and gone before the row.
      schedule.node.addDependency(row);
    }
  }
}

export type SourceNode = Connector<'source'>;
export type SinkNode = Connector<'sink'>;
export type ProcessorNode = Connector<'processor'>;
export type DirectNode = Connector<'direct'>;

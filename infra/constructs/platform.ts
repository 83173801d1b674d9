import { AttributeType, Billing, ProjectionType, StreamViewType, TableV2 } from 'aws-cdk-lib/aws-dynamodb';
import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import {
  EventSourceMapping,
  FilterCriteria,
  FilterRule,
  type Function as LambdaFunction,
  StartingPosition,
} from 'aws-cdk-lib/aws-lambda';
import { RetentionDays } from 'aws-cdk-lib/aws-logs';
import { BlockPublicAccess, Bucket } from 'aws-cdk-lib/aws-s3';
import { Duration, RemovalPolicy, Stack } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import { bundleSync } from '../bundle.ts';
import { type BundleEntry, platformEntries } from '../bundle-entries.ts';
import { topicGraph } from '../topic-graph.ts';
import { allow, deleteItems, readItems, writeItems } from './access.ts';
import { bundledFunction } from './bundled-function.ts';
import { grantInvoke, schedule } from './schedule.ts';

export interface PlatformProps {
  /**
   * What becomes of the table and the bucket when they leave the stack. DESTROY also empties the bucket.
   *
   * @default - RemovalPolicy.RETAIN: they hold offsets and data
   */
  readonly removalPolicy?: RemovalPolicy;

  /**
   * How long new records are gathered before the connectors that read them are woken.
   *
   * @default - one second
   */
  readonly dispatchWindow?: Duration;

  /**
   * Memory of the platform's own functions.
   *
   * @default - 256
   */
  readonly memoryMb?: number;

  /**
   * How long the functions' logs are kept.
   *
   * @default - one month
   */
  readonly logRetention?: RetentionDays;

  /**
   * Gives the directory of a function's bundle.
   *
   * @default - it is built by esbuild, once until an input changes
   */
  readonly bundle?: (entry: BundleEntry) => string;
}

/** Objects outlive their segments by this much, so that a slow clock or reader never meets a segment without its body. */
const objectMarginDays = 7;
const defaultRetentionDays = 7;

/**
 * What the connectors of pipelines share: the table of state and log, the bucket of segment bodies, and the three functions that wake,
 * sweep and deploy connectors. The table's name is the deployment's identity: destinations that own offsets know it by that.
 */
export class Platform extends Construct {
  readonly table: TableV2;
  readonly bucket: Bucket;
  /** Makes, updates and removes connectors: the service token of `Custom::SluiceConnector`. */
  readonly deployFunction: LambdaFunction;
  readonly dispatcher: LambdaFunction;
  readonly coordinator: LambdaFunction;
  /** @internal */
  readonly _graph = topicGraph();
  /** @internal */
  readonly _logRetention: RetentionDays;
  private readonly bundle: (entry: BundleEntry) => string;
  private readonly schedulerRole: Role;
  private readonly retentionClasses = new Set<number>();

  constructor(scope: Construct, id: string, props: PlatformProps = {}) {
    super(scope, id);
    const removalPolicy = props.removalPolicy ?? RemovalPolicy.RETAIN;
    this._logRetention = props.logRetention ?? RetentionDays.ONE_MONTH;
    this.bundle = props.bundle ?? ((entry) => bundleSync([entry])[0]!.directory);
    // Together, because a build that is not in the cache starts a process.
    if (props.bundle === undefined) bundleSync(Object.values(platformEntries));
    this.table = this.createTable(removalPolicy);
    this.bucket = new Bucket(this, 'Objects', {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      enforceSSL: true,
      removalPolicy,
      autoDeleteObjects: removalPolicy === RemovalPolicy.DESTROY,
    });
    this._keepObjects(Duration.days(defaultRetentionDays));
    this.schedulerRole = new Role(this, 'SchedulerRole', {
      assumedBy: new ServicePrincipal('scheduler.amazonaws.com', {
        conditions: { StringEquals: { 'aws:SourceAccount': Stack.of(this).account } },
      }),
    });

    const memoryMb = props.memoryMb ?? 256;
    const { tableArn } = this.table;
    const index = `${tableArn}/index/*`;
    this.dispatcher = this.createFunction('Dispatcher', memoryMb, Duration.minutes(1), [
      allow(readItems, [tableArn]),
      allow(
        ['dynamodb:DescribeStream', 'dynamodb:GetRecords', 'dynamodb:GetShardIterator'],
        [this.table.tableStreamArn!],
      ),
      // It has no resource to name; a mapping can't be made without it.
      allow(['dynamodb:ListStreams'], ['*']),
    ]);
    this.coordinator = this.createFunction('Coordinator', memoryMb, Duration.minutes(1), [
      allow([...readItems, ...writeItems], [tableArn]),
      allow(['dynamodb:Query'], [index]),
    ]);
    this.deployFunction = this.createFunction('Deploy', memoryMb, Duration.minutes(5), [
      allow([...readItems, ...writeItems, ...deleteItems], [tableArn]),
    ]);
    this.followStream(props.dispatchWindow ?? Duration.seconds(1));
    this._schedule(this.coordinator, 'Sweep', Duration.minutes(1), { reason: 'sweep' });
    grantInvoke(this.coordinator, { Scheduler: this.schedulerRole });
    this.node.addValidation({ validate: () => [...this._graph.problems()] });
  }

  /** What every function of the platform is told. @internal */
  get _environment(): { readonly [name: string]: string } {
    return { SLUICE_TABLE: this.table.tableName, SLUICE_OBJECTS: `s3://${this.bucket.bucketName}` };
  }

  /** @internal */
  _directoryOf(entry: BundleEntry): string {
    return this.bundle(entry);
  }

  /**
   * Lets the platform invoke a connector's function. By the function's own policy, not by the roles': a role's policies are limited to
   * 10,240 characters together, and a stack with pipelines may need the platform's stack, never the other way round.
   *
   * @internal
   */
  _allowInvokeOf(connector: LambdaFunction, isScheduled: boolean): readonly Construct[] {
    return grantInvoke(connector, {
      Dispatcher: this.dispatcher.role!,
      Coordinator: this.coordinator.role!,
      Deploy: this.deployFunction.role!,
      ...(isScheduled ? { Scheduler: this.schedulerRole } : {}),
    });
  }

  /** @internal */
  _schedule(target: LambdaFunction, id: string, interval: Duration, input: object): Construct {
    return schedule(target.node.scope!, id, { target, interval, input, role: this.schedulerRole });
  }

  /** Objects that hold records of this retention expire after it. @internal */
  _keepObjects(retention: Duration): void {
    const days = Math.ceil(retention.toDays({ integral: false })) + objectMarginDays;
    if (this.retentionClasses.has(days)) return;
    this.retentionClasses.add(days);
    this.bucket.addLifecycleRule({ id: `r${days}`, prefix: `r${days}/`, expiration: Duration.days(days) });
  }

  private createTable(removalPolicy: RemovalPolicy): TableV2 {
    return new TableV2(this, 'Table', {
      partitionKey: { name: 'pk', type: AttributeType.STRING },
      sortKey: { name: 'sk', type: AttributeType.STRING },
      billing: Billing.onDemand(),
      dynamoStream: StreamViewType.KEYS_ONLY,
      timeToLiveAttribute: 'expires',
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      globalSecondaryIndexes: [
        {
          indexName: 'kinds',
          partitionKey: { name: 'kind', type: AttributeType.STRING },
          sortKey: { name: 'name', type: AttributeType.STRING },
          projectionType: ProjectionType.KEYS_ONLY,
        },
      ],
      removalPolicy,
    });
  }

  private createFunction(
    id: 'Dispatcher' | 'Coordinator' | 'Deploy',
    memoryMb: number,
    timeout: Duration,
    statements: Parameters<typeof bundledFunction>[1]['statements'],
  ): LambdaFunction {
    return bundledFunction(new Construct(this, id), {
      description: `Sluice ${id.toLowerCase()}`,
      directory: this._directoryOf(platformEntries[id.toLowerCase() as keyof typeof platformEntries]),
      memoryMb,
      timeout,
      environment: this._environment,
      logRetention: this._logRetention,
      statements,
    });
  }

  /** New segments and WAKE rows go to the dispatcher. What it can't deliver is given up soon: the sweep finds it. */
  private followStream(window: Duration): void {
    new EventSourceMapping(this.dispatcher, 'Stream', {
      target: this.dispatcher,
      eventSourceArn: this.table.tableStreamArn!,
      startingPosition: StartingPosition.TRIM_HORIZON,
      batchSize: 1000,
      maxBatchingWindow: window,
      bisectBatchOnError: true,
      reportBatchItemFailures: true,
      retryAttempts: 2,
      maxRecordAge: Duration.hours(1),
      filters: [
        FilterCriteria.filter({
          eventName: FilterRule.isEqual('INSERT'),
          dynamodb: { Keys: { pk: { S: FilterRule.beginsWith('log#') }, sk: { S: FilterRule.beginsWith('0') } } },
        }),
        FilterCriteria.filter({
          eventName: FilterRule.or('INSERT', 'MODIFY'),
          dynamodb: { Keys: { sk: { S: FilterRule.beginsWith('WAKE#') } } },
        }),
      ],
    });
  }
}

import { Alarm, type IAlarmAction, type IMetric, type MetricOptions } from 'aws-cdk-lib/aws-cloudwatch';
import type { ITableV2 } from 'aws-cdk-lib/aws-dynamodb';
import { type PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import {
  EventSourceMapping,
  FilterCriteria,
  FilterRule,
  type Function as LambdaFunction,
  StartingPosition,
} from 'aws-cdk-lib/aws-lambda';
import { RetentionDays } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Duration, RemovalPolicy, Stack, Stage } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import { bundleSync } from '../bundle.ts';
import { type BundleEntry, platformEntries } from '../bundle-entries.ts';
import { requireNoProblems } from '../problems.ts';
import { allow, deleteItems, readItems, writeItems } from './access.ts';
import { bundledFunction } from './bundled-function.ts';
import { requireCli } from './cli-version.ts';
import { adoptData, createData, type RetainedData } from './platform-data.ts';
import { readParameters, requirePlatformName, writeParameters } from './platform-parameters.ts';
import {
  bundled,
  environmentOf,
  type IPlatform,
  type PlatformParts,
  type PlatformUse,
  platformUse,
} from './platform-use.ts';
import { countResources } from './resource-count.ts';
import { grantInvoke, schedule } from './schedule.ts';

/** What pipelines of an app may settle for themselves, wherever their platform is. */
export interface FoundPlatformProps {
  /**
   * How much longer than its topic's retention a record is kept that a reader has not read yet. An alarm tells at half of it.
   *
   * @default - 30 days
   */
  readonly unreadCap?: Duration;

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

export interface PlatformProps extends FoundPlatformProps {
  /**
   * Tells it from other platforms of the account and region; `Platform.fromName` finds it by this.
   *
   * @default - default
   */
  readonly name?: string;

  /**
   * Table and bucket of an earlier platform, with its offsets and data.
   *
   * @default - new ones
   */
  readonly adopt?: RetainedData;

  /**
   * What is done when connectors need somebody: one has failed for good or falls too far behind, or nobody looks after them any more.
   *
   * @default - nothing: the alarm is only shown
   */
  readonly alarmActions?: readonly IAlarmAction[];

  /**
   * What becomes of the table and the bucket when they leave the stack. DESTROY also empties the bucket.
   *
   * @default - RemovalPolicy.RETAIN: they hold offsets and data
   */
  readonly removalPolicy?: RemovalPolicy;

  /**
   * How long new records are gathered before the connectors that read them are woken.
   *
   * @default - not at all: latency first. A second of it saves invocations where many small batches are written
   */
  readonly dispatchWindow?: Duration;

  /**
   * Memory of the platform's own functions.
   *
   * @default - 256
   */
  readonly memoryMb?: number;
}

const settled = ({ bundle = bundled, logRetention = RetentionDays.ONE_MONTH, unreadCap }: FoundPlatformProps) => ({
  bundle,
  logRetention,
  unreadCap,
});

/**
 * What the connectors of pipelines share: the table of state and log, the bucket of segment bodies, and the three functions that wake,
 * sweep and deploy connectors. The table's name is the deployment's identity: destinations that own offsets know it by that.
 */
export class Platform extends Construct implements IPlatform {
  /** A platform of another stack or app, in the same account and region, by its `name`. Nothing is looked up at synth. */
  static fromName(scope: Construct, id: string, name: string, props: FoundPlatformProps = {}): IPlatform {
    requireCli();
    const found = new Construct(scope, id);
    requirePlatformName(found.node.path, name);
    const use = platformUse({ ...readParameters(found, name), ...settled(props) });
    const { table, bucket, graph } = use;
    found.node.addValidation({ validate: () => [...graph.problems()] });
    return { table, bucket, _use: use };
  }

  readonly platformName: string;
  readonly table: ITableV2;
  readonly bucket: IBucket;
  /** Makes, updates and removes connectors: the service token of `Custom::SluiceConnector`. */
  readonly deployFunction: LambdaFunction;
  readonly dispatcher: LambdaFunction;
  readonly coordinator: LambdaFunction;
  /** Rings while connectors need somebody. */
  readonly alarm: Alarm;
  /** @internal */
  readonly _use: PlatformUse;

  constructor(scope: Construct, id: string, props: PlatformProps = {}) {
    super(scope, id);
    requireCli();
    this.platformName = props.name ?? 'default';
    requirePlatformName(this.node.path, this.platformName);
    this.requireOnlyOne();
    // Together, because a build that is not in the cache starts a process.
    if (props.bundle === undefined) bundleSync(Object.values(platformEntries));
    const removalPolicy = props.removalPolicy ?? RemovalPolicy.RETAIN;
    const { table, bucket } =
      props.adopt === undefined ? createData(this, removalPolicy) : adoptData(this, props.adopt);
    this.table = table;
    this.bucket = bucket;
    const Scheduler = new Role(this, 'SchedulerRole', {
      assumedBy: new ServicePrincipal('scheduler.amazonaws.com', {
        conditions: { StringEquals: { 'aws:SourceAccount': Stack.of(this).account } },
      }),
    });

    const { tableArn } = table;
    this.dispatcher = this.createFunction('Dispatcher', props, Duration.minutes(1), [
      allow(readItems, [tableArn]),
      allow(['dynamodb:DescribeStream', 'dynamodb:GetRecords', 'dynamodb:GetShardIterator'], [table.tableStreamArn!]),
      // It has no resource to name; a mapping can't be made without it.
      allow(['dynamodb:ListStreams'], ['*']),
    ]);
    this.coordinator = this.createFunction('Coordinator', props, Duration.minutes(1), [
      allow([...readItems, ...writeItems], [tableArn]),
      allow(['dynamodb:Query'], [`${tableArn}/index/*`]),
    ]);
    this.deployFunction = this.createFunction('Deploy', props, Duration.minutes(15), [
      allow([...readItems, ...writeItems, ...deleteItems], [tableArn]),
    ]);
    const parts: PlatformParts = {
      table,
      bucket,
      deployFunctionArn: this.deployFunction.functionArn,
      coordinator: this.coordinator,
      coordinatorLogs: this.coordinator.logGroup,
      roles: {
        Dispatcher: this.dispatcher.role!,
        Coordinator: this.coordinator.role!,
        Deploy: this.deployFunction.role!,
        Scheduler,
      },
      ...settled(props),
    };
    this._use = platformUse(parts);
    writeParameters(this, this.platformName, parts);
    this.followStream(props.dispatchWindow);
    const sweep = { target: this.coordinator, input: { reason: 'sweep' }, role: Scheduler };
    schedule(this.coordinator.node.scope!, 'Sweep', { ...sweep, when: Duration.minutes(1) });
    grantInvoke(this.coordinator, { Scheduler });
    this.alarm = this.createAlarm(props.alarmActions ?? []);
    this.node.addValidation({ validate: () => [...this._use.graph.problems()] });
    countResources(this, `platform ${this.platformName}`);
  }

  /** Sweeps that found connectors that need somebody: what the alarm looks at. */
  metricErrors(options?: MetricOptions): IMetric {
    return this.coordinator.metricErrors(options);
  }

  /** The parameters of two platforms of one name, account and region would be the same. */
  private requireOnlyOne(): void {
    const place = ({ platformName, node }: Platform) => `${platformName} ${Stack.of(node.scope!).environment}`;
    const same = Stage.of(this)!
      .node.findAll()
      .find((one) => one !== this && one instanceof Platform && place(one) === place(this));
    requireNoProblems(
      this.node.path,
      same === undefined
        ? []
        : [
            {
              path: ['name'],
              message: `${same.node.path} is a platform of the name "${this.platformName}" already: give one of them another name`,
            },
          ],
    );
  }

  private createFunction(
    id: 'Dispatcher' | 'Coordinator' | 'Deploy',
    props: PlatformProps,
    timeout: Duration,
    statements: readonly PolicyStatement[],
  ): LambdaFunction {
    const { bundle, logRetention } = settled(props);
    return bundledFunction(new Construct(this, id), {
      description: `Sluice ${id.toLowerCase()}`,
      directory: bundle(platformEntries[id.toLowerCase() as keyof typeof platformEntries]),
      memoryMb: props.memoryMb ?? 256,
      timeout,
      environment: environmentOf(this),
      logRetention,
      statements,
    });
  }

  /**
   * The coordinator's sweep fails while a connector needs somebody. Three of the five sweeps in the period: one that could not read is
   * no alarm. Without any sweep the state of the alarm is INSUFFICIENT_DATA, which calls the actions, too.
   */
  private createAlarm(actions: readonly IAlarmAction[]): Alarm {
    const alarm = new Alarm(this, 'Alarm', {
      alarmDescription: `Sluice platform ${this.platformName}: connectors need you; the log of the coordinator names them. Insufficient data: nobody sweeps`,
      metric: this.metricErrors({ period: Duration.minutes(5), statistic: 'Sum' }),
      threshold: 3,
      evaluationPeriods: 1,
    });
    alarm.addAlarmAction(...actions);
    alarm.addInsufficientDataAction(...actions);
    return alarm;
  }

  /** New segments and WAKE rows go to the dispatcher. What it can't deliver is given up soon: the sweep finds it. */
  private followStream(window: Duration | undefined): void {
    new EventSourceMapping(this.dispatcher, 'Stream', {
      target: this.dispatcher,
      eventSourceArn: this.table.tableStreamArn!,
      startingPosition: StartingPosition.TRIM_HORIZON,
      batchSize: 1000,
      ...(window === undefined ? {} : { maxBatchingWindow: window }),
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

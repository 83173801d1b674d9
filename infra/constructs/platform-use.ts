import type { ITableV2 } from 'aws-cdk-lib/aws-dynamodb';
import type { IRole } from 'aws-cdk-lib/aws-iam';
import type { IFunction, Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import type { ILogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import type { Duration } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';
import { bundleSync } from '../bundle.ts';
import type { BundleEntry } from '../bundle-entries.ts';
import { topicGraph } from '../topic-graph.ts';
import { grantInvoke } from './schedule.ts';

/** A platform as pipelines see it: one of this app, or one that `Platform.fromName` finds. */
export interface IPlatform {
  readonly table: ITableV2;
  readonly bucket: IBucket;
  /** @internal */
  readonly _use: PlatformUse;
}

/** What connectors take of their platform, and tell it. @internal */
export interface PlatformUse extends Omit<PlatformParts, 'roles' | 'bundle'> {
  readonly graph: ReturnType<typeof topicGraph>;
  readonly schedulerRole: IRole;
  /** What every function of the platform is told. */
  readonly environment: { readonly [name: string]: string };
  /** Where the bundle of a function is, built if it must be. */
  directoryOf(entry: BundleEntry): string;
  /**
   * Lets the platform invoke a connector's function. By the function's own policy, not by the roles': a role's policies are limited
   * to 10,240 characters together, and a stack with pipelines may need the platform's stack, never the other way round.
   */
  allowInvokeOf(connector: LambdaFunction, isScheduled: boolean): readonly Construct[];
}

export interface PlatformParts {
  readonly table: ITableV2;
  readonly bucket: IBucket;
  /** The service token of `Custom::SluiceConnector`. */
  readonly deployFunctionArn: string;
  /** Who may invoke connectors. */
  readonly roles: { readonly [who in 'Dispatcher' | 'Coordinator' | 'Deploy' | 'Scheduler']: IRole };
  /** Is told of runs that died. */
  readonly coordinator: IFunction;
  /** Where the coordinator says how far readers are behind. */
  readonly coordinatorLogs: ILogGroup;
  readonly logRetention: RetentionDays;
  readonly unreadCap: Duration | undefined;
  readonly bundle: (entry: BundleEntry) => string;
}

export const environmentOf = ({
  table,
  bucket,
}: Pick<PlatformParts, 'table' | 'bucket'>): PlatformUse['environment'] => ({
  SLUICE_TABLE: table.tableName,
  SLUICE_OBJECTS: `s3://${bucket.bucketName}`,
});

export const bundled = (entry: BundleEntry): string => bundleSync([entry])[0]!.directory;

export const platformUse = ({ roles, bundle, ...parts }: PlatformParts): PlatformUse => ({
  ...parts,
  graph: topicGraph(),
  schedulerRole: roles.Scheduler,
  environment: environmentOf(parts),
  directoryOf: bundle,
  allowInvokeOf(connector, isScheduled) {
    const { Scheduler, ...always } = roles;
    return grantInvoke(connector, isScheduled ? { ...always, Scheduler } : always);
  },
});

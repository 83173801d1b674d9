import { TableV2 } from 'aws-cdk-lib/aws-dynamodb';
import { Role } from 'aws-cdk-lib/aws-iam';
import { Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import { LogGroup } from 'aws-cdk-lib/aws-logs';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { StringParameter } from 'aws-cdk-lib/aws-ssm';
import { Construct } from 'constructs';
import { namePattern } from '../../shared/connect/name.ts';
import { requireNoProblems } from '../problems.ts';
import { type PlatformParameters, parameterName } from './parameter-name.ts';
import type { PlatformParts } from './platform-use.ts';

/** A platform's name is a part of the names of its parameters. */
export const requirePlatformName = (where: string, name: string): void =>
  requireNoProblems(
    where,
    namePattern.test(name)
      ? []
      : [{ path: ['name'], message: `"${name}" is not a name; use letters, digits, ".", "_" and "-", at most 200` }],
  );

export const writeParameters = (
  scope: Construct,
  name: string,
  { table, bucket, deployFunctionArn, coordinator, coordinatorLogs, roles }: PlatformParts,
): void => {
  const parameters: PlatformParameters = {
    table: table.tableName,
    bucket: bucket.bucketName,
    'deploy-function': deployFunctionArn,
    'coordinator-function': coordinator.functionArn,
    'coordinator-logs': coordinatorLogs.logGroupName,
    'dispatcher-role': roles.Dispatcher.roleArn,
    'coordinator-role': roles.Coordinator.roleArn,
    'deploy-role': roles.Deploy.roleArn,
    'scheduler-role': roles.Scheduler.roleArn,
  };
  const parent = new Construct(scope, 'Parameters');
  for (const [key, stringValue] of Object.entries(parameters))
    new StringParameter(parent, key, {
      parameterName: parameterName(name, key as keyof PlatformParameters),
      stringValue,
    });
};

/** Read by CloudFormation at each deploy: nothing is looked up at synth. */
export const readParameters = (
  scope: Construct,
  name: string,
): Omit<PlatformParts, 'bundle' | 'logRetention' | 'unreadCap'> => {
  const value = (key: keyof PlatformParameters) =>
    StringParameter.valueForStringParameter(scope, parameterName(name, key));
  const role = (key: keyof PlatformParameters) => Role.fromRoleArn(scope, key, value(key), { mutable: false });
  return {
    table: TableV2.fromTableName(scope, 'Table', value('table')),
    bucket: Bucket.fromBucketName(scope, 'Objects', value('bucket')),
    deployFunctionArn: value('deploy-function'),
    coordinator: LambdaFunction.fromFunctionArn(scope, 'Coordinator', value('coordinator-function')),
    coordinatorLogs: LogGroup.fromLogGroupName(scope, 'CoordinatorLogs', value('coordinator-logs')),
    roles: {
      Dispatcher: role('dispatcher-role'),
      Coordinator: role('coordinator-role'),
      Deploy: role('deploy-role'),
      Scheduler: role('scheduler-role'),
    },
  };
};

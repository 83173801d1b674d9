import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { PolicyDocument, type PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Architecture, Code, type IFunction, Function as LambdaFunction, Runtime } from 'aws-cdk-lib/aws-lambda';
import { LogGroup, type RetentionDays } from 'aws-cdk-lib/aws-logs';
import { Annotations, type Duration, RemovalPolicy } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';
import { refused } from '../problems.ts';
import { allow } from './access.ts';
import { explainWildcards } from './acknowledged.ts';
import { joinNetwork, type NetworkProps } from './network.ts';

export interface BundledFunctionProps {
  readonly description: string;
  /** The directory of its bundle: `index.mjs` exports `handler`. */
  readonly directory: string;
  readonly memoryMb: number;
  readonly timeout: Duration;
  readonly environment: { readonly [name: string]: string };
  readonly logRetention: RetentionDays;
  /** What it may do besides writing its own log. */
  readonly statements: readonly PolicyStatement[];
  /** Is told of events that it failed at. `statements` has to allow it to invoke this one. */
  readonly onFailure?: IFunction;
  readonly network?: NetworkProps;
}

/**
 * A function with a role and a log group of its own. The rights stand inside the role, not beside it: whatever needs the function, at
 * its creation or before its removal, then also has its rights.
 */
export const bundledFunction = (scope: Construct, props: BundledFunctionProps): LambdaFunction => {
  const { onFailure, network = {} } = props;
  const logGroup = new LogGroup(scope, 'Logs', {
    retention: props.logRetention,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const writeLogs = allow(['logs:CreateLogStream', 'logs:PutLogEvents'], [logGroup.logGroupArn]);
  const statements = [writeLogs, ...(network.vpc === undefined ? [] : [joinNetwork()]), ...props.statements];
  const role = new Role(scope, 'Role', {
    assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
    inlinePolicies: { Function: new PolicyDocument({ statements }) },
  });
  explainWildcards(role, statements);
  checkSize(scope, props.directory);
  return new LambdaFunction(scope, 'Function', {
    description: props.description,
    code: Code.fromAsset(props.directory),
    handler: 'index.handler',
    runtime: Runtime.NODEJS_24_X,
    architecture: Architecture.ARM_64,
    memorySize: props.memoryMb,
    timeout: props.timeout,
    environment: { ...props.environment },
    role,
    logGroup,
    // A failed run is not repeated by Lambda: its offsets say what is left, and the next trigger or the coordinator takes it up.
    retryAttempts: 0,
    ...network,
    ...(onFailure === undefined ? {} : { onFailure: { bind: () => ({ destination: onFailure.functionArn }) } }),
  });
};

const megabyte = 1024 * 1024;
/** What Lambda takes, unpacked. */
const mostBytes = 250 * megabyte;
/** A start takes longer by about 60 ms for each megabyte of code. */
const muchBytes = 10 * megabyte;

const checkSize = (scope: Construct, directory: string): void => {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  const bytes = files.reduce((sum, file) => sum + statSync(join(directory, file)).size, 0);
  const text = `the bundle of ${scope.node.path} has ${Math.round(bytes / megabyte)} MB`;
  const fix = 'import less in its connector and transforms: a client for one service in place of a whole SDK';
  if (bytes > mostBytes) throw refused(`${text}, and Lambda takes ${mostBytes / megabyte}: ${fix}`);
  if (bytes > muchBytes)
    Annotations.of(scope).addWarningV2('sluice:large-bundle', `${text}, and each cold start loads it: ${fix}`);
};

import { PolicyDocument, type PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Architecture, Code, Function as LambdaFunction, Runtime } from 'aws-cdk-lib/aws-lambda';
import { LogGroup, type RetentionDays } from 'aws-cdk-lib/aws-logs';
import { type Duration, RemovalPolicy } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';
import { allow } from './access.ts';

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
}

/**
 * A function with a role and a log group of its own. The rights stand inside the role, not beside it: whatever needs the function, at
 * its creation or before its removal, then also has its rights.
 */
export const bundledFunction = (scope: Construct, props: BundledFunctionProps): LambdaFunction => {
  const logGroup = new LogGroup(scope, 'Logs', {
    retention: props.logRetention,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const writeLogs = allow(['logs:CreateLogStream', 'logs:PutLogEvents'], [logGroup.logGroupArn]);
  const role = new Role(scope, 'Role', {
    assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
    inlinePolicies: { Function: new PolicyDocument({ statements: [writeLogs, ...props.statements] }) },
  });
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
  });
};

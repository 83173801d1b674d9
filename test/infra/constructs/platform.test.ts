import { Match, Template } from 'aws-cdk-lib/assertions';
import { App, Duration, RemovalPolicy, Stack, Stage } from 'aws-cdk-lib/core';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { fileSink, fileSource } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Platform } from '../../../infra/constructs/platform.ts';
import { Trigger } from '../../../infra/constructs/trigger.ts';
import { compileEventFilter } from '../../../infra/local/event-filter.ts';
import { appProps } from '../../../infra/synth.ts';
import { objectClasses, objectDays } from '../../../shared/connect/retention.ts';
import { kindIndex } from '../../../shared/state/dynamodb/table.ts';
import { configKey, headKey, metaKey, segmentKey, taskKey, wakeKey } from '../../../shared/state/keys.ts';
import type { Key } from '../../../shared/state/table.ts';
import { emptyBundle, messageOf, platformStack } from './stack.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

it('keeps the table and the bucket unless told otherwise', () => {
  const kept = platformStack().template();
  kept.hasResource('AWS::DynamoDB::GlobalTable', { DeletionPolicy: 'Retain', UpdateReplacePolicy: 'Retain' });
  kept.hasResource('AWS::S3::Bucket', { DeletionPolicy: 'Retain' });
  const destroyed = platformStack({ removalPolicy: RemovalPolicy.DESTROY }).template();
  destroyed.hasResource('AWS::DynamoDB::GlobalTable', { DeletionPolicy: 'Delete' });
  destroyed.hasResource('AWS::S3::Bucket', { DeletionPolicy: 'Delete' });
  destroyed.resourceCountIs('Custom::S3AutoDeleteObjects', 1);
});

it('has the table that the state store asks for', () => {
  platformStack()
    .template()
    .hasResourceProperties('AWS::DynamoDB::GlobalTable', {
      BillingMode: 'PAY_PER_REQUEST',
      KeySchema: [
        { AttributeName: 'pk', KeyType: 'HASH' },
        { AttributeName: 'sk', KeyType: 'RANGE' },
      ],
      GlobalSecondaryIndexes: [
        {
          IndexName: kindIndex,
          KeySchema: [
            { AttributeName: 'kind', KeyType: 'HASH' },
            { AttributeName: 'name', KeyType: 'RANGE' },
          ],
          Projection: { ProjectionType: 'KEYS_ONLY' },
        },
      ],
      StreamSpecification: { StreamViewType: 'KEYS_ONLY' },
      TimeToLiveSpecification: { AttributeName: 'expires', Enabled: true },
      Replicas: [Match.objectLike({ PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true } })],
    });
});

it('lets nobody see the objects but by TLS and rights', () => {
  const template = platformStack().template();
  template.hasResourceProperties('AWS::S3::Bucket', {
    PublicAccessBlockConfiguration: {
      BlockPublicAcls: true,
      BlockPublicPolicy: true,
      IgnorePublicAcls: true,
      RestrictPublicBuckets: true,
    },
  });
  template.hasResourceProperties('AWS::S3::BucketPolicy', {
    PolicyDocument: {
      Statement: [Match.objectLike({ Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } })],
    },
  });
});

it('expires the objects of every class that a writer may choose, whoever makes the topic', () => {
  const rules = objectClasses.map((days) => ({
    Id: `r${days}`,
    Prefix: `r${days}/`,
    ExpirationInDays: days,
    Status: 'Enabled',
  }));
  platformStack()
    .template()
    .hasResourceProperties('AWS::S3::Bucket', { LifecycleConfiguration: { Rules: rules } });
  const day = 24 * 3_600_000;
  fc.assert(
    fc.property(
      fc.integer({ min: 60_000, max: 20 * 365 * day }),
      fc.integer({ min: 0, max: 400 * day }),
      (retentionMs, capMs) => {
        const days = objectDays({ retentionMs, capMs });
        expect(objectClasses).toContain(days);
        // A week past all that a segment may point at.
        expect(days * day).toBeGreaterThanOrEqual(retentionMs + capMs + 7 * day);
      },
    ),
  );
});

it('follows new segments and WAKE rows, and nothing else that is written', () => {
  const template = platformStack({ dispatchWindow: Duration.seconds(5) }).template();
  template.hasResourceProperties('AWS::Lambda::EventSourceMapping', {
    BatchSize: 1000,
    BisectBatchOnFunctionError: true,
    FunctionResponseTypes: ['ReportBatchItemFailures'],
    MaximumBatchingWindowInSeconds: 5,
    MaximumRecordAgeInSeconds: 3600,
    MaximumRetryAttempts: 2,
    StartingPosition: 'TRIM_HORIZON',
  });
  const [mapping] = Object.values(template.findResources('AWS::Lambda::EventSourceMapping'));
  const patterns = mapping!.Properties.FilterCriteria.Filters.map(({ Pattern }: { Pattern: string }) => Pattern);
  const passes = compileEventFilter(patterns);
  const event = (eventName: string, { pk, sk }: Key) =>
    passes({ eventName, dynamodb: { Keys: { pk: { S: pk }, sk: { S: sk } } } });
  expect(event('INSERT', segmentKey('orders', 0, 0, 0))).toBe(true);
  expect(event('INSERT', segmentKey('orders', 12, 31, Number.MAX_SAFE_INTEGER))).toBe(true);
  expect(event('REMOVE', segmentKey('orders', 0, 0, 7))).toBe(false);
  expect(event('MODIFY', segmentKey('orders', 0, 0, 7))).toBe(false);
  expect(event('INSERT', wakeKey('orders', 3))).toBe(true);
  expect(event('MODIFY', wakeKey('orders', 3))).toBe(true);
  expect(event('REMOVE', wakeKey('orders', 3))).toBe(false);
  for (const key of [headKey('orders', 0, 0), configKey('0'), taskKey('log', 0), metaKey('orders')])
    expect([event('INSERT', key), event('MODIFY', key)]).toEqual([false, false]);
});

it('sweeps every minute', () => {
  const template = platformStack().template();
  template.hasResourceProperties('AWS::Scheduler::Schedule', {
    ScheduleExpression: 'rate(1 minute)',
    Target: { Arn: { 'Fn::GetAtt': [Match.stringLikeRegexp('PlatformCoordinatorFunction'), 'Arn'] } },
  });
  template.hasResourceProperties('AWS::Lambda::Permission', {
    FunctionName: { 'Fn::GetAtt': [Match.stringLikeRegexp('PlatformCoordinatorFunction'), 'Arn'] },
    Principal: { 'Fn::GetAtt': [Match.stringLikeRegexp('PlatformSchedulerRole'), 'Arn'] },
  });
});

it('gives every function its own role and log group, and the ways to the state', () => {
  const template = platformStack({ memoryMb: 384 }).template();
  const functions = Object.values(template.findResources('AWS::Lambda::Function'));
  expect(functions).toHaveLength(3);
  for (const { Properties } of functions) {
    expect(Properties.Runtime).toBe('nodejs24.x');
    expect(Properties.Architectures).toEqual(['arm64']);
    expect(Properties.MemorySize).toBe(384);
    expect(Object.keys(Properties.Environment.Variables)).toEqual(['SLUICE_TABLE', 'SLUICE_OBJECTS']);
  }
  expect(new Set(functions.map(({ Properties }) => Properties.Role['Fn::GetAtt'][0])).size).toBe(3);
  expect(new Set(functions.map(({ Properties }) => Properties.LoggingConfig.LogGroup.Ref)).size).toBe(3);
  template.allResourcesProperties('AWS::Logs::LogGroup', { RetentionInDays: 30 });
  for (const role of Object.values(template.findResources('AWS::IAM::Role')))
    expect(role.Properties.ManagedPolicyArns).toBeUndefined();
});

it('lets only its own roles invoke a connector, on that function alone', () => {
  const { stack, platform, template: make } = platformStack();
  const pipeline = new Pipeline(stack, 'p', { platform, name: 'p' });
  const orders = pipeline.addSource('orders', {
    connector: fileSource({ path: 'orders.jsonl' }),
    trigger: Trigger.every(Duration.minutes(1)),
  });
  pipeline.addSink('archive', { from: [orders], connector: fileSink({ path: '/archive' }) });
  const template = make();
  const permissions = Object.values(template.findResources('AWS::Lambda::Permission')).map(({ Properties }) => [
    Properties.FunctionName['Fn::GetAtt'][0].replace(/[0-9A-F]{8}$/, ''),
    Properties.Principal['Fn::GetAtt'][0].replace(/[0-9A-F]{8}$/, ''),
  ]);
  expect(permissions.sort()).toEqual(
    [
      ['PlatformCoordinatorFunction', 'PlatformSchedulerRole'],
      ...['pordersFunction', 'parchiveFunction'].flatMap((one) =>
        ['Dispatcher', 'Coordinator', 'Deploy'].map((role) => [one, `Platform${role}Role`]),
      ),
      ['pordersFunction', 'PlatformSchedulerRole'],
    ].sort(),
  );
  // Lambda tells the coordinator of a dead run by the right of the function's role: the only one of its kind.
  const statements = Object.values(template.findResources('AWS::IAM::Role')).flatMap(({ Properties }) =>
    (Properties.Policies ?? []).flatMap(
      (policy: { PolicyDocument: { Statement: { Action: unknown }[] } }) => policy.PolicyDocument.Statement,
    ),
  );
  const toInvoke = statements.filter(({ Action }) => JSON.stringify(Action).includes('lambda:'));
  expect(toInvoke).toHaveLength(2);
  for (const statement of toInvoke)
    expect(statement).toEqual({
      Effect: 'Allow',
      Action: 'lambda:InvokeFunction',
      Resource: { 'Fn::GetAtt': [expect.stringMatching(/^PlatformCoordinatorFunction/), 'Arn'] },
    });
});

it('may stand in a stack of its own, which then needs nothing of the pipelines', () => {
  const { app, stack: platformsStack, platform } = platformStack();
  const stack = new Stack(app, 'Pipelines');
  const pipeline = new Pipeline(stack, 'p', { platform, name: 'p' });
  const orders = pipeline.addSource('orders', {
    connector: fileSource({ path: 'orders.jsonl' }),
    trigger: Trigger.every(Duration.minutes(1)),
  });
  pipeline.addSink('archive', { from: [orders], connector: fileSink({ path: '/archive' }) });
  app.synth();
  expect(stack.dependencies).toEqual([platformsStack]);
  expect(platformsStack.dependencies).toEqual([]);
});

it('is good CloudFormation by the validator of the CDK', () => {
  vi.stubEnv('CDK_VALIDATION', undefined);
  const context = { '@aws-cdk/core:validateAgainstDefaultRules': true, 'sluice:local': true };
  const app = new App({ context });
  const stack = new Stack(app, 'Stack');
  const platform = new Platform(stack, 'Platform', { bundle: emptyBundle });
  const pipeline = new Pipeline(stack, 'p', { platform, name: 'p' });
  const orders = pipeline.addSource('orders', {
    connector: fileSource({ path: 'orders.jsonl' }),
    trigger: Trigger.every(Duration.minutes(1)),
  });
  pipeline.addSink('archive', { from: [orders], connector: fileSink({ path: '/archive' }), deadLetter: true });
  app.synth();
});

describe('a platform of another app', () => {
  const found = () => {
    const app = new App(appProps);
    const stack = new Stack(app, 'Pipelines');
    const platform = Platform.fromName(stack, 'Platform', 'production', { bundle: emptyBundle });
    return { app, stack, platform, pipeline: new Pipeline(stack, 'Shop', { platform, name: 'shop' }) };
  };

  it('is found by the parameters that it writes', () => {
    const made = platformStack({ name: 'production' }).template().findResources('AWS::SSM::Parameter');
    const written = Object.values(made).map(({ Properties }) => Properties.Name);
    const { stack, pipeline } = found();
    const orders = pipeline.addSource('orders', {
      connector: fileSource({ path: 's3://orders/in/', topic: 'orders' }),
      trigger: Trigger.every(Duration.minutes(1)),
    });
    pipeline
      .addSink('lake', { from: [orders], connector: fileSink({ path: 's3://lake/out/' }) })
      .metricOfLag('records');
    const { Parameters } = Template.fromStack(stack).toJSON();
    const read = Object.values(Parameters as Record<string, { Type: string; Default: string }>)
      .filter(({ Type }) => Type === 'AWS::SSM::Parameter::Value<String>')
      .map(({ Default }) => Default)
      .filter((name) => name.startsWith('/sluice/'));
    expect(written.sort()).toEqual(
      [
        'bucket',
        'coordinator-function',
        'coordinator-logs',
        'coordinator-role',
        'deploy-function',
        'deploy-role',
        'dispatcher-role',
        'scheduler-role',
        'table',
      ].map((key) => `/sluice/production/${key}`),
    );
    expect(read.sort()).toEqual(written);
  });

  it('gives its connectors what one of the app would give', () => {
    const { stack, pipeline } = found();
    const source = pipeline.addSource('orders', {
      connector: fileSource({ path: 's3://orders/in/', topic: 'orders' }),
      trigger: Trigger.every(Duration.minutes(1)),
    });
    pipeline.addSink('lake', { from: [source], connector: fileSink({ path: 's3://lake/orders/' }) });
    const template = Template.fromStack(stack);
    const parameter = (key: string) => ({
      Ref: Object.keys(template.findParameters('*', { Default: `/sluice/production/${key}` }))[0],
    });
    for (const { Properties } of Object.values(template.findResources('Custom::SluiceConnector')))
      expect(Properties.ServiceToken).toEqual(parameter('deploy-function'));
    const permissions = Object.values(template.findResources('AWS::Lambda::Permission'));
    const roles = ['coordinator-role', 'deploy-role', 'dispatcher-role'].map(parameter);
    const principals = permissions.map(({ Properties }) => JSON.stringify(Properties.Principal));
    expect(principals.sort()).toEqual(
      [...roles, ...roles, parameter('scheduler-role')].map((one) => JSON.stringify(one)).sort(),
    );
    template.hasResourceProperties('AWS::Scheduler::Schedule', { Target: { RoleArn: parameter('scheduler-role') } });
    template.hasResourceProperties('AWS::Lambda::Function', {
      Environment: { Variables: Match.objectLike({ SLUICE_TABLE: parameter('table') }) },
    });
    // Nothing of the platform's own is made, and nothing is exported.
    expect(template.toJSON().Outputs).toBeUndefined();
    for (const type of [
      'AWS::DynamoDB::GlobalTable',
      'AWS::S3::Bucket',
      'AWS::SSM::Parameter',
      'AWS::CloudWatch::Alarm',
    ])
      template.resourceCountIs(type, 0);
  });

  it('has its topics checked like one of the app', () => {
    const { app, pipeline } = found();
    pipeline.addSink('lake', { from: ['orders'], connector: fileSink({ path: 's3://lake/orders/' }) });
    expect(messageOf(() => app.synth())).toContain('no source or processor writes topic "orders"');
  });

  it('may not be called just anything', () => {
    expect(messageOf(() => platformStack({ name: 'a/b' }))).toContain('Stack/Platform: name: "a/b" is not a name');
    expect(messageOf(() => Platform.fromName(new Stack(), 'P', 'a b'))).toContain('P: name: "a b" is not a name');
  });

  it('is not called as another one of the same account and region', () => {
    const { app, stack } = platformStack();
    const add = (scope: Stack) => new Platform(scope, 'Second', { bundle: emptyBundle });
    expect(messageOf(() => add(stack))).toBe(
      'Stack/Second: name: Stack/Platform is a platform of the name "default" already: give one of them another name',
    );
    expect(messageOf(() => add(new Stack(app, 'Beside')))).toContain('Beside/Second: name: Stack/Platform is');
    add(new Stack(app, 'Elsewhere', { env: { region: 'eu-west-1' } }));
    // A stage is deployed by itself, wherever its credentials say.
    add(new Stack(new Stage(app, 'Test'), 'Stack'));
  });
});

it('writes no export and names no resource but its parameters', () => {
  const { Resources, Outputs } = platformStack().template().toJSON();
  expect(Outputs).toBeUndefined();
  const named: Record<string, string> = {
    'AWS::DynamoDB::GlobalTable': 'TableName',
    'AWS::S3::Bucket': 'BucketName',
    'AWS::Lambda::Function': 'FunctionName',
    'AWS::IAM::Role': 'RoleName',
    'AWS::Logs::LogGroup': 'LogGroupName',
    'AWS::CloudWatch::Alarm': 'AlarmName',
    'AWS::Scheduler::Schedule': 'Name',
  };
  for (const { Type, Properties } of Object.values<{ Type: string; Properties?: object }>(Resources))
    expect(Object.keys(Properties ?? {}), Type).not.toContain(named[Type]);
});

it('takes up the table and the bucket that an earlier one left', () => {
  const tableStreamArn = 'arn:aws:dynamodb:eu-west-1:123456789012:table/Sluice-1/stream/2026-11-21T00:00:00.000';
  const template = platformStack({
    adopt: { tableName: 'Sluice-1', tableStreamArn, bucketName: 'sluice-1' },
  }).template();
  for (const type of ['AWS::DynamoDB::GlobalTable', 'AWS::S3::Bucket']) template.resourceCountIs(type, 0);
  template.hasResourceProperties('AWS::Lambda::EventSourceMapping', { EventSourceArn: tableStreamArn });
  for (const { Properties } of Object.values(template.findResources('AWS::Lambda::Function')))
    expect(Properties.Environment.Variables).toMatchObject({
      SLUICE_TABLE: 'Sluice-1',
      SLUICE_OBJECTS: 's3://sluice-1',
    });
  template.hasResourceProperties('AWS::SSM::Parameter', { Name: '/sluice/default/table', Value: 'Sluice-1' });
  expect(JSON.stringify(template.findResources('AWS::IAM::Role'))).toContain(':table/Sluice-1/index/*');
});

it('rings when sweeps find connectors that need somebody, and when nobody sweeps', () => {
  const plain = platformStack().template();
  plain.resourceCountIs('AWS::CloudWatch::Alarm', 1);
  plain.hasResourceProperties('AWS::CloudWatch::Alarm', {
    Namespace: 'AWS/Lambda',
    MetricName: 'Errors',
    Dimensions: [{ Name: 'FunctionName', Value: { Ref: Match.stringLikeRegexp('^PlatformCoordinatorFunction') } }],
    Statistic: 'Sum',
    Period: 300,
    Threshold: 3,
    ComparisonOperator: 'GreaterThanOrEqualToThreshold',
    EvaluationPeriods: 1,
    AlarmActions: Match.absent(),
    // Missing data is missing: INSUFFICIENT_DATA.
    TreatMissingData: Match.absent(),
  });
  const action = { bind: () => ({ alarmActionArn: 'arn:aws:sns:eu-west-1:123456789012:on-call' }) };
  platformStack({ alarmActions: [action] })
    .template()
    .hasResourceProperties('AWS::CloudWatch::Alarm', {
      AlarmActions: ['arn:aws:sns:eu-west-1:123456789012:on-call'],
      InsufficientDataActions: ['arn:aws:sns:eu-west-1:123456789012:on-call'],
    });
});

it('reserves no concurrency', () => {
  const { stack, platform, template } = platformStack();
  const pipeline = new Pipeline(stack, 'p', { platform, name: 'p' });
  pipeline.addSource('orders', { connector: fileSource({ path: 'orders.jsonl' }), trigger: Trigger.manual() });
  for (const { Properties } of Object.values(template().findResources('AWS::Lambda::Function')))
    expect(Properties.ReservedConcurrentExecutions).toBeUndefined();
});

it('is not made by the CLI that was published by accident', () => {
  vi.stubEnv('CDK_CLI_VERSION', '3.0.0 (build 1234567)');
  const message =
    'this is aws-cdk 3.0.0, which was published by accident and can deploy no app of today: npm install --save-dev aws-cdk@2.1148.1, and run it by npx cdk';
  expect(messageOf(() => platformStack())).toBe(message);
  expect(messageOf(() => Platform.fromName(new Stack(), 'P', 'p'))).toBe(message);
  vi.stubEnv('CDK_CLI_VERSION', '2.1148.1 (build 1234567)');
  platformStack();
});

import { Match } from 'aws-cdk-lib/assertions';
import { App, Duration, RemovalPolicy, Stack } from 'aws-cdk-lib/core';
import { afterEach, expect, it, vi } from 'vitest';
import { fileSink, fileSource } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Platform } from '../../../infra/constructs/platform.ts';
import { Trigger } from '../../../infra/constructs/trigger.ts';
import { compileEventFilter } from '../../../infra/local/event-filter.ts';
import { kindIndex } from '../../../shared/state/dynamodb/table.ts';
import { configKey, headKey, metaKey, segmentKey, taskKey, wakeKey } from '../../../shared/state/keys.ts';
import type { Key } from '../../../shared/state/table.ts';
import { emptyBundle, platformStack } from './stack.ts';

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

it('expires the objects of every retention in use, a week after their segments', () => {
  const { stack, platform, template } = platformStack();
  const pipeline = new Pipeline(stack, 'p', {
    platform,
    name: 'p',
    topics: { long: { retention: Duration.days(30) }, short: { retention: Duration.hours(1) } },
  });
  for (const topic of ['long', 'short', 'usual', 'usual2'])
    pipeline.addSource(topic, { connector: fileSource({ path: `${topic}.jsonl` }), trigger: Trigger.manual() });
  template().hasResourceProperties('AWS::S3::Bucket', {
    LifecycleConfiguration: {
      Rules: [14, 37, 8].map((days) => ({
        Id: `r${days}`,
        Prefix: `r${days}/`,
        ExpirationInDays: days,
        Status: 'Enabled',
      })),
    },
  });
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
  expect(JSON.stringify(template.findResources('AWS::IAM::Role'))).not.toContain('lambda:Invoke');
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
  const app = new App({ context: { '@aws-cdk/core:validateAgainstDefaultRules': true } });
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

import { Annotations, Match, Template } from 'aws-cdk-lib/assertions';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { Queue } from 'aws-cdk-lib/aws-sqs';
import { Duration, Size, Stack } from 'aws-cdk-lib/core';
import { describe, expect, it } from 'vitest';
import { fileSink, fileSource } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Trigger } from '../../../infra/constructs/trigger.ts';
import { messageOf, platformStack } from './stack.ts';

const parts = () => {
  const { app, stack, platform, template } = platformStack();
  const pipeline = new Pipeline(stack, 'Shop', { platform, name: 'shop' });
  const addSource = (trigger: Trigger, path = 's3://inbox/', options = {}) =>
    pipeline.addSource('orders', { connector: fileSource({ path, topic: 'orders' }), trigger, ...options });
  return { app, stack, platform, pipeline, addSource, template };
};

/** What the source's trigger made, and what its row says. */
const templateOf = (trigger: Trigger, options = {}) => {
  const { addSource, template } = parts();
  addSource(trigger, 's3://inbox/', options);
  return template();
};

const schedulesOf = (template: Template) =>
  Object.values(template.findResources('AWS::Scheduler::Schedule'))
    .map(({ Properties }) => Properties)
    .filter(({ Target }) => !JSON.stringify(Target.Input).includes('sweep'));

const specOf = (template: Template, name = 'shop-orders') => {
  const specs = Object.values(template.findResources('Custom::SluiceConnector')).map(({ Properties }) => {
    const parts = Properties.Spec['Fn::Join'][1] as unknown[];
    return JSON.parse(parts.map((part) => (typeof part === 'string' ? part : 'TOKEN')).join(''));
  });
  return specs.find((spec) => spec.name === name);
};

describe('a schedule', () => {
  it.each([
    [Trigger.every(Duration.hours(2)), 'rate(2 hours)', 'UTC'],
    [Trigger.cron('0 2 * * ? *'), 'cron(0 2 * * ? *)', 'UTC'],
    [Trigger.cron('0 2 * * ? *', { timeZone: 'Europe/Berlin' }), 'cron(0 2 * * ? *)', 'Europe/Berlin'],
    [Trigger.cron({ minute: '0', hour: '2' }), 'cron(0 2 * * ? *)', 'UTC'],
    [Trigger.cron({ minute: '0', hour: '8-17', weekDay: 'MON-FRI' }), 'cron(0 8-17 ? * MON-FRI *)', 'UTC'],
  ])('%#', (trigger, expression, timeZone) => {
    const [schedule] = schedulesOf(templateOf(trigger));
    expect(schedule).toMatchObject({ ScheduleExpression: expression, FlexibleTimeWindow: { Mode: 'OFF' } });
    expect(schedule!.ScheduleExpressionTimezone ?? 'UTC').toMatch(new RegExp(`^${timeZone}$|^Etc/UTC$`));
  });

  it('may start its runs at any moment of a window', () => {
    const [schedule] = schedulesOf(templateOf(Trigger.cron('0 2 * * ? *', { window: Duration.minutes(30) })));
    expect(schedule!.FlexibleTimeWindow).toEqual({ Mode: 'FLEXIBLE', MaximumWindowInMinutes: 30 });
  });

  it.each([
    [() => Trigger.every(Duration.seconds(90)), 'trigger: every 90 s is not possible, a schedule has whole minutes'],
    [() => Trigger.cron('0 25 * * ? *'), 'cron "0 25 * * ? *" is not possible: hours is "25"'],
    [() => Trigger.cron({ day: '1', weekDay: 'MON' }), 'exactly one of them is ?'],
    [() => Trigger.cron('0 2 * * ? *', { timeZone: 'CEST' }), 'trigger: there is no time zone "CEST"'],
    [() => Trigger.cron('0 2 * * ? *', { window: Duration.days(2) }), 'a window of 2880 minutes is not possible'],
    [
      () => Trigger.cron('0 2 * * * *', { timeZone: 'CEST', window: Duration.days(2) }),
      /^trigger: cron "0 2 \* \* \* \*" is not possible: .*; there is no time zone "CEST"; .*; a window of 2880 minutes/,
    ],
    [() => Trigger.s3('Bad_Name'), '"Bad_Name" is no name of a bucket'],
    [() => Trigger.sqs('orders'), '"orders" is no ARN of a queue'],
    [
      () => Trigger.backlog({ bytes: Size.bytes(0), atMost: Duration.hours(1) }),
      'a backlog of 0 bytes, at most 3600000 ms, is not possible',
    ],
  ])('that is not possible is refused: %#', (make, message) => {
    expect(messageOf(make)).toMatch(message);
  });
});

describe('objects', () => {
  it('wake the function, which the bucket may invoke, when there is a row to run by; and once an hour besides', () => {
    const { stack, addSource, template: make } = parts();
    const bucket = new Bucket(stack, 'In');
    addSource(Trigger.s3(bucket, { prefix: 'in/', suffix: '.csv' }), `s3://${bucket.bucketName}/in/`, { tasks: 2 });
    const template = make();
    template.hasResource('Custom::S3BucketNotifications', {
      Properties: {
        BucketName: { Ref: Match.stringLikeRegexp('^In') },
        NotificationConfiguration: {
          LambdaFunctionConfigurations: [
            {
              Events: ['s3:ObjectCreated:*'],
              Filter: {
                Key: {
                  FilterRules: [
                    { Name: 'suffix', Value: '.csv' },
                    { Name: 'prefix', Value: 'in/' },
                  ],
                },
              },
              LambdaFunctionArn: {
                'Fn::GetAtt': [Match.stringLikeRegexp('^Shopordersfunction|^ShopordersFunction'), 'Arn'],
              },
            },
          ],
        },
      },
      DependsOn: Match.arrayWith([Match.stringLikeRegexp('^ShopordersConnector')]),
    });
    template.hasResourceProperties('AWS::Lambda::Permission', {
      Action: 'lambda:InvokeFunction',
      Principal: 's3.amazonaws.com',
      SourceArn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^In'), 'Arn'] },
    });
    expect(schedulesOf(template).map(({ ScheduleExpression }) => ScheduleExpression)).toEqual([
      'rate(1 hour)',
      'rate(1 hour)',
    ]);
    expect(specOf(template).trigger).toBe('s3://TOKEN/in/*.csv');
    Annotations.fromStack(stack).hasNoWarning('*', Match.stringLikeRegexp('trigger'));
  });

  it('of a bucket in another stack need nothing of this one there', () => {
    const { app, addSource, template: make } = parts();
    const theirs = new Stack(app, 'Theirs');
    const bucket = new Bucket(theirs, 'In');
    addSource(Trigger.s3(bucket), `s3://${bucket.bucketName}/`);
    make().resourceCountIs('Custom::S3BucketNotifications', 1);
    Template.fromStack(theirs).resourceCountIs('Custom::S3BucketNotifications', 0);
    expect(theirs.dependencies).toEqual([]);
  });

  it('of a bucket that has only a name here', () => {
    templateOf(Trigger.s3('inbox')).hasResourceProperties('Custom::S3BucketNotifications', {
      BucketName: 'inbox',
      Managed: false,
    });
  });

  it.each([
    ['s3://inbox/new/', { prefix: 'new/' }, undefined],
    ['s3://inbox/new/*.csv', { prefix: 'new/', suffix: '.csv' }, undefined],
    ['s3://inbox/new/', { prefix: 'new/2026/' }, undefined],
    ['s3://inbox/', {}, undefined],
    ['s3://inbox/new/', {}, 'objects under "" wake it, but it reads those under "new/"; give prefix: \'new/\''],
    ['s3://inbox/new/2026-*.csv', { prefix: 'old/' }, 'objects under "old/" wake it, but it reads those under "new/"'],
    ['s3://other/', {}, 'it is woken by objects of another bucket than the one it reads, s3://other/'],
  ])('that are not those it reads are told: %s %j', (path, options, warning) => {
    const { stack, addSource } = parts();
    addSource(Trigger.s3('inbox', options), path);
    const found = Annotations.fromStack(stack)
      .findWarning('*', Match.stringLikeRegexp('^trigger'))
      .map(({ entry }) => String(entry.data));
    if (warning === undefined) expect(found).toEqual([]);
    else expect(found).toEqual([expect.stringContaining(warning)]);
  });
});

describe('messages', () => {
  const withQueue = (visibility: number | undefined, options = {}) => {
    const all = parts();
    const queue = new Queue(
      all.stack,
      'Queue',
      visibility === undefined ? {} : { visibilityTimeout: Duration.seconds(visibility) },
    );
    all.addSource(Trigger.sqs(queue), 's3://inbox/', options);
    return all;
  };

  it('wake the function, which may delete them, when there is a row to run by; and once an hour besides', () => {
    const template = withQueue(120).template();
    template.hasResource('AWS::Lambda::EventSourceMapping', {
      Properties: { EventSourceArn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^Queue'), 'Arn'] }, BatchSize: 10 },
      DependsOn: Match.arrayWith([Match.stringLikeRegexp('^ShopordersConnector')]),
    });
    template.hasResourceProperties('AWS::IAM::Policy', {
      PolicyDocument: {
        Statement: Match.arrayWith([
          Match.objectLike({ Action: Match.arrayWith(['sqs:ReceiveMessage', 'sqs:DeleteMessage']) }),
        ]),
      },
    });
    expect(schedulesOf(template)).toMatchObject([{ ScheduleExpression: 'rate(1 hour)' }]);
  });

  it('that would be visible again while the function works on them are refused, with what to change', () => {
    expect(messageOf(() => withQueue(60).template())).toContain(
      'trigger: messages of Stack/Queue are hidden for 60 s, less than the 120 s that a run may take; give the queue visibilityTimeout: Duration.seconds(120) or more, or the connector a shorter timeout',
    );
    expect(messageOf(() => withQueue(undefined).template())).toContain('hidden for 30 s');
    withQueue(undefined, { timeout: Duration.seconds(30) }).template();
  });

  it('of a queue that has only an ARN here', () => {
    const arn = 'arn:aws:sqs:eu-central-1:123456789012:orders';
    templateOf(Trigger.sqs(arn)).hasResourceProperties('AWS::Lambda::EventSourceMapping', { EventSourceArn: arn });
  });
});

it('runs that never end are started by a schedule that finds them running', () => {
  const template = templateOf(Trigger.continuous(), { tasks: 2 });
  expect(schedulesOf(template)).toMatchObject([
    { ScheduleExpression: 'rate(1 minute)' },
    { ScheduleExpression: 'rate(1 minute)' },
  ]);
  expect(specOf(template)).toMatchObject({ trigger: 'continuous', continuous: true });
});

it('a backlog is a matter of the row; only a reader of the log has one', () => {
  const { pipeline, addSource, template } = parts();
  const backlog = Trigger.backlog({ bytes: Size.mebibytes(64), atMost: Duration.hours(1) });
  expect(messageOf(() => addSource(backlog))).toContain('trigger: there is no topic to wait for');
  const orders = addSource(Trigger.manual());
  pipeline.addSink('lake', { from: [orders], connector: fileSink({ path: 's3://lake/' }), trigger: backlog });
  const made = template();
  expect(schedulesOf(made)).toEqual([]);
  expect(specOf(made, 'shop-lake')).toMatchObject({
    trigger: 'backlog of 67108864 bytes or 3600 s',
    backlog: { bytes: 67_108_864, atMostMs: 3_600_000 },
  });
});

it('the coordinator is told of a run that died', () => {
  templateOf(Trigger.manual()).hasResourceProperties('AWS::Lambda::EventInvokeConfig', {
    MaximumRetryAttempts: 0,
    DestinationConfig: {
      OnFailure: { Destination: { 'Fn::GetAtt': [Match.stringLikeRegexp('^PlatformCoordinator'), 'Arn'] } },
    },
  });
});

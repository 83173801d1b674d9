import { mkdirSync, mkdtempSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Annotations, Match } from 'aws-cdk-lib/assertions';
import { Vpc } from 'aws-cdk-lib/aws-ec2';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { Queue } from 'aws-cdk-lib/aws-sqs';
import { App, CfnWaitConditionHandle, Duration, RemovalPolicy, Size, Stack } from 'aws-cdk-lib/core';
import { AwsSolutionsChecks } from 'cdk-nag';
import { describe, expect, it } from 'vitest';
import { fileSink, fileSource, postgresCdcSource, postgresSink } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Platform } from '../../../infra/constructs/platform.ts';
import { Trigger } from '../../../infra/constructs/trigger.ts';
import { appProps } from '../../../infra/synth.ts';
import { deployed, emptyBundle, messageOf, platformStack } from './stack.ts';

const manual = { trigger: Trigger.manual() };
const onS3 = (topic = 'orders') => fileSource({ path: 's3://orders/in/', topic });

const deployedPipeline = (props: ConstructorParameters<typeof Platform>[2] = {}, more: object = {}) => {
  const made = platformStack(props, deployed);
  return { ...made, pipeline: new Pipeline(made.stack, 'Shop', { platform: made.platform, name: 'shop', ...more }) };
};

const statementsOf = (template: ReturnType<ReturnType<typeof platformStack>['template']>, role: string) => {
  const [one] = Object.entries(template.findResources('AWS::IAM::Role')).filter(([id]) => id.startsWith(role));
  return one![1].Properties.Policies[0].PolicyDocument.Statement as {
    Action: string | string[];
    Resource: unknown;
    Condition?: unknown;
  }[];
};

describe('a path on this machine', () => {
  it('is refused where the app is deployed, every one at once', () => {
    const { pipeline } = deployedPipeline();
    const add = () =>
      pipeline.addDirect('copy', {
        source: fileSource({ path: '/data/orders.csv' }),
        sink: fileSink({ path: '/archive' }),
        ...manual,
      });
    expect(messageOf(add)).toBe(
      'Stack/Shop/copy: source.path: /data/orders.csv is on this machine, where a deployed function is not; use s3://bucket/prefix/, or run it here by `sluice run`; ' +
        'sink.path: /archive is on this machine, where a deployed function is not; use s3://bucket/prefix/, or run it here by `sluice run`',
    );
  });

  it('is what the local host has', () => {
    const { stack, platform } = platformStack();
    const pipeline = new Pipeline(stack, 'Shop', { platform, name: 'shop' });
    pipeline.addSource('orders', { connector: fileSource({ path: '/data/orders.csv' }), ...manual });
  });

  it('is not what stands for one that is known later', () => {
    const { stack, pipeline } = deployedPipeline();
    const bucket = new Bucket(stack, 'Bucket');
    pipeline.addSource('a', {
      connector: fileSource({ path: `s3://${bucket.bucketName}/in/`, topic: 'a' }),
      ...manual,
    });
    pipeline.addSource('b', { connector: fileSource({ path: '${env:PLACE}', topic: 'b' }), ...manual });
  });
});

describe('the role of a connector', () => {
  it('may read the objects that it is told to read, and write those that it is told to write', () => {
    const { stack, pipeline, template: make } = deployedPipeline();
    const bucket = new Bucket(stack, 'Bucket');
    pipeline.addSource('in', {
      connector: fileSource({ path: `s3://${bucket.bucketName}/in/*.csv`, topic: 'orders' }),
      ...manual,
    });
    pipeline.addSink('out', { from: ['orders'], connector: fileSink({ path: 's3://lake/out/' }) });
    const template = make();
    const [bucketId] = Object.keys(template.findResources('AWS::S3::Bucket')).filter((id) => id.startsWith('Bucket'));
    const arn = (bucketName: unknown, key = '') => {
      const parts = ['arn:', { Ref: 'AWS::Partition' }, ':s3:::', bucketName, key].filter((part) => part !== '');
      return {
        'Fn::Join': ['', typeof bucketName === 'string' ? [...parts.slice(0, 2), `:s3:::${bucketName}${key}`] : parts],
      };
    };
    expect(statementsOf(template, 'ShopinRole')).toEqual(
      expect.arrayContaining([
        { Effect: 'Allow', Action: 's3:GetObject', Resource: arn({ Ref: bucketId }, '/in/*') },
        {
          Effect: 'Allow',
          Action: 's3:ListBucket',
          Resource: arn({ Ref: bucketId }),
          Condition: { 'ForAllValues:StringLike': { 's3:prefix': ['in/*'] } },
        },
      ]),
    );
    expect(statementsOf(template, 'ShopoutRole')).toEqual(
      expect.arrayContaining([
        {
          Effect: 'Allow',
          Action: ['s3:PutObject', 's3:AbortMultipartUpload', 's3:GetObject'],
          Resource: arn('lake', '/out/*'),
        },
        {
          Effect: 'Allow',
          Action: 's3:ListBucket',
          Resource: arn('lake'),
          Condition: { 'ForAllValues:StringLike': { 's3:prefix': ['out/*'] } },
        },
        { Effect: 'Allow', Action: 's3:ListBucketMultipartUploads', Resource: arn('lake') },
      ]),
    );
  });

  it('may log in to RDS as its user, where it logs in by its role', () => {
    const { pipeline, template: make } = deployedPipeline();
    const address = { host: 'db', database: 'shop', user: 'sluice' };
    pipeline.addSource('orders', { connector: onS3(), ...manual });
    pipeline.addSink('byrole', { from: ['orders'], connector: postgresSink({ ...address, auth: 'iam' }) });
    pipeline.addSink('bypassword', { from: ['orders'], connector: postgresSink({ ...address, password: '${env:P}' }) });
    const template = make();
    const login = (role: string) => statementsOf(template, role).filter(({ Action }) => Action === 'rds-db:connect');
    expect(login('ShopbyroleRole')).toEqual([
      {
        Effect: 'Allow',
        Action: 'rds-db:connect',
        Resource: {
          'Fn::Join': [
            '',
            [
              'arn:',
              { Ref: 'AWS::Partition' },
              ':rds-db:',
              { Ref: 'AWS::Region' },
              ':',
              { Ref: 'AWS::AccountId' },
              ':dbuser:*/sluice',
            ],
          ],
        },
      },
    ]);
    expect(login('ShopbypasswordRole')).toEqual([]);
  });

  it('is given no right to what only the function will know', () => {
    const { pipeline, template: make } = deployedPipeline();
    pipeline.addSource('orders', {
      connector: fileSource({ path: 's3://${env:BUCKET}/in/', topic: 'orders' }),
      ...manual,
    });
    const statements = statementsOf(make(), 'ShopordersRole');
    expect(JSON.stringify(statements)).not.toContain('env:BUCKET');
    expect(statements.map(({ Action }) => Action)).not.toContain('s3:ListBucket');
  });
});

describe('the row of a connector', () => {
  const rowOf = (template: ReturnType<ReturnType<typeof platformStack>['template']>) =>
    Object.values(template.findResources('Custom::SluiceConnector'))[0]!.Properties;

  it('fails the deploy where its check finds a problem, unless it is told not to', () => {
    const strict = deployedPipeline();
    strict.pipeline.addSource('orders', { connector: onS3(), ...manual });
    expect(rowOf(strict.template())).toMatchObject({ Check: 'required', ServiceTimeout: '960' });
    const lenient = deployedPipeline();
    lenient.pipeline.addSource('orders', { connector: onS3(), check: false, ...manual });
    expect(rowOf(lenient.template()).Check).toBe('reported');
    const { stack, platform, template } = platformStack();
    new Pipeline(stack, 'Shop', { platform, name: 'shop' }).addSource('orders', { connector: onS3(), ...manual });
    expect(rowOf(template()).Check).toBe('reported');
  });

  it('stays with its offsets where the pipeline says so', () => {
    const kept = deployedPipeline({}, { removalPolicy: RemovalPolicy.RETAIN });
    kept.pipeline.addSource('orders', { connector: onS3(), ...manual });
    expect(rowOf(kept.template()).Retain).toBe('true');
    const gone = deployedPipeline();
    gone.pipeline.addSource('orders', { connector: onS3(), ...manual });
    expect(rowOf(gone.template()).Retain).toBeUndefined();
  });

  it('changes with the code of its function, and with nothing else', () => {
    const codes = mkdtempSync(join(tmpdir(), 'sluice-code-'));
    const releasesOf = (code: string, memoryMb: number) => {
      const bundle = (entry: { readonly name: string }) => {
        const directory = emptyBundle({ name: `${code}-${entry.name}` });
        // Another directory with the same content is no new code.
        const place = mkdtempSync(join(codes, 'bundle-'));
        const text = readFileSync(join(directory, 'index.mjs'), 'utf8');
        writeFileSync(join(place, 'index.mjs'), entry.name === 'file-source' ? text : '');
        return place;
      };
      const { pipeline, template: make } = deployedPipeline({ bundle });
      const orders = pipeline.addSource('orders', { connector: onS3(), ...manual, memoryMb });
      pipeline.addSink('lake', { from: [orders], connector: fileSink({ path: 's3://lake/out/' }) });
      const template = make();
      const rows = Object.entries(template.findResources('Custom::SluiceConnector'));
      const [source, sink] = ['Shoporders', 'Shoplake'].map(
        (id) => rows.find(([one]) => one.startsWith(id))![1].Properties,
      );
      // By its name in the spec the row comes after the function: its check is run by the new code.
      expect(JSON.stringify(source!.Spec)).toContain('"Ref":"ShopordersFunction');
      return { source: source!.Release as string, sink: sink!.Release as string };
    };
    const before = releasesOf('old', 512);
    expect(releasesOf('old', 1024)).toEqual(before);
    const after = releasesOf('new', 512);
    expect(after.source).not.toBe(before.source);
    expect(after.sink).toBe(before.sink);
  });

  it('is named alike whatever its construct is called', () => {
    const specOf = (id: string) => {
      const { stack, platform, template } = platformStack({}, deployed);
      const pipeline = new Pipeline(stack, id, { platform, name: 'shop' });
      pipeline.addSource('orders', { connector: onS3(), ...manual });
      return JSON.stringify(rowOf(template()).Spec).replaceAll(id, '');
    };
    expect(specOf('Shop').replace(/Function[0-9A-F]{8}/, '')).toBe(specOf('Store').replace(/Function[0-9A-F]{8}/, ''));
  });
});

describe('metrics', () => {
  it('are those of the function, free of charge', () => {
    const { stack, pipeline, template } = deployedPipeline();
    const orders = pipeline.addSource('orders', { connector: onS3(), ...manual });
    const metrics = [
      orders.metricInvocations(),
      orders.metricErrors(),
      orders.metricDuration(),
      orders.metricThrottles(),
    ].map((metric) => metric.toMetricConfig().metricStat!);
    expect(metrics.map(({ metricName }) => metricName)).toEqual(['Invocations', 'Errors', 'Duration', 'Throttles']);
    for (const { namespace, dimensions } of metrics) {
      expect(namespace).toBe('AWS/Lambda');
      expect(stack.resolve(dimensions)).toEqual([
        { name: 'FunctionName', value: { Ref: expect.stringMatching(/^ShopordersFunction/) } },
      ]);
    }
    template().resourceCountIs('AWS::Logs::MetricFilter', 0);
  });

  it('of runs and of lag are made of log lines when they are asked for, once each', () => {
    const { pipeline, template: make } = deployedPipeline();
    const orders = pipeline.addSource('orders', { connector: onS3(), ...manual });
    const sink = pipeline.addSink('lake', { from: [orders], connector: fileSink({ path: 's3://lake/out/' }) });
    const metric = orders.metricOfRuns('records', { period: Duration.minutes(1) });
    orders.metricOfRuns('records');
    sink.metricOfLag('records');
    expect(metric.toMetricConfig().metricStat).toMatchObject({
      namespace: 'Sluice',
      metricName: 'Records',
      dimensions: [{ name: 'Connector', value: 'shop-orders' }],
      statistic: 'Sum',
      period: Duration.minutes(1),
    });
    const template = make();
    template.resourceCountIs('AWS::Logs::MetricFilter', 2);
    template.hasResourceProperties('AWS::Logs::MetricFilter', {
      LogGroupName: { Ref: Match.stringLikeRegexp('^ShopordersLogs') },
      FilterPattern: '{ ($.message = "run") && ($.connector = "shop-orders") }',
      MetricTransformations: [
        {
          MetricNamespace: 'Sluice',
          MetricName: 'Records',
          MetricValue: '$.records',
          Dimensions: [{ Key: 'Connector', Value: '$.connector' }],
        },
      ],
    });
    template.hasResourceProperties('AWS::Logs::MetricFilter', {
      LogGroupName: { Ref: Match.stringLikeRegexp('^PlatformCoordinatorLogs') },
      FilterPattern: '{ ($.message = "lag") && ($.connector = "shop-lake") }',
      MetricTransformations: [Match.objectLike({ MetricName: 'LagRecords', MetricValue: '$.records' })],
    });
  });
});

describe('the lag of a source of changes', () => {
  const deployed = () => {
    const { stack, pipeline, template } = deployedPipeline();
    const changes = pipeline.addSource('changes', {
      connector: postgresCdcSource({ url: 'postgres://u@h/d', topicPrefix: 'shop', tables: ['public.orders'] }),
      ...manual,
    });
    pipeline.addSource('orders', { connector: onS3(), ...manual });
    return { stack, changes, template };
  };

  it('is asked for, and it is never held: its row says so', () => {
    const specs = Object.values(deployed().template().findResources('Custom::SluiceConnector')).map(({ Properties }) =>
      JSON.stringify(Properties.Spec),
    );
    const flags = specs.map((spec) => [/shop-changes/.test(spec), /lag\W+true/.test(spec), /hold\W+false/.test(spec)]);
    expect(flags).toEqual(
      expect.arrayContaining([
        [true, true, true],
        [false, false, false],
      ]),
    );
  });

  it('is in the log of its own function, of which metrics and alarms of one’s own are made', () => {
    const { stack, changes, template: make } = deployed();
    for (const figure of ['bytes', 'behindMs', 'retainedBytes'] as const) changes.metricOfLag(figure);
    const metric = changes.metricOfLag('retainedShare', { period: Duration.minutes(15) });
    metric.createAlarm(stack, 'Half', { threshold: 0.5, evaluationPeriods: 1 });
    const template = make();
    const filters = Object.values(template.findResources('AWS::Logs::MetricFilter')).map(
      ({ Properties }) => Properties,
    );
    expect(
      filters.map(({ MetricTransformations: [{ MetricName, MetricValue }] }) => [MetricName, MetricValue]),
    ).toEqual([
      ['LagBytes', '$.bytes'],
      ['LagMilliseconds', '$.behindMs'],
      ['RetainedBytes', '$.retainedBytes'],
      ['RetainedShare', '$.retainedShare'],
    ]);
    for (const { LogGroupName, FilterPattern } of filters) {
      expect(LogGroupName).toEqual({ Ref: expect.stringMatching(/^ShopchangesLogs/) });
      expect(FilterPattern).toBe('{ ($.message = "lag") && ($.connector = "shop-changes") }');
    }
    template.hasResourceProperties('AWS::CloudWatch::Alarm', {
      Namespace: 'Sluice',
      MetricName: 'RetainedShare',
      Dimensions: [{ Name: 'Connector', Value: 'shop-changes' }],
      Statistic: 'Maximum',
      Period: 900,
      Threshold: 0.5,
    });
  });
});

describe('what is said at synth', () => {
  it('is how many resources there are, and how to split a stack that is too large', () => {
    const count = (others: number) => {
      const { app, stack, pipeline } = deployedPipeline();
      pipeline.addSource('orders', { connector: onS3(), ...manual });
      for (let n = 0; n < others; n++) new CfnWaitConditionHandle(stack, `Handle${n}`);
      return { app, stack };
    };
    const few = count(0).stack;
    Annotations.fromStack(few).hasInfo(
      '/Stack',
      Match.stringLikeRegexp(
        '^platform default: \\d+ resources, pipeline shop: \\d+ resources; in all \\d+, and a stack can hold 500',
      ),
    );
    const many = count(400).stack;
    Annotations.fromStack(many).hasWarning('/Stack', Match.stringLikeRegexp('in all 4\\d\\d.*Platform.fromName'));
    expect(messageOf(() => count(500).app.synth())).toMatch(
      /the stack has 5\d\d resources, and a stack can hold 500: platform default: \d+ resources, pipeline shop: \d+ resources. Put some of the pipelines into a stack of their own, which finds the platform by Platform.fromName/,
    );
  });

  it('is that a bundle is large, or too large for Lambda', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-large-'));
    const bundleOf = (megabytes: number) => (entry: { readonly name: string }) => {
      if (entry.name !== 'file-source') return emptyBundle(entry);
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, 'index.mjs'), '');
      truncateSync(join(directory, 'index.mjs'), megabytes * 1024 * 1024);
      return directory;
    };
    const warned = deployedPipeline({ bundle: bundleOf(11) });
    warned.pipeline.addSource('orders', { connector: onS3(), ...manual });
    Annotations.fromStack(warned.stack).hasWarning(
      '/Stack/Shop/orders',
      Match.stringLikeRegexp('the bundle of Stack/Shop/orders has 11 MB, and each cold start loads it'),
    );
    const refused = deployedPipeline({ bundle: bundleOf(251) });
    expect(messageOf(() => refused.pipeline.addSource('orders', { connector: onS3(), ...manual }))).toContain(
      'the bundle of Stack/Shop/orders has 251 MB, and Lambda takes 250: import less',
    );
  });
});

it('gives cdk-nag’s AwsSolutions nothing to find but what it explains', () => {
  const app = new App(appProps);
  const stack = new Stack(app, 'Stack');
  const theirs = new Stack(app, 'Theirs');
  const bucket = new Bucket(theirs, 'Bucket');
  const vpc = new Vpc(theirs, 'Vpc');
  const queue = new Queue(theirs, 'Queue', { visibilityTimeout: Duration.minutes(2) });
  const platform = new Platform(stack, 'Platform', { bundle: emptyBundle });
  const pipeline = new Pipeline(stack, 'Shop', { platform, name: 'shop' });
  const orders = pipeline.addSource('orders', {
    connector: fileSource({ path: `s3://${bucket.bucketName}/in/`, topic: 'orders' }),
    trigger: Trigger.s3(bucket, { prefix: 'in/' }),
  });
  pipeline.addSink('store', {
    from: [orders],
    connector: postgresSink({ host: 'db', database: 'shop', user: 'sluice', auth: 'iam' }),
    deadLetter: true,
    vpc,
  });
  const lake = pipeline.addSink('lake', {
    from: [orders],
    connector: fileSink({ path: `s3://${bucket.bucketName}/out/` }),
    trigger: Trigger.backlog({ bytes: Size.mebibytes(64), atMost: Duration.hours(1) }),
  });
  lake.metricOfRuns('records');
  lake.metricOfLag('records');
  pipeline.addProcessor('copy', { from: [orders], to: 'copied', deadLetter: true });
  pipeline.addSource('secret', {
    connector: fileSource({ path: 's3://orders/${secretsmanager:place}/', topic: 'secret' }),
    trigger: Trigger.every(Duration.minutes(1)),
  });
  pipeline.addSource('messages', { connector: onS3('messages'), trigger: Trigger.sqs(queue) });
  pipeline.addSource('always', { connector: onS3('always'), trigger: Trigger.continuous() });
  pipeline.addDirect('direct', {
    source: fileSource({ path: 's3://orders/${ssm:/place}/', topic: 'direct' }),
    sink: fileSink({ path: 's3://lake/direct/' }),
    trigger: Trigger.s3('orders'),
  });
  const elsewhere = new Stack(app, 'Elsewhere');
  const found = Platform.fromName(elsewhere, 'Platform', 'default', { bundle: emptyBundle });
  new Pipeline(elsewhere, 'Shop', { platform: found, name: 'more', externalTopics: ['orders'] }).addSink('store', {
    from: ['orders'],
    connector: postgresSink({ host: 'db', database: 'shop', user: 'sluice', auth: 'iam' }),
    deadLetter: true,
    vpc,
  });
  app.synth();
  const findings = (scope: Stack) =>
    new AwsSolutionsChecks(app)
      .validateScope(scope)
      .violations.flatMap(({ ruleName, violatingResources }) =>
        violatingResources.map((one) => `${ruleName} ${(one as { constructPath?: string }).constructPath}`),
      );
  expect(findings(stack)).toEqual([]);
  expect(findings(elsewhere)).toEqual([]);
  expect(findings(theirs)).toContain('AwsSolutions-S1 Theirs/Bucket/Resource');
});

import { Match } from 'aws-cdk-lib/assertions';
import { Duration, Stack } from 'aws-cdk-lib/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  fileSink,
  fileSource,
  mysqlCdcSource,
  postgresSink,
  type Sink,
  type Source,
} from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Platform } from '../../../infra/constructs/platform.ts';
import { Trigger } from '../../../infra/constructs/trigger.ts';
import { findLoop } from '../../../infra/topic-graph.ts';
import { ConnectorSpec } from '../../../shared/connect/spec.ts';
import { emptyBundle, messageOf, platformStack } from './stack.ts';

const orders = () => fileSource({ path: '/data/orders.jsonl' });
const manual = { trigger: Trigger.manual() };

const pipelineStack = (name = 'shop') => {
  const made = platformStack();
  return { ...made, pipeline: new Pipeline(made.stack, 'Shop', { platform: made.platform, name }) };
};

/** The specs that CloudFormation would hand to the deploy function, functions by their logical ids. */
const specsOf = (template: ReturnType<ReturnType<typeof platformStack>['template']>) =>
  Object.fromEntries(
    Object.values(template.findResources('Custom::SluiceConnector')).map(({ Properties }) => {
      const text = Properties.Spec['Fn::Join'][1].map((part: string | { Ref: string }) =>
        typeof part === 'string' ? part : part.Ref,
      );
      const spec = ConnectorSpec.parse(JSON.parse(text.join('')));
      return [spec.name, spec];
    }),
  );

describe('a connector', () => {
  it('is a function and a row, whose spec has everything', () => {
    const { stack, platform, template: make } = platformStack();
    const pipeline = new Pipeline(stack, 'Shop', {
      platform,
      name: 'shop',
      topics: { orders: { queues: 4, retention: Duration.days(1) } },
    });
    const source = pipeline.addSource('orders', {
      connector: orders(),
      trigger: Trigger.every(Duration.minutes(5)),
      tasks: 2,
      maxRecords: 1000,
      maxBytes: 1_000_000,
    });
    pipeline.addProcessor('copy', { from: [source], to: 'copied' });
    pipeline.addSink('store', {
      from: [source, 'copied', 'orders'],
      connector: postgresSink({ url: '${env:URL}' }),
      delivery: 'exactly-once',
      deadLetter: true,
      errors: { retryTimeout: Duration.minutes(2) },
    });
    pipeline.addDirect('archive', { source: orders(), sink: fileSink({ path: '/archive' }), ...manual });
    const template = make();
    const specs = specsOf(template);
    const common = { managedBy: 'deploy', maxRecords: 20_000, maxBytes: 8_388_608, tasks: 1 };
    const errors = { tolerance: 'none', retryTimeoutMs: 0, retryDelayMaxMs: 60_000 };
    const functionName = expect.stringMatching(/^Shop.*Function/);
    expect(specs).toEqual({
      'shop-orders': {
        ...common,
        name: 'shop-orders',
        kind: 'source',
        plugin: 'file',
        functionName,
        config: { path: '/data/orders.jsonl' },
        to: [{ name: 'orders', queues: 4, retentionMs: 86_400_000 }],
        tasks: 2,
        errors,
        trigger: 'every 300 s',
        maxRecords: 1000,
        maxBytes: 1_000_000,
      },
      'shop-copy': {
        ...common,
        name: 'shop-copy',
        kind: 'processor',
        functionName,
        from: ['orders'],
        to: [{ name: 'copied', queues: 1, retentionMs: 604_800_000 }],
        errors,
        trigger: 'on data',
      },
      'shop-store': {
        ...common,
        name: 'shop-store',
        kind: 'sink',
        plugin: 'postgres',
        functionName,
        config: { url: '${env:URL}' },
        from: ['orders', 'copied'],
        delivery: 'exactly-once',
        errors: { ...errors, tolerance: 'all', retryTimeoutMs: 120_000, deadLetterTopic: 'shop-store.dlq' },
        trigger: 'on data',
      },
      'shop-archive': {
        ...common,
        name: 'shop-archive',
        kind: 'direct',
        plugin: 'file',
        sinkPlugin: 'file',
        functionName,
        config: { path: '/data/orders.jsonl' },
        sinkConfig: { path: '/archive' },
        errors,
        trigger: 'manual',
      },
    });
  });

  it('has one schedule per task, which tells it which', () => {
    const { pipeline, template: make } = pipelineStack();
    const trigger = Trigger.every(Duration.minutes(5));
    pipeline.addSource('orders', { connector: orders(), trigger, tasks: 3 });
    const template = make();
    const row = Object.keys(template.findResources('Custom::SluiceConnector'))[0]!;
    const schedules = Object.values(
      template.findResources('AWS::Scheduler::Schedule', { Properties: { ScheduleExpression: 'rate(5 minutes)' } }),
    );
    const inputs = schedules.map(({ Properties }) => JSON.parse(Properties.Target.Input));
    expect(inputs).toEqual([0, 1, 2].map((task) => ({ connector: 'shop-orders', task, reason: 'schedule' })));
    // A schedule fires only where there is a row, at the start and at the end.
    for (const { DependsOn } of schedules) expect(DependsOn).toEqual([row]);
  });

  it('is removed while its function, its role and the right to invoke it are still there', () => {
    const { pipeline, template: make } = pipelineStack();
    pipeline.addSource('orders', { connector: orders(), ...manual });
    const template = make();
    const { Resources } = template.toJSON();
    const [id] = Object.keys(template.findResources('Custom::SluiceConnector'));
    const needs = new Set([id!]);
    for (const one of needs)
      for (const other of Object.keys(Resources))
        if (JSON.stringify(Resources[one]).includes(`"${other}"`)) needs.add(other);
    const known = [...needs].map((one) => one.replace(/[0-9A-F]{8}$/, ''));
    expect(known).toEqual(
      expect.arrayContaining([
        'ShopordersFunction',
        'ShopordersRole',
        'ShopordersLogs',
        'ShopordersFunctionDeploy',
        'PlatformDeployFunction',
        'PlatformDeployRole',
        'PlatformTable',
      ]),
    );
  });

  it('never has a failed run repeated by Lambda, and little young generation', () => {
    const { pipeline, template: make } = pipelineStack();
    pipeline.addSource('orders', { connector: orders(), ...manual });
    pipeline.addSink('archive', {
      from: ['orders'],
      connector: fileSink({ path: '/archive' }),
      memoryMb: 1024,
      timeout: Duration.minutes(10),
    });
    const template = make();
    template.allResourcesProperties('AWS::Lambda::EventInvokeConfig', { MaximumRetryAttempts: 0 });
    const environment = { SLUICE_CONNECTOR: 'shop-orders', NODE_OPTIONS: '--max-semi-space-size=4' };
    template.hasResourceProperties('AWS::Lambda::Function', {
      MemorySize: 512,
      Timeout: 120,
      Environment: { Variables: Match.objectLike(environment) },
    });
    template.hasResourceProperties('AWS::Lambda::Function', { MemorySize: 1024, Timeout: 600 });
  });

  it('settles relative paths where the app is written, not where a function runs', () => {
    expect(fileSource({ path: 'data/x.jsonl' }).config).toEqual({ path: `${process.cwd()}/data/x.jsonl` });
    expect(fileSource({ path: '${env:DIR}/x.jsonl' }).config).toEqual({ path: '${env:DIR}/x.jsonl' });
  });

  it('is called by its pipeline and its node', () => {
    const { pipeline } = pipelineStack();
    expect(pipeline.addSource('orders', { connector: orders(), ...manual }).connectorName).toBe('shop-orders');
    const source = fileSource({ path: '/x.jsonl' });
    expect(pipeline.addSource('shop', { connector: source, ...manual }).connectorName).toBe('shop');
  });
});

describe('what is refused', () => {
  it('names every problem of a node at once, at its construct path', () => {
    const { pipeline } = pipelineStack();
    const connector = fileSource({ path: '', tabel: 'x', format: 'xml' } as never);
    expect(messageOf(() => pipeline.addSource('orders', { connector, ...manual, tasks: 0 }))).toBe(
      'Stack/Shop/orders: config.path: too small: expected string to have >=1 characters; ' +
        'config.format: invalid option: expected one of "jsonl"|"json"|"csv"|"text"; ' +
        'config.tabel: unrecognized key "tabel"; tasks: too small: expected number to be >=1',
    );
  });

  it.each([
    ['a/b', 'Stack/Shop/a/b: "a/b" is not a name; use letters, digits, ".", "_" and "-", at most 200'],
    ['a#b', 'Stack/Shop/a#b: "a#b" is not a name; use letters, digits, ".", "_" and "-", at most 200'],
  ])('the name %s', (name, message) => {
    const { pipeline } = pipelineStack();
    expect(messageOf(() => pipeline.addSource(name, { connector: orders(), ...manual }))).toContain(message);
  });

  it('a name too long for the connector that it makes', () => {
    const { pipeline } = pipelineStack('p'.repeat(150));
    const add = () => pipeline.addSource('n'.repeat(100), { connector: orders(), ...manual });
    expect(messageOf(add)).toContain('name: use letters, digits, ".", "_" and "-", at most 200');
  });

  it('a second connector of the same name, from another pipeline too', () => {
    const { stack, platform, pipeline } = pipelineStack();
    pipeline.addSource('a-b', { connector: orders(), ...manual });
    const other = new Pipeline(stack, 'Other', { platform, name: 'shop-a' });
    expect(messageOf(() => other.addSource('b', { connector: orders(), ...manual }))).toBe(
      'Stack/Other/b: there is a connector shop-a-b already, Stack/Shop/a-b: give one of them another name',
    );
  });

  it('a topic that nobody writes', () => {
    const { app, pipeline } = pipelineStack();
    pipeline.addSource('orders', { connector: orders(), ...manual });
    pipeline.addSink('archive', { from: ['ordres'], connector: fileSink({ path: '/archive' }) });
    expect(messageOf(() => app.synth())).toContain(
      'Stack/Shop/archive: from: no source or processor writes topic "ordres"; topics are: orders',
    );
  });

  it('an empty from', () => {
    const { pipeline } = pipelineStack();
    expect(messageOf(() => pipeline.addProcessor('copy', { from: [], to: 'copied' }))).toBe(
      'Stack/Shop/copy: from: give at least one source, processor or topic',
    );
  });

  it('options of a topic that the pipeline does not write', () => {
    const { app, stack, platform } = platformStack();
    const pipeline = new Pipeline(stack, 'Shop', { platform, name: 'shop', topics: { ordres: { queues: 2 } } });
    pipeline.addSource('orders', { connector: orders(), ...manual });
    expect(messageOf(() => app.synth())).toContain(
      'topics.ordres: no source or processor of this pipeline writes it; it writes orders',
    );
  });

  it('two pipelines that see a topic differently', () => {
    const { stack, platform, pipeline } = pipelineStack();
    pipeline.addSource('orders', { connector: orders(), ...manual });
    const other = new Pipeline(stack, 'Other', { platform, name: 'other', topics: { orders: { queues: 2 } } });
    expect(messageOf(() => other.addSource('orders', { connector: orders(), ...manual }))).toContain(
      'topics: topic orders has queues 2 and retention 604800000 ms here and queues 1 and retention 604800000 ms for Stack/Shop/orders',
    );
  });

  it('a sink that needs the order of a topic with several queues', () => {
    const { app, stack, platform } = pipelineStack();
    const pipeline = new Pipeline(stack, 'Wide', { platform, name: 'wide', topics: { orders: { queues: 2 } } });
    pipeline.addSource('orders', { connector: orders(), ...manual });
    const login = { host: 'h', database: 'd', user: 'u' };
    pipeline.addSink('whole', { from: ['orders'], connector: postgresSink({ ...login, visibility: 'batch' }) });
    pipeline.addSink('each', { from: ['orders'], connector: postgresSink(login) });
    const message = messageOf(() => app.synth());
    expect(message).toContain(
      'Stack/Wide/whole: from: topic orders has 2 queues, and visibility batch needs the order of all its records: give it one queue',
    );
    expect(message).not.toContain('Wide/each: from');
  });

  const login = { host: 'h', user: 'u' };
  const atomic = postgresSink({ ...login, database: 'd', transactions: 'atomic' });
  const changes = (more: object) =>
    mysqlCdcSource({ ...login, topicPrefix: 'shop', tables: ['shop.a', 'shop.b'], topic: 'all', ...more });
  const untold = 'transactions atomic waits for the end of transactions, and';

  it('a sink that waits for what its source does not tell, also behind processors', () => {
    const { app, pipeline } = pipelineStack();
    pipeline.addSource('orders', { connector: orders(), ...manual });
    pipeline.addSource('silent', { connector: changes({}), ...manual });
    pipeline.addSource('telling', { connector: changes({ topic: 'told', transactions: true }), ...manual });
    pipeline.addProcessor('copy', { from: ['all'], to: 'copied' });
    for (const from of ['orders', 'copied', 'told'])
      pipeline.addSink(`of-${from}`, { from: [from], connector: atomic });
    const runs = postgresSink({ ...login, database: 'd', visibility: 'batch' });
    pipeline.addSink('runs', { from: ['told'], connector: runs });
    const message = messageOf(() => app.synth());
    expect(message).toContain(
      `Stack/Shop/of-orders: from: ${untold} Stack/Shop/orders tells of none: it has no setting for it, so leave out transactions atomic`,
    );
    expect(message).toContain(
      `Stack/Shop/of-copied: from: ${untold} Stack/Shop/silent tells of none: set transactions: true in its config`,
    );
    expect(message).toContain(
      'Stack/Shop/runs: from: visibility batch waits for the end of runs, and Stack/Shop/telling tells of none: set runs: true in its config',
    );
    expect(message).not.toContain('of-told');
  });

  it('the same of a sink that its source writes directly', () => {
    const { pipeline } = pipelineStack();
    const direct = (more: object) => () =>
      pipeline.addDirect('direct', { source: changes(more), sink: atomic, ...manual });
    expect(messageOf(direct({}))).toBe(
      `Stack/Shop/direct: sink: ${untold} source mysql-cdc tells of none: set transactions: true in its config`,
    );
    expect(direct({ transactions: true })).not.toThrow();
  });

  it('processors in a loop', () => {
    const { app, pipeline } = pipelineStack();
    pipeline.addSource('orders', { connector: orders(), ...manual });
    pipeline.addProcessor('there', { from: ['orders', 'b'], to: 'a' });
    pipeline.addProcessor('back', { from: ['a'], to: 'b' });
    expect(messageOf(() => app.synth())).toContain('the processors form a loop, a -> b -> a');
  });

  it('a node of another platform', () => {
    const { stack, pipeline } = pipelineStack();
    const elsewhere = new Platform(stack, 'Elsewhere', { bundle: emptyBundle, name: 'elsewhere' });
    const other = new Pipeline(stack, 'Other', { platform: elsewhere, name: 'other' });
    const node = other.addSource('orders', { connector: orders(), ...manual });
    expect(
      messageOf(() => pipeline.addSink('archive', { from: [node], connector: fileSink({ path: '/archive' }) })),
    ).toBe(
      "Stack/Shop/archive: from: Stack/Other/orders is on another platform, whose topics can't be read here: read it in a pipeline of that one",
    );
  });

  it('a delivery that the sink or the pair can not give', () => {
    const { pipeline } = pipelineStack();
    pipeline.addSource('orders', { connector: orders(), ...manual });
    const weakSink: Sink = { ...fileSink({ path: '/x' }), delivery: 'at-least-once' };
    const weakSource: Source = { ...orders(), replay: 'shifting' };
    expect(
      messageOf(() => pipeline.addSink('weak', { from: ['orders'], connector: weakSink, delivery: 'exactly-once' })),
    ).toContain('Stack/Shop/weak: delivery: delivery exactly-once is not possible: the sink gives at-least-once');
    expect(
      messageOf(() =>
        pipeline.addDirect('pair', {
          source: weakSource,
          sink: fileSink({ path: '/x' }),
          delivery: 'exactly-once',
          ...manual,
        }),
      ),
    ).toContain("Stack/Shop/pair: delivery: delivery exactly-once is not possible: the source's replay is shifting");
    const lower = { from: ['orders'], connector: fileSink({ path: '/x' }), delivery: 'at-least-once' } as const;
    expect(pipeline.addSink('lower', lower).connectorName).toBe('shop-lower');
  });

  it('dead letters that tolerance none never writes, or two topics for them', () => {
    const { pipeline } = pipelineStack();
    const sink = { from: ['orders'], connector: fileSink({ path: '/x' }), deadLetter: true };
    expect(messageOf(() => pipeline.addSink('a', { ...sink, errors: { tolerance: 'none' } }))).toContain(
      'errors.tolerance: none never writes a dead letter',
    );
    expect(messageOf(() => pipeline.addSink('a', { ...sink, errors: { deadLetterTopic: 'x' } }))).toContain(
      'errors.deadLetterTopic: deadLetter means shop-a.dlq; give one of both',
    );
  });

  it.each([Duration.seconds(30), Duration.seconds(90), Duration.millis(60_500)])('a schedule of %s', (interval) => {
    expect(messageOf(() => Trigger.every(interval))).toContain('a schedule has whole minutes');
  });

  it('a source that waits for data', () => {
    const { pipeline } = pipelineStack();
    expect(messageOf(() => pipeline.addSource('orders', { connector: orders(), trigger: Trigger.onData() }))).toBe(
      'Stack/Shop/orders: trigger: there is no topic to wait for; use Trigger.every() or Trigger.manual()',
    );
  });
});

it('lets the readers of an external topic read every object, as its writers are not known', () => {
  const { stack, platform, template } = platformStack();
  const pipeline = new Pipeline(stack, 'Shop', { platform, name: 'shop', externalTopics: ['made-by-rest'] });
  pipeline.addSink('archive', { from: ['made-by-rest'], connector: fileSink({ path: '/archive' }) });
  expect(JSON.stringify(template().toJSON())).toContain('/r*/*/????-??-??/*');
  expect(Stack.of(pipeline)).toBe(stack);
});

it('finds a loop exactly where there is one', () => {
  const topic: fc.Arbitrary<string> = fc.constantFrom('a', 'b', 'c', 'd', 'e');
  const edge = fc.record({ from: fc.uniqueArray(topic, { minLength: 1, maxLength: 3 }), to: topic });
  fc.assert(
    fc.property(fc.array(edge, { maxLength: 8 }), (edges) => {
      // Taking away what is only written and never leads on leaves nothing exactly when there is no loop.
      let left = edges.flatMap(({ from, to }) => from.map((one) => [one, to] as const));
      for (let before = -1; before !== left.length; ) {
        before = left.length;
        left = left.filter(([, to]) => left.some(([from]) => from === to));
      }
      const loop = findLoop(edges);
      expect(loop !== undefined).toBe(left.length > 0);
      for (let i = 1; i < (loop?.length ?? 0); i++)
        expect(edges.some(({ from, to }) => from.includes(loop![i - 1]!) && to === loop![i])).toBe(true);
      expect(loop?.at(-1)).toBe(loop?.[0]);
    }),
  );
});

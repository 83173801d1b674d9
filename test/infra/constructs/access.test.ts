import { beforeAll, describe, expect, it } from 'vitest';
import { fileSink, fileSource, postgresSink } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Trigger } from '../../../infra/constructs/trigger.ts';
import { type AccessRequest, createDecide } from '../../../infra/local/iam-policy.ts';
import { describeRole, type Role } from '../../../infra/local/iam-role.ts';
import { createIntrinsics } from '../../../infra/local/intrinsics.ts';
import { loadAssembly, type Resource } from '../../../infra/local/template.ts';
import * as keys from '../../../shared/state/keys.ts';
import type { Key } from '../../../shared/state/table.ts';
import { deployed, platformStack } from './stack.ts';

/** What a connector is declared to do; what it may do follows from nothing else. */
interface Declared {
  readonly reads: readonly string[];
  readonly writes: readonly string[];
}

/** Names that begin with one another, or look like another's key; topics likewise. */
const declared: { readonly [connector: string]: Declared } = {
  shop: { reads: [], writes: ['shop'] },
  'shop-a': { reads: [], writes: ['shop-a'] },
  'shop-a-b': { reads: [], writes: ['shop.a'] },
  shop2: { reads: [], writes: ['shop2'] },
  '2026-11-21': { reads: [], writes: ['0'] },
  'shop-out': { reads: ['shop'], writes: ['shop-out.dlq'] },
  'shop-a-out': { reads: ['shop-a', 'shop-out.dlq'], writes: [] },
  'shop2-out': { reads: ['shop2', 'shop.a'], writes: [] },
  'shop-copy': { reads: ['shop'], writes: ['shop-copied'] },
  'shop-last': { reads: ['shop-copied'], writes: [] },
  'shop-direct': { reads: [], writes: [] },
  'shop-ssm': { reads: ['shop'], writes: [] },
  'shop-iam': { reads: ['shop'], writes: [] },
};
const connectors = Object.keys(declared);
const topics = [...new Set(Object.values(declared).flatMap(({ reads, writes }) => [...reads, ...writes]))];

const read = ['GetItem', 'BatchGetItem', 'Query'];
const write = ['PutItem', 'UpdateItem'];
const never = ['ConditionCheckItem', 'BatchWriteItem', 'Scan', 'PartiQLSelect', 'PartiQLUpdate', 'DeleteTable'];
const actions = [...read, ...write, 'DeleteItem', ...never];

const ownActions = (connector: string): readonly string[] => [
  ...read,
  ...(declared[connector]!.writes.length > 0 ? write : ['PutItem']),
  'DeleteItem',
];
/** What a topic is, and who reads it, is not for connectors to change: only its log is written. */
const isLog = ({ pk }: Key): boolean => pk.startsWith('log#');

/** Every key of the table, of a connector and of a topic. */
const ofConnector: { readonly [form: string]: (connector: string) => Key } = {
  configKey: keys.configKey,
  taskKey: (connector) => keys.taskKey(connector, 0),
  wakeKey: (connector) => keys.wakeKey(connector, 0),
  offsetKey: (connector) => keys.offsetKey(connector, 'i', '{"path":"a#b"}'),
  preparedKey: (connector) => keys.preparedKey(connector, 'i', 0, 'x'),
  resetKey: (connector) => keys.resetKey(connector, 'i'),
  lagKey: (connector) => keys.lagKey(connector, 'i'),
  historyKey: (connector) => keys.historyKey(connector, '0'),
  deployedKey: keys.deployedKey,
};
const ofTopic: { readonly [form: string]: (topic: string) => Key } = {
  metaKey: keys.metaKey,
  subscriptionKey: (topic) => keys.subscriptionKey(topic, 'shop'),
  keptKey: (topic) => keys.keptKey(topic, 0, 0),
  headKey: (topic) => keys.headKey(topic, 0, 0),
  segmentKey: (topic) => keys.segmentKey(topic, 12, 3, 456),
};

const synthesize = (): string => {
  const { app, stack, platform } = platformStack({}, deployed);
  const trigger = Trigger.manual();
  const pipeline = (name: string) => new Pipeline(stack, name, { platform, name });
  const source = (of: Pipeline, node: string, topic: string) =>
    of.addSource(node, { connector: fileSource({ path: `s3://files/in/${topic}/`, topic }), trigger });
  const shop = pipeline('shop');
  const orders = source(shop, 'shop', 'shop');
  const a = source(shop, 'a', 'shop-a');
  const shopA = pipeline('shop-a');
  const ab = source(shopA, 'b', 'shop.a');
  const shop2 = pipeline('shop2');
  const orders2 = source(shop2, 'shop2', 'shop2');
  source(pipeline('2026-11-21'), '2026-11-21', '0');
  const toFiles = (directory: string) => fileSink({ path: `s3://files/out/${directory}/` });
  const toTable = (login: { user: string; password: string } | { user: string; auth: 'iam' }) =>
    postgresSink({ host: 'h', database: 'd', ...login });
  const withSecret = toTable({ user: 'u', password: `${'$'}{secretsmanager:shop:password}` });
  shop.addSink('out', { from: [orders], connector: withSecret, deadLetter: true });
  shop.addSink('ssm', { from: [orders], connector: toTable({ user: 'u', password: `${'$'}{ssm:/shop/password}` }) });
  shop.addSink('iam', { from: [orders], connector: toTable({ user: 'shop', auth: 'iam' }) });
  shopA.addSink('out', { from: [a, 'shop-out.dlq'], connector: toFiles('shop-a') });
  shop2.addSink('out', { from: [orders2, ab], connector: toFiles('shop2') });
  const copied = shop.addProcessor('copy', { from: [orders], to: 'shop-copied' });
  shop.addSink('last', { from: [copied], connector: toFiles('shop') });
  const from = fileSource({ path: 's3://files/in/direct/' });
  shop.addDirect('direct', { source: from, sink: toFiles('direct'), trigger });
  return app.synth().directory;
};

let table: string;
let bucket: string;
let functions: { readonly [connector: string]: string };
let roles: { readonly [connector: string]: Role };

beforeAll(async () => {
  const assembly = await loadAssembly(synthesize(), 'us-east-1');
  const resources = assembly.stacks.flatMap((stack) => [...stack.resources.values()]);
  const intrinsics = createIntrinsics(assembly);
  const arnOf = (resource: Resource | undefined): string => intrinsics.identityOf(resource!).attributes.Arn!;
  table = arnOf(resources.find(({ type }) => type === 'AWS::DynamoDB::GlobalTable'));
  bucket = arnOf(resources.find(({ type }) => type === 'AWS::S3::Bucket'));
  const found = resources.flatMap((resource) => {
    if (resource.type !== 'AWS::Lambda::Function') return [];
    const { Variables } = (intrinsics.property(resource, 'Environment') ?? {}) as { Variables?: object };
    const name = (Variables as { SLUICE_CONNECTOR?: string } | undefined)?.SLUICE_CONNECTOR;
    return name === undefined ? [] : [[name, resource] as const];
  });
  functions = Object.fromEntries(found.map(([name, resource]) => [name, arnOf(resource)]));
  roles = Object.fromEntries(
    found.map(([name, resource]) => {
      const arn = String(intrinsics.property(resource, 'Role'));
      return [name, describeRole(resource, arn, resources, intrinsics)];
    }),
  );
});

const may = (connector: string, request: AccessRequest): boolean =>
  createDecide(roles[connector]!.statements)(request) === 'allowed';

/** The actions that the connector may do on rows with these leading keys. */
const allowedOn = (connector: string, ...leading: string[]): readonly string[] =>
  actions.filter((action) =>
    may(connector, {
      action: `dynamodb:${action}`,
      resource: table,
      context: { 'dynamodb:LeadingKeys': leading },
    }),
  );

/** Invariant: hazard F1. By the evaluator of the local host, from the template. */
describe('no connector can touch what is not its own', () => {
  it('is asked of every connector and every form of key there is', () => {
    expect(Object.keys(roles).sort()).toEqual(connectors.toSorted());
    const forms = Object.keys(keys).filter((name) => name.endsWith('Key'));
    expect([...Object.keys(ofConnector), ...Object.keys(ofTopic)].sort()).toEqual(forms.sort());
  });

  it.each(connectors)('%s: rows of connectors', (connector) => {
    for (const [form, keyOf] of Object.entries(ofConnector))
      for (const owner of connectors) {
        const expected = owner === connector ? ownActions(connector) : [];
        expect(allowedOn(connector, keyOf(owner).pk), `${form} of ${owner}`).toEqual(expected);
      }
  });

  it.each(connectors)('%s: rows and segments of topics', (connector) => {
    const { reads, writes } = declared[connector]!;
    for (const [form, keyOf] of Object.entries(ofTopic))
      for (const topic of topics) {
        const readable = writes.includes(topic) || reads.includes(topic) ? read : [];
        const expected = writes.includes(topic) && isLog(keyOf(topic)) ? [...read, ...write] : readable;
        expect(allowedOn(connector, keyOf(topic).pk), `${form} of ${topic}`).toEqual(expected);
      }
  });

  it.each(connectors)('%s: what it may in one request', (connector) => {
    const { reads, writes } = declared[connector]!;
    const own = keys.connectorPk(connector);
    const written = writes.flatMap((topic) => [keys.logPk(topic, 0, 0), keys.logPk(topic, 1, 7)]);
    const all = [own, ...[...reads, ...writes].flatMap((topic) => [keys.topicPk(topic), keys.logPk(topic, 0, 0)])];
    expect(allowedOn(connector, ...all)).toEqual(expect.arrayContaining(read));
    // A commit and what it appends.
    if (writes.length > 0) expect(allowedOn(connector, own, ...written)).toEqual([...read, ...write]);
    for (const other of connectors.filter((each) => each !== connector))
      expect(allowedOn(connector, ...all, keys.connectorPk(other))).toEqual([]);
  });

  it.each(connectors)('%s: nothing without a key, nothing of an index', (connector) => {
    const without = actions.filter((action) => may(connector, { action: `dynamodb:${action}`, resource: table }));
    // A request that has a key by its form always says it; a condition on all keys would hold without any.
    expect(without.filter((action) => never.includes(action))).toEqual([]);
    for (const action of actions)
      expect(may(connector, { action: `dynamodb:${action}`, resource: `${table}/index/kinds` })).toBe(false);
  });

  it.each(connectors)('%s: segment objects', (connector) => {
    const { reads, writes } = declared[connector]!;
    const object = (owner: string) => `${bucket}/r14/${owner}/2026-11-21/0b5c7c2e-6b6d-4f0e-8a35-5b5b5b5b5b5b`;
    const rightsOn = (owner: string) =>
      ['s3:GetObject', 's3:PutObject', 's3:DeleteObject', 's3:AbortMultipartUpload'].filter((action) =>
        may(connector, { action, resource: object(owner) }),
      );
    for (const owner of connectors) {
      const isReader = declared[owner]!.writes.some((topic) => reads.includes(topic));
      const isWriter = owner === connector && writes.length > 0;
      expect(rightsOn(owner), owner).toEqual([
        // A writer reads its own, to find out whether a put took effect.
        ...(isReader || isWriter ? ['s3:GetObject'] : []),
        ...(isWriter ? ['s3:PutObject'] : []),
      ]);
    }
    for (const action of ['s3:ListBucket', 's3:ListBucketMultipartUploads', 's3:DeleteBucket'])
      expect(may(connector, { action, resource: bucket })).toBe(false);
  });

  it.each(connectors)('%s: files', (connector) => {
    const read = (topic: string) =>
      may(connector, { action: 's3:GetObject', resource: `arn:aws:s3:::files/in/${topic}/x` });
    const sources = ['shop', 'shop-a', 'shop.a', 'shop2', '0', 'direct'];
    const own =
      connector === 'shop-direct'
        ? ['direct']
        : declared[connector]!.reads.length > 0
          ? []
          : declared[connector]!.writes;
    expect(sources.filter(read)).toEqual(own);
    const written = { 'shop-a-out': 'shop-a', 'shop2-out': 'shop2', 'shop-last': 'shop', 'shop-direct': 'direct' }[
      connector
    ];
    const put = (directory: string) =>
      may(connector, { action: 's3:PutObject', resource: `arn:aws:s3:::files/out/${directory}/x` });
    expect([...sources, 'shop-direct'].filter(put)).toEqual(written === undefined ? [] : [written]);
    expect(may(connector, { action: 's3:DeleteObject', resource: 'arn:aws:s3:::files/out/shop/x' })).toBe(false);
  });

  it.each(connectors)('%s: secrets and logins', (connector) => {
    const place = 'us-east-1:000000000000';
    const rights = [
      ['secretsmanager:GetSecretValue', `secretsmanager:${place}:secret:shop`, '-AbCdEf', 'shop-out'],
      ['ssm:GetParameter', `ssm:${place}:parameter/shop/password`, '', 'shop-ssm'],
      ['rds-db:connect', `rds-db:${place}:dbuser:cluster-1/shop`, '', 'shop-iam'],
    ] as const;
    for (const [action, name, suffix, owner] of rights) {
      expect(may(connector, { action, resource: `arn:aws:${name}${suffix}` }), name).toBe(connector === owner);
      for (const other of ['2', '-a', '-AbCdEf'])
        expect(may(connector, { action, resource: `arn:aws:${name}${other}${suffix}` }), name + other).toBe(false);
    }
  });

  it.each(connectors)('%s: the functions of others', (connector) => {
    for (const other of connectors)
      expect(may(connector, { action: 'lambda:InvokeFunction', resource: functions[other]! }), other).toBe(false);
  });
});

it('reaches a reader that was added before the writer', async () => {
  const { stack, platform, app } = platformStack();
  const pipeline = new Pipeline(stack, 'p', { platform, name: 'p' });
  pipeline.addSink('late', { from: ['orders'], connector: fileSink({ path: '/x' }) });
  pipeline.addSource('first', { connector: fileSource({ path: 'orders.jsonl' }), trigger: Trigger.manual() });
  const assembly = await loadAssembly(app.synth().directory, 'us-east-1');
  const resources = assembly.stacks.flatMap((each) => [...each.resources.values()]);
  const intrinsics = createIntrinsics(assembly);
  const late = resources.find(({ properties }) => JSON.stringify(properties).includes('"SLUICE_CONNECTOR":"p-late"'))!;
  const role = describeRole(late, String(intrinsics.property(late, 'Role')), resources, intrinsics);
  const objects = intrinsics.identityOf(resources.find(({ type }) => type === 'AWS::S3::Bucket')!).attributes.Arn;
  const request = { action: 's3:GetObject', resource: `${objects}/r14/p-first/2026-11-21/x` };
  expect(createDecide(role.statements)(request)).toBe('allowed');
});

import { beforeAll, describe, expect, it } from 'vitest';
import { fileSink, fileSource, postgresSink } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Trigger } from '../../../infra/constructs/trigger.ts';
import { connectorPk, logPk, topicPk } from '../../../shared/state/keys.ts';
import { rightsOf } from './iam.ts';
import { platformStack } from './stack.ts';

const read = ['GetItem', 'BatchGetItem', 'Query'];
const write = ['PutItem', 'UpdateItem'];
const object = (connector: string) => `objects/r14/${connector}/2026-11-21/0b5c7c2e-6b6d-4f0e-8a35-5b5b5b5b5b5b`;

describe('rights of connectors', () => {
  let template: ReturnType<ReturnType<typeof platformStack>['template']>;
  const rows = (connector: string, actions: readonly string[], ...leadingKeys: string[]) =>
    actions.map((action) =>
      rightsOf(template, connector).allows({ action: `dynamodb:${action}`, resource: 'table', leadingKeys }),
    );
  const objects = (connector: string, action: string, key: string) =>
    rightsOf(template, connector).allows({ action: `s3:${action}`, resource: key });
  const all = (actions: readonly string[], allowed: boolean) => actions.map(() => allowed);

  beforeAll(() => {
    const { stack, platform, template: make } = platformStack();
    const trigger = Trigger.manual();
    const shop = new Pipeline(stack, 'shop', { platform, name: 'shop' });
    const orders = shop.addSource('orders', { connector: fileSource({ path: 'orders.jsonl' }), trigger });
    // A name that begins with another one, a topic too, and a name that looks like the date in an object's key.
    shop.addSource('orders2', { connector: fileSource({ path: 'orders2.jsonl' }), trigger });
    shop.addSource('2026', { connector: fileSource({ path: 'dated.jsonl' }), trigger });
    const dated = new Pipeline(stack, 'dated', { platform, name: '2026-11-21' });
    dated.addSource('2026-11-21', { connector: fileSource({ path: 'x.jsonl' }), trigger });
    shop.addSink('store', {
      from: [orders],
      connector: postgresSink({ url: 'postgres://u@h/d' }),
      deadLetter: true,
    });
    const copy = shop.addProcessor('copy', { from: [orders], to: 'copied' });
    shop.addSink('archive', { from: [copy, 'shop-store.dlq'], connector: fileSink({ path: '/archive' }) });
    shop.addDirect('direct', { source: fileSource({ path: 'd.jsonl' }), sink: fileSink({ path: '/d' }), trigger });
    template = make();
  });

  it('cover its own rows and no others', () => {
    const own = connectorPk('shop-orders');
    expect(rows('shop-orders', [...read, ...write, 'DeleteItem'], own)).toEqual(
      all([...read, ...write, 'DeleteItem'], true),
    );
    for (const other of ['shop-orders2', 'shop-store', 'shop', 'shop-orders#x'])
      expect(rows('shop-orders', [...read, ...write, 'DeleteItem'], connectorPk(other))).toEqual(
        all([...read, ...write, 'DeleteItem'], false),
      );
    expect(rows('shop-orders', read, own, connectorPk('shop-store'))).toEqual(all(read, false));
  });

  it('cover what a source writes, in one request with its offsets', () => {
    const keys = [connectorPk('shop-orders'), topicPk('orders'), logPk('orders', 0, 3)];
    expect(rows('shop-orders', [...read, ...write], ...keys)).toEqual(all([...read, ...write], true));
    expect(rows('shop-orders', ['DeleteItem'], logPk('orders', 0, 3))).toEqual([false]);
    for (const key of [topicPk('orders2'), logPk('orders2', 0, 0), topicPk('copied')])
      expect(rows('shop-orders', [...read, ...write], key)).toEqual(all([...read, ...write], false));
  });

  it('let a sink read its topics and write only its dead letters', () => {
    expect(rows('shop-store', read, topicPk('orders'), logPk('orders', 1, 0))).toEqual(all(read, true));
    expect(rows('shop-store', write, topicPk('orders'))).toEqual(all(write, false));
    expect(rows('shop-store', write, logPk('orders', 0, 0))).toEqual(all(write, false));
    expect(rows('shop-store', write, topicPk('shop-store.dlq'), logPk('shop-store.dlq', 0, 0))).toEqual(
      all(write, true),
    );
    expect(rows('shop-store', read, logPk('copied', 0, 0))).toEqual(all(read, false));
  });

  it('let a processor read one topic and write the other', () => {
    expect(rows('shop-copy', read, logPk('orders', 0, 0), logPk('copied', 0, 0))).toEqual(all(read, true));
    expect(rows('shop-copy', write, logPk('copied', 0, 0))).toEqual(all(write, true));
    expect(rows('shop-copy', write, logPk('orders', 0, 0))).toEqual(all(write, false));
  });

  it('leave a direct connector its own rows', () => {
    expect(rows('shop-direct', [...read, ...write], connectorPk('shop-direct'))).toEqual(
      all([...read, ...write], true),
    );
    expect(rows('shop-direct', read, topicPk('orders'))).toEqual(all(read, false));
    expect(objects('shop-direct', 'PutObject', object('shop-direct'))).toBe(false);
  });

  it('let only the writer put its objects, and its readers get them', () => {
    expect(objects('shop-orders', 'PutObject', object('shop-orders'))).toBe(true);
    expect(objects('shop-orders', 'GetObject', object('shop-orders'))).toBe(false);
    expect(objects('shop-orders', 'DeleteObject', object('shop-orders'))).toBe(false);
    for (const other of ['shop-orders2', 'shop-store', '2026-11-21'])
      expect(objects('shop-orders', 'PutObject', object(other))).toBe(false);
    expect(objects('shop-store', 'GetObject', object('shop-orders'))).toBe(true);
    expect(objects('shop-store', 'GetObject', object('shop-orders2'))).toBe(false);
    expect(objects('shop-archive', 'GetObject', object('shop-copy'))).toBe(true);
    expect(objects('shop-archive', 'GetObject', object('shop-store'))).toBe(true);
    expect(objects('shop-archive', 'GetObject', object('shop-orders'))).toBe(false);
  });

  it('do not mistake the date in a key for a connector of that name', () => {
    expect(objects('2026-11-21', 'PutObject', object('2026-11-21'))).toBe(true);
    expect(objects('2026-11-21', 'PutObject', object('shop-orders'))).toBe(false);
  });

  it('hold no right without a key or a function', () => {
    const connectors = ['shop-orders', 'shop-store', 'shop-copy', 'shop-direct', 'shop-archive'];
    const actions = connectors.flatMap((one) => rightsOf(template, one).statements.flatMap(({ Action }) => Action));
    expect(new Set(actions)).toEqual(
      new Set([
        'logs:CreateLogStream',
        'logs:PutLogEvents',
        ...[...read, ...write, 'DeleteItem'].map((action) => `dynamodb:${action}`),
        's3:PutObject',
        's3:GetObject',
      ]),
    );
    template.resourceCountIs('AWS::IAM::Policy', 0);
    template.resourceCountIs('AWS::IAM::ManagedPolicy', 0);
  });
});

it('reaches a reader that was added before the writer', () => {
  const { stack, platform, template } = platformStack();
  const pipeline = new Pipeline(stack, 'p', { platform, name: 'p' });
  pipeline.addSink('late', { from: ['orders'], connector: fileSink({ path: '/x' }) });
  pipeline.addSource('first', { connector: fileSource({ path: 'orders.jsonl' }), trigger: Trigger.manual() });
  expect(rightsOf(template(), 'p-late').allows({ action: 's3:GetObject', resource: object('p-first') })).toBe(true);
});

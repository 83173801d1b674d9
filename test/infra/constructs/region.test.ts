import { Bucket, type IBucket } from 'aws-cdk-lib/aws-s3';
import { type IQueue, Queue } from 'aws-cdk-lib/aws-sqs';
import { App, Stack } from 'aws-cdk-lib/core';
import { describe, expect, it } from 'vitest';
import { fileSource } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Platform } from '../../../infra/constructs/platform.ts';
import { Trigger } from '../../../infra/constructs/trigger.ts';
import { appProps } from '../../../infra/synth.ts';
import { emptyBundle, messageOf } from './stack.ts';

/** Stacks of two regions, between which the CDK has been told to carry references: it then refuses nothing by itself. */
const setUp = () => {
  const app = new App(appProps);
  const stackIn = (region: string) =>
    new Stack(app, region, { env: { account: '123456789012', region }, crossRegionReferences: true });
  const [here, there] = [stackIn('eu-west-1'), stackIn('us-east-1')];
  const platform = new Platform(here, 'Platform', { bundle: emptyBundle });
  const addSource = (trigger: Trigger) =>
    new Pipeline(here, 'Shop', { platform, name: 'shop' }).addSource('orders', {
      connector: fileSource({ path: 's3://inbox/', topic: 'orders' }),
      trigger,
    });
  return { here, there, platform, addSource };
};

const refusal =
  'is in us-east-1 and this stack in eu-west-1, but AWS wakes functions only of the region where something happens: put both into one';

describe('what is in another region is refused', () => {
  it('a pipeline by its platform', () => {
    const { there, platform } = setUp();
    expect(messageOf(() => new Pipeline(there, 'Shop', { platform, name: 'shop' }))).toBe(
      'us-east-1/Shop: platform: eu-west-1/Platform is in eu-west-1 and this stack in us-east-1, but connectors run beside their platform: make a Platform in this region, or put the pipeline into that one',
    );
  });

  const bucketOf = (scope: Stack): IBucket => new Bucket(scope, 'Inbox');
  const queueOf = (scope: Stack): IQueue => new Queue(scope, 'Inbox');
  it.each([
    ['a bucket', (there: Stack) => Trigger.s3(bucketOf(there)), 'us-east-1/Inbox'],
    ['a queue', (there: Stack) => Trigger.sqs(queueOf(there)), 'us-east-1/Inbox'],
    [
      'a queue by its ARN',
      () => Trigger.sqs('arn:aws:sqs:us-east-1:123456789012:inbox'),
      'arn:aws:sqs:us-east-1:123456789012:inbox',
    ],
  ])('%s by the connector that it wakes', (_, triggerOf, name) => {
    const { there, addSource } = setUp();
    expect(messageOf(() => addSource(triggerOf(there)))).toBe(`eu-west-1/Shop/orders: trigger: ${name} ${refusal}`);
  });
});

describe('what is in the same region, or in one that nobody knows, is taken', () => {
  it.each([
    ['a bucket', (here: Stack) => Trigger.s3(new Bucket(here, 'Inbox'))],
    ['a bucket by its name', () => Trigger.s3('inbox')],
    ['a queue by its ARN', () => Trigger.sqs('arn:aws:sqs:eu-west-1:123456789012:inbox')],
    ['a queue of another app', (here: Stack) => Trigger.sqs(here.formatArn({ service: 'sqs', resource: 'inbox' }))],
    ['a bucket of a stack for any region', (here: Stack) => Trigger.s3(new Bucket(new Stack(here, 'Any'), 'Inbox'))],
  ])('%s', (_, triggerOf) => {
    const { here, addSource } = setUp();
    expect(addSource(triggerOf(here)).connectorName).toBe('shop-orders');
  });

  it('everything by a stack that may go anywhere', () => {
    const app = new App(appProps);
    const stack = new Stack(app, 'Anywhere');
    const platform = new Platform(stack, 'Platform', { bundle: emptyBundle });
    const trigger = Trigger.sqs('arn:aws:sqs:eu-west-1:123456789012:inbox');
    const connector = fileSource({ path: 's3://inbox/', topic: 'orders' });
    new Pipeline(stack, 'Shop', { platform, name: 'shop' }).addSource('orders', { connector, trigger });
  });
});

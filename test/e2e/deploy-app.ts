import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { Secret } from 'aws-cdk-lib/aws-secretsmanager';
import { App, CfnOutput, RemovalPolicy, SecretValue, Stack } from 'aws-cdk-lib/core';
import { bundleSync } from '../../infra/bundle.ts';
import type { BundleEntry } from '../../infra/bundle-entries.ts';
import { fileSink, fileSource, Pipeline, Platform, postgresSink, Trigger } from '../../infra/index.ts';

/** The app that deploy.e2e.test.ts deploys, in the variant that the test asks for. */
export interface Variant {
  /** The construct id of the pipeline: no name of a connector is made of it. */
  readonly id?: string;
  readonly tasks?: number;
  readonly withoutLake?: boolean;
  /** A release whose segments have a newer shape. */
  readonly newer?: boolean;
  /** A bucket that is not there: the deployment fails, and is rolled back. */
  readonly lakePath?: string;
}

const variant = JSON.parse(process.env.SLUICE_TEST_VARIANT ?? '{}') as Variant;
const directory = process.env.SLUICE_TEST_DIRECTORY!;

/** A bundle as the next release may have it: it writes segments of shape 2, and reads both. */
const newerBundle = (entry: BundleEntry): string => {
  const target = join(directory, 'newer', entry.name);
  cpSync(bundleSync([entry])[0]!.directory, target, { recursive: true });
  const file = join(target, 'index.mjs');
  const [before, after] = [readFileSync(file, 'utf8'), 'head:1,segment:2'];
  const changed = before.replace('head:1,segment:1', after);
  if (changed === before) throw new Error(`${entry.name}: the shapes are not where this test looks for them`);
  writeFileSync(file, changed);
  return target;
};

const app = new App();
const stack = new Stack(app, 'Orders');
const gone = { removalPolicy: RemovalPolicy.DESTROY, autoDeleteObjects: true };
const bucket = new Bucket(stack, 'In', gone);
const lake = new Bucket(stack, 'Lake', gone);
const url = new Secret(stack, 'Url', { secretStringValue: SecretValue.unsafePlainText(process.env.SLUICE_TEST_URL!) });

const platform = new Platform(stack, 'Sluice', {
  removalPolicy: RemovalPolicy.DESTROY,
  ...(variant.newer ? { bundle: newerBundle } : {}),
});
const pipeline = new Pipeline(stack, variant.id ?? 'Pipeline', { platform, name: 'orders' });
const orders = pipeline.addSource('files', {
  connector: fileSource({
    path: `s3://${bucket.bucketName}/in/`,
    format: 'csv',
    topic: 'orders',
    keyFields: ['order_id'],
    fields: { order_id: 'int64', total: 'decimal(12,2)', day: 'date' },
  }),
  trigger: Trigger.s3(bucket, { prefix: 'in/' }),
});
pipeline.addSink('warehouse', {
  from: [orders],
  connector: postgresSink({ url: `\${secretsmanager:${url.secretArn}}`, mode: 'upsert' }),
  delivery: 'exactly-once',
  tasks: variant.tasks ?? 1,
  deadLetter: true,
});
if (!variant.withoutLake)
  pipeline.addSink('lake', {
    from: [orders],
    connector: fileSink({
      path: variant.lakePath ?? `s3://${lake.bucketName}/orders/`,
      format: 'parquet',
      partitionBy: ['day'],
    }),
  });

new CfnOutput(stack, 'InBucket', { value: bucket.bucketName });
new CfnOutput(stack, 'LakeBucket', { value: lake.bucketName });
new CfnOutput(stack, 'Table', { value: platform.table.tableName });

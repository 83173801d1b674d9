// `npx cdk synth --app 'node orders.ts'` where it stands; in this repository after `npm run build`. orders.yaml is the same for one machine.
import { App, Duration, Size, Stack } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as rds from 'aws-cdk-lib/aws-rds';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { fileSink, fileSource, Pipeline, Platform, postgresSink, Trigger } from 'sluice';

const stack = new Stack(new App(), 'Orders');
const vpc = new ec2.Vpc(stack, 'Vpc');
const engine = rds.DatabaseClusterEngine.auroraPostgres({ version: rds.AuroraPostgresEngineVersion.VER_17_5 });
const writer = rds.ClusterInstance.serverlessV2('writer');
const db = new rds.DatabaseCluster(stack, 'Db', { engine, writer, vpc, defaultDatabaseName: 'shop', iamAuthentication: true });
const [bucket, lake] = [new Bucket(stack, 'Bucket'), new Bucket(stack, 'Lake')];

const platform = new Platform(stack, 'Sluice');
const pipeline = new Pipeline(stack, 'Pipeline', { platform, name: 'orders' });
const orders = pipeline.addSource('orders-files', {
  connector: fileSource({ path: `s3://${bucket.bucketName}/in/`, format: 'csv', keyFields: ['order_id'] }),
  trigger: Trigger.s3(bucket, { prefix: 'in/' }),
});
pipeline.addSink('warehouse', {
  from: [orders],
  connector: postgresSink({ host: db.clusterEndpoint.hostname, database: 'shop', user: 'sluice', auth: 'iam', mode: 'upsert' }),
  transforms: ['./transforms/euro.ts'], delivery: 'exactly-once', vpc, deadLetter: true,
}).connections.allowTo(db, ec2.Port.tcp(5432));
pipeline.addSink('lake', {
  from: [orders], connector: fileSink({ path: `s3://${lake.bucketName}/orders/`, format: 'parquet', partitionBy: ['day'] }),
  trigger: Trigger.backlog({ bytes: Size.mebibytes(64), atMost: Duration.hours(1) }),
});

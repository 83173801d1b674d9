import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { App, Stack } from 'aws-cdk-lib';
import { Code, Function as LambdaFunction, Runtime } from 'aws-cdk-lib/aws-lambda';
import { Bucket, EventType } from 'aws-cdk-lib/aws-s3';
import { LambdaDestination, SqsDestination } from 'aws-cdk-lib/aws-s3-notifications';
import { Queue } from 'aws-cdk-lib/aws-sqs';
import { expect, onTestFinished, test } from 'vitest';
import { startHost } from '../../../infra/local/host.ts';
import { s3Client } from '../../../shared/s3/client.ts';
import { until } from '../../kit/until.ts';
import { temporaryDirectory } from './app.ts';

const print =
  'exports.handler = async (event) => event.Records.forEach((record) => console.log(JSON.stringify(record)));';

/** A CDK app of a bucket and a function that prints the events it gets, run by the host. */
const startApp = async (directory: string, define: (stack: Stack, bucket: Bucket, printer: LambdaFunction) => void) => {
  const app = new App({ outdir: join(directory, 'cdk.out') });
  const stack = new Stack(app, 'App');
  const printer = new LambdaFunction(stack, 'Printer', {
    functionName: 'printer',
    runtime: Runtime.NODEJS_24_X,
    handler: 'index.handler',
    code: Code.fromInline(print),
  });
  define(stack, new Bucket(stack, 'In', { bucketName: 'inbox' }), printer);
  const lines: string[] = [];
  const stateDir = join(directory, 'state');
  const host = await startHost({
    assembly: app.synth().directory,
    stateDir,
    onLog: (name, line) => lines.push(`${name} ${line}`),
  });
  onTestFinished(() => host.stop());
  const records = () =>
    lines.filter((line) => line.startsWith('printer {')).map((line) => JSON.parse(line.slice('printer '.length)));
  return {
    host,
    lines,
    records,
    keys: (): readonly string[] => records().map(({ s3 }) => s3.object.key),
    inbox: join(stateDir, 's3', 'inbox'),
    s3: s3Client({
      endpoint: host.s3.endpoint,
      region: 'us-east-1',
      credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
    }),
  };
};

test('an object that is put, or uploaded in parts, wakes the function with the event that AWS would send', async () => {
  const { host, s3, records } = await startApp(await temporaryDirectory(), (_stack, bucket, printer) =>
    bucket.addEventNotification(EventType.OBJECT_CREATED, new LambdaDestination(printer), {
      prefix: 'in/',
      suffix: '.csv',
    }),
  );
  await s3.put('inbox', 'in/a b+ä.csv', Buffer.from('12345'));
  await s3.put('inbox', 'in/a.txt', Buffer.of(1));
  await s3.put('inbox', 'other/a.csv', Buffer.of(1));
  const uploadId = await s3.createUpload('inbox', 'in/parts.csv');
  const etag = await s3.uploadPart('inbox', 'in/parts.csv', uploadId, 1, Buffer.of(1));
  await s3.completeUpload('inbox', 'in/parts.csv', uploadId, [{ partNumber: 1, etag }]);
  await s3.delete('inbox', 'in/parts.csv');
  await host.idle();
  // Two invocations may overtake each other; the sequencer says which came first.
  const [put, parts, ...others] = records().toSorted((a, b) =>
    a.s3.object.sequencer < b.s3.object.sequencer ? -1 : 1,
  );
  expect(others).toEqual([]);
  expect(put).toMatchObject({
    eventVersion: '2.1',
    eventSource: 'aws:s3',
    awsRegion: 'us-east-1',
    eventName: 'ObjectCreated:Put',
    eventTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    s3: {
      s3SchemaVersion: '1.0',
      bucket: { name: 'inbox', arn: 'arn:aws:s3:::inbox' },
      object: { key: 'in/a+b%2B%C3%A4.csv', size: 5, eTag: '827ccb0eea8a706c4c34a16891f84e7b' },
    },
  });
  expect(parts).toMatchObject({
    eventName: 'ObjectCreated:CompleteMultipartUpload',
    s3: { object: { key: 'in/parts.csv' } },
  });
});

test('a file that is copied by hand wakes it once, when it is whole; what was there does not', async () => {
  // A look that a busy machine makes slow is followed by a long rest.
  const patient = { timeoutMs: 50_000 };
  const directory = await temporaryDirectory();
  const notify = (_stack: Stack, bucket: Bucket, printer: LambdaFunction) =>
    bucket.addEventNotification(EventType.OBJECT_CREATED, new LambdaDestination(printer), { prefix: 'in/' });
  const first = await startApp(directory, notify);
  await mkdir(join(first.inbox, 'in', 'deep'), { recursive: true });
  await writeFile(join(first.inbox, 'in', 'deep', 'a'), 'a');
  await until(() => first.keys().length > 0, patient);
  await first.host.stop();

  const second = await startApp(directory, notify);
  await second.s3.put('inbox', 'in/put', Buffer.of(1));
  await writeFile(join(second.inbox, 'in', 'b'), 'b');
  await writeFile(join(second.inbox, 'elsewhere'), 'b');
  await until(() => second.keys().includes('in/b'), patient);
  await writeFile(join(second.inbox, 'in', 'b'), 'longer');
  await until(() => second.keys().length > 2, patient);
  await writeFile(join(second.inbox, 'in', 'last'), 'b');
  await until(() => second.keys().includes('in/last'), patient);
  expect(second.keys()).toEqual(['in/put', 'in/b', 'in/b', 'in/last']);
  expect(second.records().map(({ s3 }) => s3.object.size)).toEqual([1, 1, 6, 1]);
});

test('a bucket that is not in the app is a directory that can be copied into', async () => {
  const { host, s3, keys } = await startApp(await temporaryDirectory(), (stack, _bucket, printer) =>
    Bucket.fromBucketName(stack, 'Theirs', 'theirs').addEventNotification(
      EventType.OBJECT_CREATED_PUT,
      new LambdaDestination(printer),
    ),
  );
  await s3.put('theirs', 'a', Buffer.of(1));
  const uploadId = await s3.createUpload('theirs', 'b');
  const etag = await s3.uploadPart('theirs', 'b', uploadId, 1, Buffer.of(1));
  await s3.completeUpload('theirs', 'b', uploadId, [{ partNumber: 1, etag }]);
  await host.idle();
  expect(keys()).toEqual(['a']);
});

test('events of what is deleted, and events for queues, are refused', async () => {
  const removed = startApp(await temporaryDirectory(), (_stack, bucket, printer) =>
    bucket.addEventNotification(EventType.OBJECT_REMOVED, new LambdaDestination(printer)),
  );
  await expect(removed).rejects.toThrow(/App\/InNotifications\w+ .*s3:ObjectCreated events only/s);
  const queued = startApp(await temporaryDirectory(), (stack, bucket) =>
    bucket.addEventNotification(EventType.OBJECT_CREATED, new SqsDestination(new Queue(stack, 'Queue'))),
  );
  await expect(queued).rejects.toThrow(/tells Lambda functions of objects, not queues/);
});

test('a function of another language is left out, unless something here asks for it', async () => {
  const python = (stack: Stack, id: string) =>
    new LambdaFunction(stack, id, {
      runtime: Runtime.PYTHON_3_13,
      handler: 'index.handler',
      code: Code.fromInline('def handler(event, context): pass'),
    });
  const { host } = await startApp(await temporaryDirectory(), (stack) => void python(stack, 'Alone'));
  expect(host.functions.map(({ name }) => name)).toEqual(['printer']);
  const told = startApp(await temporaryDirectory(), (stack, bucket) =>
    bucket.addEventNotification(EventType.OBJECT_CREATED, new LambdaDestination(python(stack, 'Told'))),
  );
  await expect(told).rejects.toThrow(/App\/Told\w+ .*the local host runs Node.js functions only/s);
});

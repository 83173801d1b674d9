import {
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  PurgeQueueCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  SendMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { until } from '../../kit/until.ts';
import { type App, type RunningApp, run, sdk, temporaryDirectory } from './app.ts';

const log = 'export const handler = async (event) => console.log(JSON.stringify(event));';
const arnOf = (id: string) => ({ 'Fn::GetAtt': [id, 'Arn'] });
const queue = (properties: Record<string, unknown> = {}) => ({ Type: 'AWS::SQS::Queue', Properties: properties });
const mapping = (properties: Record<string, unknown> = {}) => ({
  Type: 'AWS::Lambda::EventSourceMapping',
  Properties: { EventSourceArn: arnOf('Orders'), FunctionName: { Ref: 'Work' }, ...properties },
});
/** A function that works through what Orders has; its timeout is the least that SQS can hide a message for. */
const worker = (code: string, Orders = queue({ VisibilityTimeout: 1 }), properties = {}): App => ({
  functions: { Work: code },
  functionProperties: { Work: { Timeout: 1 } },
  resources: { Orders, Mapping: mapping(properties) },
});

/** The real client, as a function has it. */
const clientOf = (app: RunningApp, id = 'Orders') => {
  const client = new SQSClient({
    endpoint: app.sqs.endpoint,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
    maxAttempts: 1,
  });
  onTestFinished(() => client.destroy());
  const QueueUrl = app.sqs.urls.find((url) => url.endsWith(`/App-${id}`))!;
  return {
    client,
    QueueUrl,
    send: (MessageBody: string, rest = {}) => client.send(new SendMessageCommand({ QueueUrl, MessageBody, ...rest })),
    receive: async (rest = {}) => (await client.send(new ReceiveMessageCommand({ QueueUrl, ...rest }))).Messages ?? [],
    remove: (ReceiptHandle: string) => client.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle })),
    async counts() {
      const answer = await client.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['All'] }));
      const { ApproximateNumberOfMessages: visible, ApproximateNumberOfMessagesNotVisible: hidden } =
        answer.Attributes!;
      return { visible: Number(visible), hidden: Number(hidden) };
    },
  };
};

const bodiesOf = (app: RunningApp, id = 'Work') =>
  app
    .lines(id)
    .flatMap((line) => (JSON.parse(line) as { Records: { body: string }[] }).Records.map(({ body }) => body));

describe('a queue', () => {
  test('gives what was sent, hides it, and gives it again until it is deleted', async () => {
    const { send, receive, remove, counts } = clientOf(
      await run({ resources: { Orders: queue({ VisibilityTimeout: 1 }) } }),
    );
    await send('one', { MessageAttributes: { kind: { DataType: 'String', StringValue: 'a' } } });
    const all = { AttributeNames: ['All' as const], MessageAttributeNames: ['All'] };
    const [first] = await receive(all);
    expect(first).toMatchObject({
      Body: 'one',
      Attributes: { ApproximateReceiveCount: '1' },
      MessageAttributes: { kind: { StringValue: 'a' } },
    });
    expect(await receive()).toEqual([]);
    expect(await counts()).toEqual({ visible: 0, hidden: 1 });
    const [again] = await receive({ ...all, WaitTimeSeconds: 5 });
    expect(again).toMatchObject({ MessageId: first!.MessageId, Attributes: { ApproximateReceiveCount: '2' } });
    await remove(again!.ReceiptHandle!);
    expect(await counts()).toEqual({ visible: 0, hidden: 0 });
  });

  test('is waited for, delays, takes ten at once, and can be emptied', async () => {
    const { client, QueueUrl, send, receive, counts } = clientOf(await run({ resources: { Orders: queue() } }));
    const waiting = receive({ WaitTimeSeconds: 20 });
    await send('late', { DelaySeconds: 1 });
    expect((await waiting).map(({ Body }) => Body)).toEqual(['late']);
    const Entries = Array.from({ length: 10 }, (_, n) => ({ Id: `m${n}`, MessageBody: `body ${n}` }));
    const sent = await client.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
    expect(sent.Successful).toHaveLength(10);
    expect(await receive({ MaxNumberOfMessages: 10, VisibilityTimeout: 0 })).toHaveLength(10);
    await client.send(new PurgeQueueCommand({ QueueUrl }));
    expect(await counts()).toEqual({ visible: 0, hidden: 0 });
    const found = await client.send(new GetQueueUrlCommand({ QueueName: 'App-Orders' }));
    expect(found.QueueUrl).toBe(QueueUrl);
  });

  test('that there is not, and what is not offered, is named', async () => {
    const { client, QueueUrl, remove, receive } = clientOf(await run({ resources: { Orders: queue() } }));
    const other = client.send(new GetQueueUrlCommand({ QueueName: 'other' }));
    await expect(other).rejects.toMatchObject({
      name: 'QueueDoesNotExist',
      message: expect.stringContaining(QueueUrl),
    });
    await expect(remove('nonsense')).rejects.toMatchObject({ name: 'ReceiptHandleIsInvalid' });
    await expect(receive({ MaxNumberOfMessages: 11 })).rejects.toThrow('MaxNumberOfMessages');
  });

  test('keeps its messages over a restart, and how often they were received', async () => {
    const directory = await temporaryDirectory();
    const app = { resources: { Orders: queue({ VisibilityTimeout: 3600 }) } };
    const first = await run(app, { directory });
    const before = clientOf(first);
    for (const body of ['stays', 'goes', 'stays too']) await before.send(body);
    for (const { Body, ReceiptHandle } of await before.receive({ MaxNumberOfMessages: 10 }))
      if (Body === 'goes') await before.remove(ReceiptHandle!);
    await first.stop();
    const { receive } = clientOf(await run(app, { directory }));
    const messages = await receive({ MaxNumberOfMessages: 10, AttributeNames: ['All'] });
    expect(messages.map(({ Body, Attributes }) => [Body, Attributes!.ApproximateReceiveCount])).toEqual([
      ['stays', '2'],
      ['stays too', '2'],
    ]);
  });
});

describe('a function that a queue wakes', () => {
  test('gets the messages as Lambda has them, and they are deleted', async () => {
    const app = await run(worker(log));
    const { send, counts } = clientOf(app);
    await send('hello', { MessageAttributes: { n: { DataType: 'Number', StringValue: '7' } } });
    await until(() => app.lines('Work').length > 0);
    expect(JSON.parse(app.lines('Work')[0]!).Records).toEqual([
      {
        messageId: expect.any(String),
        receiptHandle: expect.any(String),
        body: 'hello',
        attributes: {
          ApproximateReceiveCount: '1',
          SentTimestamp: expect.stringMatching(/^\d+$/),
          SenderId: 'local',
          ApproximateFirstReceiveTimestamp: expect.stringMatching(/^\d+$/),
        },
        messageAttributes: { n: { stringValue: '7', stringListValues: [], binaryListValues: [], dataType: 'Number' } },
        md5OfBody: '5d41402abc4b2a76b9719d911017c592',
        eventSource: 'aws:sqs',
        eventSourceARN: 'arn:aws:sqs:us-east-1:000000000000:App-Orders',
        awsRegion: 'us-east-1',
      },
    ]);
    await app.idle();
    expect(await counts()).toEqual({ visible: 0, hidden: 0 });
  });

  test('gets no more than its batch size at once, and what a window brings together', async () => {
    const app = await run(
      worker(log, queue(), {
        BatchSize: 3,
        MaximumBatchingWindowInSeconds: 1,
        ScalingConfig: { MaximumConcurrency: 1 },
      }),
    );
    const { send } = clientOf(app);
    for (const body of ['a', 'b', 'c', 'd']) await send(body);
    await app.idle();
    expect(app.lines('Work').map((line) => JSON.parse(line).Records.length)).toEqual([3, 1]);
  });

  test('that fails gets them again, and then the dead letter queue does', async () => {
    const failing =
      'export const handler = async (event) => { console.log(JSON.stringify(event)); throw new Error("no"); };';
    const redrive = { deadLetterTargetArn: arnOf('Letters'), maxReceiveCount: 2 };
    const app = worker(failing, queue({ VisibilityTimeout: 1, RedrivePolicy: redrive }));
    const running = await run({ ...app, resources: { Letters: queue(), ...app.resources } });
    await clientOf(running).send('poison');
    const letters = clientOf(running, 'Letters');
    const [letter] = await letters.receive({ WaitTimeSeconds: 20 });
    expect(letter).toMatchObject({ Body: 'poison' });
    expect(bodiesOf(running)).toEqual(['poison', 'poison']);
  });

  test('may name those that failed: only they come again', async () => {
    const picky = `let first = true;
export const handler = async (event) => {
  console.log(JSON.stringify(event));
  const bad = event.Records.filter(({ body }) => body === 'bad' && first);
  first = bad.length === 0;
  return { batchItemFailures: bad.map(({ messageId }) => ({ itemIdentifier: messageId })) };
};`;
    const properties = {
      FunctionResponseTypes: ['ReportBatchItemFailures'],
      MaximumBatchingWindowInSeconds: 1,
      ScalingConfig: { MaximumConcurrency: 1 },
    };
    const app = await run(worker(picky, queue({ VisibilityTimeout: 3 }), properties));
    const { send } = clientOf(app);
    for (const body of ['good', 'bad']) await send(body);
    await app.idle();
    expect(bodiesOf(app).sort()).toEqual(['bad', 'bad', 'good']);
  });

  test('can send to it, by the URL that its variables hold', async () => {
    const sender = `import { SendMessageCommand, SQSClient } from '${sdk('@aws-sdk/client-sqs')}';
export const handler = async (body) => {
  await new SQSClient({}).send(new SendMessageCommand({ QueueUrl: process.env.QUEUE, MessageBody: body }));
};`;
    const app = worker(log);
    const running = await run({
      ...app,
      functions: { ...app.functions, Send: sender },
      functionProperties: {
        ...app.functionProperties,
        Send: { Environment: { Variables: { QUEUE: { Ref: 'Orders' } } } },
      },
    });
    expect(await running.call('Send', 'from within')).toMatchObject({ statusCode: 200, payload: null });
    await running.idle();
    expect(bodiesOf(running)).toEqual(['from within']);
  });

  test('of a queue that is no part of the app is woken by one that is made here', async () => {
    const EventSourceArn = 'arn:aws:sqs:eu-central-1:123456789012:theirs';
    const app = await run({ functions: { Work: log }, resources: { Mapping: mapping({ EventSourceArn }) } });
    const QueueUrl = app.sqs.urls[0]!;
    expect(QueueUrl).toBe(`${app.sqs.endpoint}/123456789012/theirs`);
    await clientOf(app).client.send(new SendMessageCommand({ QueueUrl, MessageBody: 'x' }));
    await app.idle();
    expect(bodiesOf(app)).toEqual(['x']);
  });

  test('that may take longer than its messages are hidden is refused', async () => {
    const app = { ...worker(log), functionProperties: { Work: { Timeout: 2 } } };
    await expect(run(app)).rejects.toThrow(
      'hides its messages for 1 s, App-Work may take 2 s; raise its VisibilityTimeout',
    );
  });
});

test('a queue takes what an event failed for', async () => {
  const app = await run({
    functions: { Work: 'export const handler = async () => { throw new Error("no"); };' },
    resources: {
      Failed: queue(),
      Config: {
        Type: 'AWS::Lambda::EventInvokeConfig',
        Properties: {
          FunctionName: { Ref: 'Work' },
          Qualifier: '$LATEST',
          MaximumRetryAttempts: 0,
          DestinationConfig: { OnFailure: { Destination: arnOf('Failed') } },
        },
      },
    },
  });
  await app.invoke('App-Work', { task: 7 }, 'Event');
  const [message] = await clientOf(app, 'Failed').receive({ WaitTimeSeconds: 20 });
  expect(JSON.parse(message!.Body!)).toMatchObject({
    requestContext: { condition: 'RetriesExhausted' },
    requestPayload: { task: 7 },
  });
});

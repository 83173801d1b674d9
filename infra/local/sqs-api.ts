import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import * as z from 'zod';
import { listen } from './listen.ts';
import { type Message, md5, type Queue, type ReceivedMessage } from './sqs-queue.ts';

/** An error of the SQS API: by the name that clients of its JSON protocol know, and the code of the older one. */
class SqsError extends Error {
  readonly code: string;
  constructor(name: string, code: string, message: string) {
    super(message);
    this.name = name;
    this.code = code;
  }
}

const seconds = z.int().min(0).max(43_200);
const MessageAttributes = z.record(
  z.string(),
  z.object({ DataType: z.string(), StringValue: z.string().optional(), BinaryValue: z.string().optional() }),
);
const Content = z.object({
  MessageBody: z.string().min(1),
  DelaySeconds: seconds.optional(),
  MessageAttributes: MessageAttributes.default({}),
});
const entries = <Entry extends z.ZodType>(entry: Entry) => z.object({ Entries: z.array(entry).min(1).max(10) });
const Receive = z.object({
  MaxNumberOfMessages: z.int().min(1).max(10).default(1),
  VisibilityTimeout: seconds.optional(),
  WaitTimeSeconds: z.int().min(0).max(20).optional(),
  AttributeNames: z.array(z.string()).default([]),
  MessageSystemAttributeNames: z.array(z.string()).default([]),
  MessageAttributeNames: z.array(z.string()).default([]),
});
const Handle = z.object({ ReceiptHandle: z.string() });

type Operation = (queue: Queue, input: unknown, signal: AbortSignal) => Promise<object>;

/** 256 KB were the limit for years; it is 1 MB by now. */
const MAX_BYTES = 1_048_576;

const send = async (queue: Queue, input: z.output<typeof Content>): Promise<object> => {
  const bytes = Buffer.byteLength(input.MessageBody);
  if (bytes > MAX_BYTES)
    throw invalid(`One or more parameters are invalid. Reason: Message must be shorter than ${MAX_BYTES} bytes.`);
  const content = { body: input.MessageBody, attributes: input.MessageAttributes };
  const delayMs = input.DelaySeconds === undefined ? undefined : input.DelaySeconds * 1000;
  const { id } = await queue.send(content, delayMs);
  return { MessageId: id, MD5OfMessageBody: md5(input.MessageBody) };
};

const remove = (queue: Queue, { ReceiptHandle }: z.output<typeof Handle>): object => {
  if (!queue.remove(ReceiptHandle))
    throw new SqsError('ReceiptHandleIsInvalid', 'ReceiptHandleIsInvalid', 'The input receipt handle is invalid.');
  return {};
};

/** Each entry by itself: one that fails does not fail the others. */
const each = async <Entry extends { Id: string }>(
  list: readonly Entry[],
  work: (entry: Entry) => object | Promise<object>,
): Promise<object> => {
  const Successful: object[] = [];
  const Failed: object[] = [];
  for (const entry of list)
    try {
      Successful.push({ Id: entry.Id, ...(await work(entry)) });
    } catch (error) {
      if (!(error instanceof SqsError)) throw error;
      Failed.push({ Id: entry.Id, SenderFault: true, Code: error.code, Message: error.message });
    }
  return { Successful, ...(Failed.length > 0 ? { Failed } : {}) };
};

const operations: Record<string, Operation> = {
  SendMessage: (queue, input) => send(queue, read(Content, input)),
  SendMessageBatch: (queue, input) =>
    each(read(entries(Content.extend({ Id: z.string() })), input).Entries, (entry) => send(queue, entry)),
  async ReceiveMessage(queue, input, signal) {
    const asked = read(Receive, input);
    const withAttributes = asked.AttributeNames.length + asked.MessageSystemAttributeNames.length > 0;
    const received = await queue.receive(asked.MaxNumberOfMessages, {
      ...(asked.VisibilityTimeout === undefined ? {} : { visibilityMs: asked.VisibilityTimeout * 1000 }),
      waitMs: asked.WaitTimeSeconds === undefined ? queue.definition.receiveWaitMs : asked.WaitTimeSeconds * 1000,
      signal,
    });
    const Messages = received.map((message) => ({
      ...messageOf(message),
      ...(withAttributes ? { Attributes: systemAttributes(message) } : {}),
      ...(asked.MessageAttributeNames.length > 0 ? { MessageAttributes: message.attributes } : {}),
    }));
    return Messages.length === 0 ? {} : { Messages };
  },
  DeleteMessage: async (queue, input) => remove(queue, read(Handle, input)),
  DeleteMessageBatch: (queue, input) =>
    each(read(entries(Handle.extend({ Id: z.string() })), input).Entries, (entry) => remove(queue, entry)),
  async PurgeQueue(queue) {
    queue.purge();
    return {};
  },
  async GetQueueAttributes(queue) {
    const { definition } = queue;
    const { visible, hidden, delayed } = queue.counts();
    return {
      Attributes: {
        QueueArn: definition.arn,
        ApproximateNumberOfMessages: String(visible),
        ApproximateNumberOfMessagesNotVisible: String(hidden),
        ApproximateNumberOfMessagesDelayed: String(delayed),
        VisibilityTimeout: String(definition.visibilityMs / 1000),
        DelaySeconds: String(definition.delayMs / 1000),
        MessageRetentionPeriod: String(definition.retentionMs / 1000),
        ReceiveMessageWaitTimeSeconds: String(definition.receiveWaitMs / 1000),
        ...(definition.deadLetter
          ? {
              RedrivePolicy: JSON.stringify({
                deadLetterTargetArn: definition.deadLetter.arn,
                maxReceiveCount: definition.deadLetter.maxReceiveCount,
              }),
            }
          : {}),
      },
    };
  },
};

const messageOf = ({ id, receiptHandle, body }: ReceivedMessage) => ({
  MessageId: id,
  ReceiptHandle: receiptHandle,
  Body: body,
  MD5OfBody: md5(body),
});

export const systemAttributes = ({ receives, sentAtMs, firstReceivedAtMs }: Message) => ({
  ApproximateReceiveCount: String(receives),
  SentTimestamp: String(sentAtMs),
  SenderId: 'local',
  ApproximateFirstReceiveTimestamp: String(firstReceivedAtMs),
});

function read<Schema extends z.ZodType>(schema: Schema, input: unknown): z.output<Schema> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw invalid(z.prettifyError(parsed.error));
}

const invalid = (message: string) => new SqsError('InvalidParameterValue', 'InvalidParameterValue', message);

export interface SqsApi {
  endpoint: string;
  urlOf(queue: Queue): string;
  stop(): Promise<void>;
}

/** SQS by its JSON protocol, as far as senders and receivers need it. */
export async function startSqsApi(queues: () => readonly Queue[]): Promise<SqsApi> {
  const stopping = new AbortController();
  const server = createServer((request, response) => {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    void answer(request, response, api, queues(), AbortSignal.any([stopping.signal, gone.signal]));
  });
  // A client keeps connections open for reuse; one that the server closes first is a reset there.
  server.keepAliveTimeout = 600_000;
  const port = await listen(server);
  const api: SqsApi = {
    endpoint: `http://127.0.0.1:${port}`,
    urlOf: ({ definition: { arn, name } }) => `${api.endpoint}/${arn.split(':')[4]}/${name}`,
    async stop() {
      stopping.abort();
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return api;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  api: SqsApi,
  queues: readonly Queue[],
  signal: AbortSignal,
): Promise<void> {
  try {
    const input = await inputOf(request);
    const result = await perform(nameOf(request), input, api, queues, signal);
    response.writeHead(200, { 'content-type': 'application/x-amz-json-1.0' }).end(JSON.stringify(result));
  } catch (error) {
    const { name, code, message } =
      error instanceof SqsError ? error : new SqsError('InternalFailure', 'InternalFailure', (error as Error).message);
    const status = error instanceof SqsError ? 400 : 500;
    response.writeHead(status, {
      'content-type': 'application/x-amz-json-1.0',
      'x-amzn-query-error': `${code};Sender`,
    });
    response.end(JSON.stringify({ __type: `com.amazonaws.sqs#${name}`, message }));
  }
}

const nameOf = (request: IncomingMessage): string =>
  String(request.headers['x-amz-target'] ?? request.url).replace(/^AmazonSQS\./, '');

async function perform(
  name: string,
  input: { QueueUrl?: string | undefined; QueueName?: string | undefined },
  api: SqsApi,
  queues: readonly Queue[],
  signal: AbortSignal,
): Promise<object> {
  const isAsked = (queue: Queue) =>
    name === 'GetQueueUrl' ? queue.definition.name === input.QueueName : api.urlOf(queue) === input.QueueUrl;
  const operation = Object.hasOwn(operations, name) ? operations[name] : undefined;
  if (operation === undefined && name !== 'GetQueueUrl')
    throw new SqsError(
      'UnsupportedOperation',
      'AWS.SimpleQueueService.UnsupportedOperation',
      `the local host does not offer ${name}`,
    );
  const queue = queues.find(isAsked);
  if (queue === undefined)
    throw new SqsError(
      'QueueDoesNotExist',
      'AWS.SimpleQueueService.NonExistentQueue',
      `The specified queue does not exist: ${input.QueueUrl ?? input.QueueName}; there are ${queues.map(api.urlOf).join(', ') || 'none'}`,
    );
  return operation === undefined ? { QueueUrl: api.urlOf(queue) } : operation(queue, input, signal);
}

const Input = z.looseObject({ QueueUrl: z.string().optional(), QueueName: z.string().optional() });

async function inputOf(request: IncomingMessage): Promise<z.output<typeof Input>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  try {
    return Input.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')));
  } catch (error) {
    throw invalid(`the body is no JSON object of the SQS API: ${(error as Error).message}`);
  }
}

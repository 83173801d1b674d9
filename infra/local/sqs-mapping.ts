import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import * as z from 'zod';
import type { Activity } from './activity.ts';
import { type Functions, HostStoppingError, type InvocationResult, TooManyRequestsException } from './functions.ts';
import type { Intrinsics } from './intrinsics.ts';
import { continueTrace } from './lineage.ts';
import { flag, functionNameOf, integer, parseProperties, unsupported } from './properties.ts';
import { isQueueArn, type Queues } from './sqs.ts';
import { systemAttributes } from './sqs-api.ts';
import { type MessageAttribute, md5, type Queue, type ReceivedMessage } from './sqs-queue.ts';
import type { Resource } from './template.ts';

/** AWS::Lambda::EventSourceMapping of a queue, resolved. */
export interface QueueMapping {
  queueArn: string;
  functionName: string;
  enabled: boolean;
  batchSize: number;
  batchingWindowMs: number;
  reportBatchItemFailures: boolean;
  maxConcurrency: number;
}

const mappingProperties = z.object({
  EventSourceArn: z.string(),
  FunctionName: z.string(),
  Enabled: flag.default(true),
  BatchSize: integer.default(10),
  MaximumBatchingWindowInSeconds: integer.default(0),
  FunctionResponseTypes: z.array(z.enum(['ReportBatchItemFailures'])).default([]),
  ScalingConfig: z.object({ MaximumConcurrency: integer }).optional(),
  FilterCriteria: unsupported('filters of messages do not run locally; filter in the function'),
});

/** What Lambda begins with; it adds more while messages wait. */
const CONCURRENCY = 5;

export function isQueueMapping(resource: Resource, intrinsics: Intrinsics): boolean {
  if (resource.type !== 'AWS::Lambda::EventSourceMapping') return false;
  return isQueueArn(String(intrinsics.properties(resource).EventSourceArn));
}

export function describeQueueMapping(resource: Resource, intrinsics: Intrinsics): QueueMapping {
  const properties = parseProperties(mappingProperties, resource, intrinsics);
  return {
    queueArn: properties.EventSourceArn,
    functionName: functionNameOf(properties.FunctionName),
    enabled: properties.Enabled,
    batchSize: properties.BatchSize,
    batchingWindowMs: properties.MaximumBatchingWindowInSeconds * 1000,
    reportBatchItemFailures: properties.FunctionResponseTypes.includes('ReportBatchItemFailures'),
    maxConcurrency: Math.min(CONCURRENCY, properties.ScalingConfig?.MaximumConcurrency ?? CONCURRENCY),
  };
}

/** @throws where AWS refuses the mapping: its messages would be visible again while the function works on them */
export async function queueOf(mapping: QueueMapping, queues: Queues, functions: Functions): Promise<Queue> {
  const { timeoutMs } = functions.find(mapping.functionName)!;
  const queue = await queues.provide(mapping.queueArn, timeoutMs);
  const { visibilityMs } = queue.definition;
  if (visibilityMs >= timeoutMs) return queue;
  throw new Error(
    `queue ${mapping.queueArn} hides its messages for ${visibilityMs / 1000} s, ${mapping.functionName} may take ${timeoutMs / 1000} s; raise its VisibilityTimeout`,
  );
}

export interface QueueDeliveryOptions {
  functions: Functions;
  activity: Activity;
  onLog: (functionName: string, line: string) => unknown;
}

export interface QueueDelivery {
  /** Resolves when no message is left. */
  caughtUp(): Promise<void>;
  stop(): Promise<void>;
}

/** Takes messages, and deletes those that the function did. The others come again when they are visible again. */
export function startQueueDelivery(
  mappings: { mapping: QueueMapping; queue: Queue }[],
  { functions, activity, onLog }: QueueDeliveryOptions,
): QueueDelivery {
  const stopping = new AbortController();
  const { signal } = stopping;

  async function deliver(mapping: QueueMapping, queue: Queue, messages: ReceivedMessage[]): Promise<void> {
    try {
      const { traceId } = continueTrace(undefined, mapping.functionName);
      const result = await functions.invoke(mapping.functionName, {
        payload: JSON.stringify({ Records: messages.map((message) => eventRecord(message, queue)) }),
        requestId: randomUUID(),
        traceId,
        whenBusy: 'throttle',
      });
      for (const { receiptHandle } of doneOf(messages, result, mapping)) queue.remove(receiptHandle);
    } catch (error) {
      if (error instanceof TooManyRequestsException || error instanceof HostStoppingError) return;
      onLog(mapping.functionName, `messages of ${mapping.queueArn} were not delivered: ${(error as Error).message}`);
    }
  }

  async function poll({ mapping, queue }: (typeof mappings)[number]): Promise<void> {
    while (!signal.aborted) {
      const messages = await queue.receive(mapping.batchSize, { waitMs: 20_000, signal });
      const untilMs = Date.now() + mapping.batchingWindowMs;
      while (messages.length > 0 && messages.length < mapping.batchSize && Date.now() < untilMs && !signal.aborted)
        messages.push(
          ...(await queue.receive(mapping.batchSize - messages.length, { waitMs: untilMs - Date.now(), signal })),
        );
      if (messages.length > 0 && !signal.aborted) await activity.track(deliver(mapping, queue, messages));
    }
  }

  const active = mappings.filter(({ mapping }) => mapping.enabled);
  const running = Promise.all(
    active.flatMap((one) => Array.from({ length: one.mapping.maxConcurrency }, () => poll(one))),
  );
  return {
    async caughtUp() {
      const isLeft = ({ queue }: (typeof mappings)[number]) => Object.values(queue.counts()).some((count) => count > 0);
      while (!signal.aborted && active.some(isLeft)) await delay(5);
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

function doneOf(messages: ReceivedMessage[], result: InvocationResult, mapping: QueueMapping): ReceivedMessage[] {
  if (result.error) return [];
  if (!mapping.reportBatchItemFailures) return messages;
  const answer = JSON.parse(result.payload) as { batchItemFailures?: { itemIdentifier?: unknown }[] } | null;
  const failed = (answer?.batchItemFailures ?? []).map(({ itemIdentifier }) => itemIdentifier);
  // An identifier that is missing or unknown fails the whole batch, as on AWS.
  if (failed.some((id) => !messages.some((message) => message.id === id))) return [];
  return messages.filter(({ id }) => !failed.includes(id));
}

function eventRecord(message: ReceivedMessage, { definition: { arn } }: Queue) {
  return {
    messageId: message.id,
    receiptHandle: message.receiptHandle,
    body: message.body,
    attributes: systemAttributes(message),
    messageAttributes: Object.fromEntries(
      Object.entries(message.attributes).map(([name, attribute]) => [name, eventAttribute(attribute)]),
    ),
    md5OfBody: md5(message.body),
    eventSource: 'aws:sqs',
    eventSourceARN: arn,
    awsRegion: arn.split(':')[3],
  };
}

const eventAttribute = ({ DataType, StringValue, BinaryValue }: MessageAttribute) => ({
  ...(StringValue === undefined ? {} : { stringValue: StringValue }),
  ...(BinaryValue === undefined ? {} : { binaryValue: BinaryValue }),
  stringListValues: [],
  binaryListValues: [],
  dataType: DataType,
});

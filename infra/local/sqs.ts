import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import type { Intrinsics } from './intrinsics.ts';
import { flag, integer, parseProperties } from './properties.ts';
import { startSqsApi } from './sqs-api.ts';
import { openQueue, type Queue, type QueueDefinition } from './sqs-queue.ts';
import type { Resource } from './template.ts';

export interface Queues {
  endpoint: string;
  urls(): string[];
  /** A queue that is no part of the app: here it is made, so that what waits for its messages can be tried. */
  provide(arn: string, visibilityMs: number): Promise<Queue>;
  stop(): Promise<void>;
}

const redrive = z.object({
  deadLetterTargetArn: z.string(),
  maxReceiveCount: integer,
});
const queueProperties = z.object({
  FifoQueue: flag.refine((fifo) => !fifo, 'FIFO queues do not run locally; use a standard queue').optional(),
  VisibilityTimeout: integer.default(30),
  DelaySeconds: integer.default(0),
  MessageRetentionPeriod: integer.default(345_600),
  ReceiveMessageWaitTimeSeconds: integer.default(0),
  RedrivePolicy: redrive.optional(),
});

export function isQueueArn(arn: string): boolean {
  return /^arn:[\w-]+:sqs:/.test(arn);
}

/** The queues of the app, with the messages that an earlier run left in them. What refers to one by its URL is resolved after this. */
export async function startQueues(
  resources: Resource[],
  intrinsics: Intrinsics,
  directory: string,
  onError: (name: string, error: Error) => void,
): Promise<Queues> {
  await mkdir(directory, { recursive: true });
  const queues = new Map<string, Queue>();
  const api = await startSqsApi(() => [...queues.values()]);

  async function open(definition: QueueDefinition): Promise<Queue> {
    const queue = await openQueue(definition, {
      path: join(directory, `${definition.name}.jsonl`),
      sendToDeadLetters: async (arn, content) => (await provide(arn, definition.visibilityMs)).send(content),
      onError: (error) => onError(definition.name, error),
    });
    queues.set(definition.arn, queue);
    return queue;
  }

  const opening = new Map<string, Promise<Queue>>();

  async function provide(arn: string, visibilityMs: number): Promise<Queue> {
    const name = arn.split(':')[5] ?? arn;
    const elsewhere = { name, arn, visibilityMs, delayMs: 0, retentionMs: 345_600_000, receiveWaitMs: 0 };
    const found = queues.get(arn);
    if (found) return found;
    // Who asks for it at the same time gets the same one.
    if (!opening.has(arn)) opening.set(arn, open(elsewhere));
    return opening.get(arn)!;
  }

  for (const resource of resources.filter(({ type }) => type === 'AWS::SQS::Queue')) {
    const url = api.urlOf(await open(describeQueue(resource, intrinsics)));
    intrinsics.assign(resource, { ref: url, attributes: { QueueUrl: url } });
  }
  return {
    endpoint: api.endpoint,
    urls: () => [...queues.values()].map(api.urlOf),
    provide,
    async stop() {
      await api.stop();
      await Promise.all([...queues.values()].map((queue) => queue.close()));
    },
  };
}

function describeQueue(resource: Resource, intrinsics: Intrinsics): QueueDefinition {
  const properties = parseProperties(queueProperties, resource, intrinsics);
  const { name, attributes } = intrinsics.identityOf(resource);
  const { RedrivePolicy } = properties;
  return {
    name,
    arn: attributes.Arn!,
    visibilityMs: properties.VisibilityTimeout * 1000,
    delayMs: properties.DelaySeconds * 1000,
    retentionMs: properties.MessageRetentionPeriod * 1000,
    receiveWaitMs: properties.ReceiveMessageWaitTimeSeconds * 1000,
    deadLetter: RedrivePolicy && {
      arn: RedrivePolicy.deadLetterTargetArn,
      maxReceiveCount: RedrivePolicy.maxReceiveCount,
    },
  };
}

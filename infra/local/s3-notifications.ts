import { randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import * as z from 'zod';
import type { Intrinsics } from './intrinsics.ts';
import type { Invoke } from './lambda-api.ts';
import { parseProperties, unsupported } from './properties.ts';
import type { S3Server } from './s3.ts';
import type { Creation, StoredObject } from './s3-store.ts';
import { timeText, urlEncoded } from './s3-xml.ts';
import type { Resource } from './template.ts';

/** What a bucket tells a function: objects that are created under a prefix, with a suffix. */
export interface Notification {
  bucket: string;
  region: string;
  functionArn: string;
  /** `s3:ObjectCreated:*` */
  events: string[];
  prefix: string;
  suffix: string;
}

const filterRule = z.object({
  Name: z.string().transform((name) => name.toLowerCase()),
  Value: z.string(),
});
const notificationProperties = z.object({
  BucketName: z.string(),
  NotificationConfiguration: z.object({
    LambdaFunctionConfigurations: z
      .array(
        z.object({
          Events: z.array(
            z.string().startsWith('s3:ObjectCreated:', 'the local host tells of s3:ObjectCreated events only'),
          ),
          LambdaFunctionArn: z.string(),
          Filter: z.object({ Key: z.object({ FilterRules: z.array(filterRule) }) }).optional(),
        }),
      )
      .default([]),
    QueueConfigurations: unsupported('the local host tells Lambda functions of objects, not queues'),
    TopicConfigurations: unsupported('the local host tells Lambda functions of objects, not topics'),
  }),
});

/** Of a Custom::S3BucketNotifications, which on AWS a function of the CDK would set. */
export function describeNotifications(resource: Resource, intrinsics: Intrinsics): Notification[] {
  const { BucketName, NotificationConfiguration } = parseProperties(notificationProperties, resource, intrinsics);
  return NotificationConfiguration.LambdaFunctionConfigurations.map(({ Events, LambdaFunctionArn, Filter }) => {
    const ruleOf = (name: string) => Filter?.Key.FilterRules.find((rule) => rule.Name === name)?.Value ?? '';
    return {
      bucket: BucketName,
      region: resource.stack.region,
      functionArn: LambdaFunctionArn,
      events: Events,
      prefix: ruleOf('prefix'),
      suffix: ruleOf('suffix'),
    };
  });
}

export interface NotificationsOptions {
  s3: S3Server;
  invoke: Invoke;
  /** A function could not be told. */
  onError: (notification: Notification, error: Error) => void;
}

export interface Notifications {
  stop(): Promise<void>;
}

/** A file that is seen for the first time, or changed, is an object once it stayed the same between two looks. */
const LOOK_EVERY_MS = 1_000;
/** Looking takes a fiftieth of one core at most. */
const REST_PER_LOOK = 50;

/** Tells functions of objects that are created from now on: by a request, and by hand as files in a bucket's directory. */
export async function startNotifications(
  notifications: Notification[],
  options: NotificationsOptions,
): Promise<Notifications> {
  const watched = notifications.map((notification) => watch(notification, options));
  for (const { look } of watched) await look();
  options.s3.onCreated((...created) => {
    for (const { created: tell } of watched) tell(...created);
  });
  const stopping = new AbortController();
  const running = Promise.all(watched.map(({ look, notification }) => lookOn(look, notification)));

  async function lookOn(look: () => Promise<void>, notification: Notification): Promise<void> {
    for (let tookMs = 0; !stopping.signal.aborted; ) {
      const restMs = Math.max(LOOK_EVERY_MS, tookMs * REST_PER_LOOK);
      await delay(restMs, undefined, { signal: stopping.signal }).catch(() => {});
      const startMs = performance.now();
      if (!stopping.signal.aborted) await look().catch((error: Error) => options.onError(notification, error));
      tookMs = performance.now() - startMs;
    }
  }

  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

function watch(notification: Notification, { s3, invoke, onError }: NotificationsOptions) {
  const { bucket, events, prefix, suffix, functionArn } = notification;
  const known = new Map<string, { stamp: string; told: boolean; seenAt: number }>();
  let looks = 0;

  const isOfInterest = (key: string): boolean => key.startsWith(prefix) && key.endsWith(suffix);

  function tell(object: StoredObject, creation: Creation): void {
    const name = `ObjectCreated:${creation}`;
    if (!events.some((event) => event === 's3:ObjectCreated:*' || event === `s3:${name}`)) return;
    invoke(functionArn, JSON.stringify({ Records: [eventRecord(notification, object, name)] }), 'Event').catch(
      (error: Error) => onError(notification, error),
    );
  }

  /** The first look only takes in what is there. */
  async function look(): Promise<void> {
    looks += 1;
    for await (const key of s3.store.keys(bucket, prefix, '')) {
      const stamp = key.endsWith(suffix) ? await stampAt(s3.store.pathOf(bucket, key)) : undefined;
      if (stamp === undefined) continue;
      const last = known.get(key);
      const isSame = last?.stamp === stamp;
      known.set(key, { stamp, told: looks === 1 || isSame, seenAt: looks });
      if (!isSame || last.told) continue;
      const object = await s3.store.describe(bucket, key);
      if (object) tell(object, 'Put');
    }
    for (const [key, { seenAt }] of known) if (seenAt < looks) known.delete(key);
  }

  return {
    notification,
    look,
    created(inBucket: string, object: StoredObject, creation: Creation): void {
      if (inBucket !== bucket || !isOfInterest(object.key)) return;
      known.set(object.key, { stamp: stampOf(object.size, object.modifiedMs), told: true, seenAt: looks + 1 });
      tell(object, creation);
    },
  };
}

const stampOf = (size: number, modifiedMs: number): string => `${size} ${modifiedMs}`;

async function stampAt(path: string): Promise<string | undefined> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found?.isFile() ? stampOf(Number(found.size), Number(found.mtimeMs)) : undefined;
}

let sequence = 0;

function eventRecord({ bucket, region }: Notification, { key, size, etag }: StoredObject, eventName: string) {
  const now = Date.now();
  sequence += 1;
  return {
    eventVersion: '2.1',
    eventSource: 'aws:s3',
    awsRegion: region,
    eventTime: timeText(now),
    eventName,
    userIdentity: { principalId: 'local' },
    requestParameters: { sourceIPAddress: '127.0.0.1' },
    responseElements: { 'x-amz-request-id': randomUUID(), 'x-amz-id-2': 'local' },
    s3: {
      s3SchemaVersion: '1.0',
      configurationId: 'local',
      bucket: { name: bucket, ownerIdentity: { principalId: 'local' }, arn: `arn:aws:s3:::${bucket}` },
      object: {
        key: urlEncoded(key),
        size,
        eTag: etag,
        sequencer: (BigInt(now) * 1_000_000n + BigInt(sequence)).toString(16).toUpperCase().padStart(18, '0'),
      },
    },
  };
}

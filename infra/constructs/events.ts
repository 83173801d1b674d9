import { EventSourceMapping, type Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import { Bucket, EventType, type IBucket } from 'aws-cdk-lib/aws-s3';
import { LambdaDestination } from 'aws-cdk-lib/aws-s3-notifications';
import { CfnQueue, type IQueue, Queue } from 'aws-cdk-lib/aws-sqs';
import { Annotations, type Duration, Stack, Token } from 'aws-cdk-lib/core';
import type { Construct, IConstruct } from 'constructs';
import { s3Place } from '../../functions/file/path-config.ts';
import type { TriggerParts } from './trigger.ts';

/** A message says nothing but that there is something: as many as come together make one run. */
const messagesPerRun = 10;
/** What SQS takes where a queue does not say it. */
const defaultVisibilitySeconds = 30;

/** Objects that are written wake a function. `after` is what it needs to be there, and what goes after the events. */
export const wakeByObjects = (
  scope: Construct,
  target: LambdaFunction,
  { bucket, prefix, suffix }: NonNullable<TriggerParts['objects']>,
  after: IConstruct,
): void => {
  const destination = new LambdaDestination(target);
  const filter = { ...(prefix ? { prefix } : {}), ...(suffix ? { suffix } : {}) };
  localBucket(scope, bucket).addEventNotification(
    EventType.OBJECT_CREATED,
    {
      bind(at, of) {
        const bound = destination.bind(at, of);
        return { ...bound, dependencies: [...(bound.dependencies ?? []), after] };
      },
    },
    // The CDK refuses an empty filter.
    ...(Object.keys(filter).length > 0 ? [filter] : []),
  );
};

/** A bucket of another stack is taken by its name: that stack may need nothing of this one, because this one needs it. */
const localBucket = (scope: Construct, bucket: IBucket | string): IBucket => {
  if (typeof bucket !== 'string' && Stack.of(bucket) === Stack.of(scope)) return bucket;
  return Bucket.fromBucketName(scope, 'TriggerBucket', typeof bucket === 'string' ? bucket : bucket.bucketName);
};

/** Messages wake a function, and are deleted then. */
export const wakeByMessages = (
  scope: Construct,
  target: LambdaFunction,
  timeout: Duration,
  given: IQueue | string,
  after: IConstruct,
): void => {
  const queue = typeof given === 'string' ? Queue.fromQueueArn(scope, 'TriggerQueue', given) : given;
  const granted = queue.grantConsumeMessages(target);
  const mapping = new EventSourceMapping(scope, 'Messages', {
    target,
    eventSourceArn: queue.queueArn,
    batchSize: messagesPerRun,
  });
  granted.applyBefore(mapping);
  mapping.node.addDependency(after);
  // When the app is synthesized: until then the queue may be changed.
  scope.node.addValidation({ validate: () => visibilityProblems(queue, timeout) });
};

/** AWS refuses a mapping whose messages would appear again while the function still works on them. */
const visibilityProblems = (queue: IQueue, timeout: Duration): string[] => {
  const resource = queue.node.defaultChild;
  if (!(resource instanceof CfnQueue)) return [];
  const visibility = resource.visibilityTimeout ?? defaultVisibilitySeconds;
  if (Token.isUnresolved(visibility) || visibility >= timeout.toSeconds()) return [];
  return [
    `trigger: messages of ${queue.node.path} are hidden for ${visibility} s, less than the ${timeout.toSeconds()} s that a run may take; give the queue visibilityTimeout: Duration.seconds(${timeout.toSeconds()}) or more, or the connector a shorter timeout`,
  ];
};

/**
 * Warns where the events of a bucket and the path that a source reads do not go together: events of other objects wake it for nothing,
 * and its own objects wait for the hourly run.
 */
export const warnOfOtherObjects = (
  scope: Construct,
  { bucket, prefix = '' }: NonNullable<TriggerParts['objects']>,
  config: unknown,
): void => {
  const path = (config as { readonly path?: unknown } | undefined)?.path;
  const read = typeof path === 'string' ? s3Place(path) : undefined;
  if (read === undefined) return;
  const warn = (what: string) => Annotations.of(scope).addWarningV2('sluice:s3-trigger', `trigger: ${what}`);
  const name = typeof bucket === 'string' ? bucket : bucket.bucketName;
  if (read.bucket !== name) warn(`it is woken by objects of another bucket than the one it reads, ${path}`);
  // Up to the last folder that is named without a pattern.
  const folder = read.prefix.replace(/[^/]*$/, '');
  if (read.bucket === name && !prefix.startsWith(folder))
    warn(`objects under "${prefix}" wake it, but it reads those under "${folder}"; give prefix: '${folder}'`);
};

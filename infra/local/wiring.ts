import { describeEventInvokeConfig, type EventInvokeConfig } from './event-queue.ts';
import { describeEventSourceMapping, type EventSourceMapping } from './event-source-mapping.ts';
import type { Functions } from './functions.ts';
import type { Intrinsics } from './intrinsics.ts';
import { functionNameOf } from './properties.ts';
import { describeNotifications, type Notification } from './s3-notifications.ts';
import { describeSchedules, isSchedule, type Schedule } from './schedules.ts';
import { isQueueArn } from './sqs.ts';
import { describeQueueMapping, isQueueMapping, type QueueMapping } from './sqs-mapping.ts';
import type { Table } from './tables.ts';
import { type Resource, resourceName } from './template.ts';

/** What invokes functions, and what becomes of events that fail. */
export interface Wiring {
  configs: EventInvokeConfig[];
  mappings: EventSourceMapping[];
  queueMappings: QueueMapping[];
  schedules: Schedule[];
  notifications: Notification[];
}

/** @throws where one refers to a function that is not in the app: it would fail at the first event only */
export function describeWiring(
  resources: Resource[],
  intrinsics: Intrinsics,
  functions: Functions,
  tables: Table[],
): Wiring {
  const requireFunctions = (resource: Resource, names: (string | undefined)[]): void => {
    for (const name of names) {
      if (name === undefined || isQueueArn(name) || functions.find(name)) continue;
      throw new Error(`${resourceName(resource)}: refers to function ${name}, which is not in this app`);
    }
  };
  const wiring: Wiring = { configs: [], mappings: [], queueMappings: [], schedules: [], notifications: [] };
  for (const resource of resources) {
    if (resource.type === 'AWS::Lambda::EventInvokeConfig') {
      const config = describeEventInvokeConfig(resource, intrinsics);
      requireFunctions(resource, [config.functionName, config.onFailure]);
      wiring.configs.push(config);
    } else if (isQueueMapping(resource, intrinsics)) {
      const mapping = describeQueueMapping(resource, intrinsics);
      requireFunctions(resource, [mapping.functionName]);
      wiring.queueMappings.push(mapping);
    } else if (resource.type === 'AWS::Lambda::EventSourceMapping') {
      const mapping = describeEventSourceMapping(resource, intrinsics, tables);
      requireFunctions(resource, [mapping.functionName, mapping.onFailure]);
      wiring.mappings.push(mapping);
    } else if (isSchedule(resource)) {
      const schedules = describeSchedules(resource, intrinsics);
      requireFunctions(
        resource,
        schedules.map(({ targetArn }) => functionNameOf(targetArn)),
      );
      wiring.schedules.push(...schedules);
    } else if (resource.type === 'Custom::S3BucketNotifications') {
      const notifications = describeNotifications(resource, intrinsics);
      requireFunctions(
        resource,
        notifications.map(({ functionArn }) => functionNameOf(functionArn)),
      );
      wiring.notifications.push(...notifications);
    }
  }
  return wiring;
}

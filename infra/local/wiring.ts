import { describeEventInvokeConfig, type EventInvokeConfig } from './event-queue.ts';
import { describeEventSourceMapping, type EventSourceMapping } from './event-source-mapping.ts';
import type { Functions } from './functions.ts';
import type { Intrinsics } from './intrinsics.ts';
import { functionNameOf } from './properties.ts';
import { describeSchedules, isSchedule, type Schedule } from './schedules.ts';
import type { Table } from './tables.ts';
import { type Resource, resourceName } from './template.ts';

/** What invokes functions, and what becomes of events that fail. */
export interface Wiring {
  configs: EventInvokeConfig[];
  mappings: EventSourceMapping[];
  schedules: Schedule[];
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
      if (name === undefined || functions.find(name)) continue;
      throw new Error(`${resourceName(resource)}: refers to function ${name}, which is not in this app`);
    }
  };
  const wiring: Wiring = { configs: [], mappings: [], schedules: [] };
  for (const resource of resources) {
    if (resource.type === 'AWS::Lambda::EventInvokeConfig') {
      const config = describeEventInvokeConfig(resource, intrinsics);
      requireFunctions(resource, [config.functionName, config.onFailure]);
      wiring.configs.push(config);
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
    }
  }
  return wiring;
}

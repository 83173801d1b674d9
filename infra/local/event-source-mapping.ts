import * as z from 'zod';
import { compileEventFilter, type EventFilter } from './event-filter.ts';
import { failureDestination } from './event-queue.ts';
import type { Intrinsics } from './intrinsics.ts';
import { flag, functionNameOf, integer, parseProperties } from './properties.ts';
import type { Table } from './tables.ts';
import { type Resource, resourceName } from './template.ts';

/** AWS::Lambda::EventSourceMapping of a DynamoDB stream, resolved. */
export interface EventSourceMapping {
  name: string;
  table: Pick<Table, 'streamArn' | 'endpointStreamArn'>;
  functionName: string;
  enabled: boolean;
  startingPosition: 'TRIM_HORIZON' | 'LATEST';
  batchSize: number;
  batchingWindowMs: number;
  filter: EventFilter;
  reportBatchItemFailures: boolean;
  bisectBatchOnFunctionError: boolean;
  maximumRetryAttempts: number;
  maximumRecordAgeMs: number;
  onFailure: string | undefined;
}

const mappingProperties = z.object({
  EventSourceArn: z.string(),
  FunctionName: z.string(),
  Enabled: flag.default(true),
  StartingPosition: z.enum(['TRIM_HORIZON', 'LATEST']),
  BatchSize: integer.default(100),
  MaximumBatchingWindowInSeconds: integer.default(0),
  FilterCriteria: z.object({ Filters: z.array(z.object({ Pattern: z.string() })).default([]) }).optional(),
  FunctionResponseTypes: z.array(z.enum(['ReportBatchItemFailures'])).default([]),
  BisectBatchOnFunctionError: flag.default(false),
  MaximumRetryAttempts: integer.default(-1),
  MaximumRecordAgeInSeconds: integer.default(-1),
  DestinationConfig: z.object({ OnFailure: z.object({ Destination: z.string() }).optional() }).optional(),
  TumblingWindowInSeconds: integer.refine((seconds) => seconds === 0, 'tumbling windows do not run locally').optional(),
});

export function describeEventSourceMapping(
  resource: Resource,
  intrinsics: Intrinsics,
  tables: Table[],
): EventSourceMapping {
  const properties = parseProperties(mappingProperties, resource, intrinsics);
  const table = tables.find(({ streamArn }) => streamArn === properties.EventSourceArn);
  if (!table) {
    throw new Error(
      `${resourceName(resource)}: event source ${properties.EventSourceArn} is not the stream of a DynamoDB table in this app; nor a queue; the local host reads no other sources`,
    );
  }
  return {
    name: `${resource.stack.name}-${resource.logicalId}`,
    table,
    functionName: functionNameOf(properties.FunctionName),
    enabled: properties.Enabled,
    startingPosition: properties.StartingPosition,
    batchSize: properties.BatchSize,
    batchingWindowMs: properties.MaximumBatchingWindowInSeconds * 1000,
    filter: filterOf(resource, properties.FilterCriteria?.Filters ?? []),
    reportBatchItemFailures: properties.FunctionResponseTypes.includes('ReportBatchItemFailures'),
    bisectBatchOnFunctionError: properties.BisectBatchOnFunctionError,
    maximumRetryAttempts: properties.MaximumRetryAttempts,
    maximumRecordAgeMs: properties.MaximumRecordAgeInSeconds < 0 ? -1 : properties.MaximumRecordAgeInSeconds * 1000,
    onFailure: failureDestination(resource, properties.DestinationConfig?.OnFailure?.Destination),
  };
}

function filterOf(resource: Resource, filters: { Pattern: string }[]): EventFilter {
  try {
    return compileEventFilter(filters.map(({ Pattern }) => Pattern));
  } catch (cause) {
    throw new Error(`${resourceName(resource)}: ${(cause as Error).message}`, { cause });
  }
}

import type * as z from 'zod';
import { batchOfGroups } from '../connect/batch.ts';
import type { SinkConnector, SourceConnector } from '../connect/connector.ts';
import type { Transform } from '../connect/transform.ts';
import type { ConnectorRow } from '../state/connectors.ts';
import { fromLog, fromSystem, toLog, toSystem } from './ends.ts';
import { taskHandler } from './task-handler.ts';

/** The default export of a transform's file: one, or several that run in this order. */
type Transforms = readonly (Transform | readonly Transform[])[];

/** The four kinds of function, one code path (DESIGN §1). Inside, a connector's config is whatever its own schema made of it. */
export const sourceHandler = <Config extends z.ZodType, Offset>(
  source: SourceConnector<Config, Offset>,
  transforms: Transforms = [],
) =>
  taskHandler({
    source: fromSystem(source as unknown as SourceConnector),
    sink: toLog,
    transforms: () => transforms.flat(),
  });

export const sinkHandler = <Config extends z.ZodType>(sink: SinkConnector<Config>, transforms: Transforms = []) =>
  taskHandler({
    source: fromLog,
    sink: toSystem(sink as unknown as SinkConnector),
    transforms: () => transforms.flat(),
  });

export const directHandler = <From extends z.ZodType, Offset, To extends z.ZodType>(
  source: SourceConnector<From, Offset>,
  sink: SinkConnector<To>,
  transforms: Transforms = [],
) =>
  taskHandler({
    source: fromSystem(source as unknown as SourceConnector),
    sink: toSystem(sink as unknown as SinkConnector),
    transforms: () => transforms.flat(),
  });

export const processorHandler = (transforms: Transforms = []) =>
  taskHandler({ source: fromLog, sink: toLog, transforms: (row) => [...transforms.flat(), route(row)] });

/** All of a processor's records go to its topic. */
export const route = (row: ConnectorRow): Transform => ({
  name: 'route',
  stage: 'TRANSFORMATION',
  takesControl: true,
  apply: (batch) => ({
    batch: batchOfGroups(batch.groups.map((group) => ({ ...group, topic: row.to?.[0]?.name ?? group.topic }))),
  }),
});

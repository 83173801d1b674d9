import { batchOfGroups } from '../connect/batch.ts';
import type { SinkConnector, SourceConnector } from '../connect/connector.ts';
import type { Transform } from '../connect/transform.ts';
import type { ConnectorRow } from '../state/connectors.ts';
import { fromLog, fromSystem, toLog, toSystem } from './ends.ts';
import { taskHandler } from './task-handler.ts';

/** The four kinds of function, one code path (DESIGN §1). */
export const sourceHandler = <C extends SourceConnector<never, never>>(source: C) =>
  taskHandler({ source: fromSystem(source as unknown as SourceConnector), sink: toLog });

export const sinkHandler = (sink: SinkConnector<never>) =>
  taskHandler({ source: fromLog, sink: toSystem(sink as unknown as SinkConnector) });

export const directHandler = (source: SourceConnector<never, never>, sink: SinkConnector<never>) =>
  taskHandler({
    source: fromSystem(source as unknown as SourceConnector),
    sink: toSystem(sink as unknown as SinkConnector),
  });

export const processorHandler = () => taskHandler({ source: fromLog, sink: toLog, transforms: (row) => [route(row)] });

/** All of a processor's records go to its topic. */
const route = (row: ConnectorRow): Transform => ({
  name: 'route',
  stage: 'TRANSFORMATION',
  apply: (batch) => ({
    batch: batchOfGroups(batch.groups.map((group) => ({ ...group, topic: row.to?.[0]?.name ?? group.topic }))),
  }),
});

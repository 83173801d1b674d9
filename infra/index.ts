/** What an app in the CDK imports from `sluice`. A connector or a transform of your own imports from `sluice/connect/…` instead. */
export {
  fileSink,
  fileSource,
  mysqlCdcSource,
  mysqlQuerySource,
  mysqlSink,
  postgresCdcSource,
  postgresQuerySource,
  postgresSink,
  type Sink,
  type Source,
  sinkFromFile,
  sourceFromFile,
} from './connectors.ts';
export type { Connector, DirectNode, ProcessorNode, SinkNode, SourceNode } from './constructs/connector.ts';
export { Pipeline } from './constructs/pipeline.ts';
export type * from './constructs/pipeline-props.ts';
export { Platform, type PlatformProps } from './constructs/platform.ts';
export {
  type BacklogOptions,
  type CronFields,
  type CronOptions,
  type ObjectOptions,
  Trigger,
} from './constructs/trigger.ts';
export type { BuildPipelines } from './synth.ts';

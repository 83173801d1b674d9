import type { Database, System } from './databases.ts';

/** One end of a pipeline in its YAML: a database by the name of its variable. */
export interface PipelineEnd {
  readonly system: System;
  readonly database: Database;
}

const sourceConfig = ({ system, database }: PipelineEnd, tables: readonly string[]): string => {
  const schema = system === 'postgres' ? 'public' : database.name;
  const names = tables.map((table) => `${schema}.${table}`);
  return `{ url: '\${env:SOURCE_URL}', topicPrefix: s, tables: [${names.join(', ')}] }`;
};

const sourceOf = ({ system }: PipelineEnd) => (system === 'postgres' ? 'postgres-cdc' : 'mysql-cdc');
const sinkOf = ({ system }: PipelineEnd) => (system === 'postgres' ? 'postgres' : 'mysql');
const sinkConfig = `{ url: '\${env:SINK_URL}', table: '\${table}' }`;

/** A pipeline that copies tables and follows their changes. */
export const copyPipeline = (
  source: PipelineEnd,
  sink: PipelineEnd,
  tables: readonly string[],
  through: 'direct' | 'the log',
  name = 'p',
): string => {
  const options = 'every: 1m, timeout: 30s';
  if (through === 'direct')
    return `name: ${name}
direct:
  copy:
    every: 1m
    timeout: 30s
    transforms: [unwrap]
    source: { connector: ${sourceOf(source)}, config: ${sourceConfig(source, tables)} }
    sink: { connector: ${sinkOf(sink)}, config: ${sinkConfig} }
`;
  return `name: ${name}
sources:
  from: { connector: ${sourceOf(source)}, ${options}, config: ${sourceConfig(source, tables)} }
sinks:
  to: { connector: ${sinkOf(sink)}, from: [from], timeout: 30s, config: ${sinkConfig} }
`;
};

export const environmentOf = (source: PipelineEnd, sink: PipelineEnd) => ({
  SOURCE_URL: source.database.url,
  SINK_URL: sink.database.url,
});

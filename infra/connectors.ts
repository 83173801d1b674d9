import { resolve } from 'node:path';
import type * as z from 'zod';
import { FileSinkConfig } from '../functions/file/sink-config.ts';
import { FileSourceConfig, topicOf } from '../functions/file/source-config.ts';
import { PostgresSinkConfig } from '../functions/postgres/config.ts';
import type { Delivery, Replay } from '../shared/connect/connector.ts';

/** What infra knows of a connector without its driver. A test keeps it equal to the connector itself. */
interface Plugin<Schema extends z.ZodType> {
  /** As `connector` in YAML and `plugin` in a ConnectorSpec. */
  readonly plugin: string;
  readonly schema: Schema;
  /** The module and export of the connector, for functions that hold a pair of them. */
  readonly module: string;
  readonly exportName: string;
  /** The entry of its own function. */
  readonly handler: string;
  /** Keys that hold local paths. */
  readonly paths?: readonly string[];
}

export interface SourcePlugin<Schema extends z.ZodType = z.ZodType> extends Plugin<Schema> {
  readonly role: 'source';
  readonly replay: Replay;
  topics(config: z.output<Schema>): readonly string[];
}

export interface SinkPlugin<Schema extends z.ZodType = z.ZodType> extends Plugin<Schema> {
  readonly role: 'sink';
  readonly delivery: Delivery;
}

/** A source and its config, as `Pipeline.addSource` takes it. */
export interface Source extends SourcePlugin {
  readonly config: unknown;
}

/** A sink and its config, as `Pipeline.addSink` takes it. */
export interface Sink extends SinkPlugin {
  readonly config: unknown;
}

const file: SourcePlugin<typeof FileSourceConfig> = {
  plugin: 'file',
  role: 'source',
  schema: FileSourceConfig,
  replay: 'exact',
  topics: ({ topic, path }) => [topic ?? topicOf(path)],
  module: 'functions/file/file-source.ts',
  exportName: 'fileSource',
  handler: 'functions/file/source.handler.ts',
  paths: ['path'],
};

const fileDirectory: SinkPlugin<typeof FileSinkConfig> = {
  plugin: 'file',
  role: 'sink',
  schema: FileSinkConfig,
  delivery: 'exactly-once',
  module: 'functions/file/file-sink.ts',
  exportName: 'fileSink',
  handler: 'functions/file/sink.handler.ts',
  paths: ['path'],
};

const postgres: SinkPlugin<typeof PostgresSinkConfig> = {
  plugin: 'postgres',
  role: 'sink',
  schema: PostgresSinkConfig,
  delivery: 'exactly-once',
  module: 'functions/postgres/sink.ts',
  exportName: 'postgresSink',
  handler: 'functions/postgres/sink.handler.ts',
};

/** By name. What `connector:` of a source in YAML may be. */
export const sourcePlugins: readonly SourcePlugin[] = [file as unknown as SourcePlugin];
export const sinkPlugins: readonly SinkPlugin[] = [fileDirectory, postgres];

export const sourceOf = (plugin: SourcePlugin, config: unknown): Source => ({
  ...plugin,
  config: withLocalPaths(plugin.paths, config),
});
export const sinkOf = (plugin: SinkPlugin, config: unknown): Sink => ({
  ...plugin,
  config: withLocalPaths(plugin.paths, config),
});

/** Reads files: JSON lines, a JSON array, CSV or lines of text. */
export const fileSource = (config: z.input<typeof FileSourceConfig>): Source =>
  sourceOf(file as unknown as SourcePlugin, config);

/** Writes files into a directory: JSON lines, CSV, Parquet or lines of text. */
export const fileSink = (config: z.input<typeof FileSinkConfig>): Sink => sinkOf(fileDirectory, config);

/** Writes rows into PostgreSQL. */
export const postgresSink = (config: z.input<typeof PostgresSinkConfig>): Sink => sinkOf(postgres, config);

/** A function runs in a directory of its own, so a relative path is settled where the person who wrote it stands. */
const withLocalPaths = (keys: readonly string[] = [], config: unknown): unknown => {
  if (typeof config !== 'object' || config === null) return config;
  const settled = Object.entries(config).map(([key, value]) =>
    keys.includes(key) && typeof value === 'string' && value !== '' && !value.startsWith('${')
      ? [key, resolve(value)]
      : [key, value],
  );
  return Object.fromEntries(settled);
};

import { resolve } from 'node:path';
import type * as z from 'zod';
import { topicOf } from '../functions/file/path-config.ts';
import { FileSinkConfig } from '../functions/file/sink-config.ts';
import { FileSourceConfig } from '../functions/file/source-config.ts';
import { MysqlCdcConfig, topicsOf } from '../functions/mysql/cdc-config.ts';
import { MysqlSinkConfig } from '../functions/mysql/config.ts';
import { MysqlQueryConfig } from '../functions/mysql/query-config.ts';
import { PostgresCdcConfig, topicsOf as postgresTopicsOf } from '../functions/postgres/cdc-config.ts';
import { PostgresSinkConfig } from '../functions/postgres/config.ts';
import { PostgresQueryConfig } from '../functions/postgres/query-config.ts';
import type { Delivery, Replay } from '../shared/connect/connector.ts';
import type { Tells, WantedOrder } from '../shared/connect/control.ts';
import { orderOf, tellsOf } from '../shared/connect/database-config.ts';
import { queryTells, queryTopics } from '../shared/connect/query-config.ts';
import { loginToRds, type Place, type Right, readObjectsAt, writeObjectsAt } from './connector-access.ts';
import { sinkFile, sourceFile } from './connector-file.ts';

/** What infra knows of a connector without its driver. A test keeps it equal to the connector itself. */
interface Plugin<Schema extends z.ZodType> {
  /** As `connector` in YAML and `plugin` in a ConnectorSpec. */
  readonly plugin: string;
  readonly schema: Schema;
  /** The module and export of the connector; a user's own is given by its absolute path. */
  readonly module: string;
  readonly exportName: string;
  /** The entry of its own function, where there is a file for it. */
  readonly handler?: string;
  /** Keys that hold local paths. */
  readonly paths?: readonly string[];
  /** The rights that its function needs of the system. */
  access?(config: z.output<Schema>, place: Place): readonly Right[];
}

export interface SourcePlugin<Schema extends z.ZodType = z.ZodType> extends Plugin<Schema> {
  readonly role: 'source';
  readonly replay: Replay;
  readonly hold?: false;
  /** It can tell how far it is behind. */
  readonly lag?: true;
  topics(config: z.output<Schema>): readonly string[];
  tells?(config: z.output<Schema>): Tells;
}

export interface SinkPlugin<Schema extends z.ZodType = z.ZodType> extends Plugin<Schema> {
  readonly role: 'sink';
  readonly delivery: Delivery | ((config: z.output<Schema>) => Delivery);
  order?(config: z.output<Schema>): WantedOrder | undefined;
}

/** A source and its config, as `Pipeline.addSource` takes it. */
export interface Source extends SourcePlugin {
  readonly config: unknown;
  /** What it tells of with its config. */
  readonly told: Tells;
}

/** A sink and its config, as `Pipeline.addSink` takes it. */
export interface Sink extends SinkPlugin {
  readonly config: unknown;
  /** What it gives with its config. */
  readonly delivery: Delivery;
  /** What it needs with its config of the topics it reads. */
  readonly wantedOrder: WantedOrder | undefined;
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
  access: ({ path }, place) => readObjectsAt(path, place),
};

/** Who logs in by its role needs the right to. */
const accessToDatabase = (
  { auth, user }: { readonly auth: string; readonly user?: string | undefined },
  place: Place,
): readonly Right[] => (auth === 'iam' ? loginToRds(user!, place) : []);

const mysqlCdc: SourcePlugin<typeof MysqlCdcConfig> = {
  plugin: 'mysql-cdc',
  role: 'source',
  schema: MysqlCdcConfig,
  replay: 'exact',
  hold: false,
  lag: true,
  topics: topicsOf,
  tells: tellsOf,
  module: 'functions/mysql/cdc-source.ts',
  exportName: 'mysqlCdcSource',
  handler: 'functions/mysql/cdc.handler.ts',
  access: accessToDatabase,
};

const postgresCdc: SourcePlugin<typeof PostgresCdcConfig> = {
  plugin: 'postgres-cdc',
  role: 'source',
  schema: PostgresCdcConfig,
  replay: 'exact',
  hold: false,
  lag: true,
  topics: postgresTopicsOf,
  tells: tellsOf,
  module: 'functions/postgres/cdc-source.ts',
  exportName: 'postgresCdcSource',
  handler: 'functions/postgres/cdc.handler.ts',
  access: accessToDatabase,
};

const mysqlQuery: SourcePlugin<typeof MysqlQueryConfig> = {
  plugin: 'mysql-query',
  role: 'source',
  schema: MysqlQueryConfig,
  replay: 'shifting',
  topics: queryTopics,
  tells: queryTells,
  module: 'functions/mysql/query-source.ts',
  exportName: 'mysqlQuerySource',
  handler: 'functions/mysql/query.handler.ts',
  access: accessToDatabase,
};

const postgresQuery: SourcePlugin<typeof PostgresQueryConfig> = {
  plugin: 'postgres-query',
  role: 'source',
  schema: PostgresQueryConfig,
  replay: 'shifting',
  topics: queryTopics,
  tells: queryTells,
  module: 'functions/postgres/query-source.ts',
  exportName: 'postgresQuerySource',
  handler: 'functions/postgres/query.handler.ts',
  access: accessToDatabase,
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
  access: ({ path }, place) => writeObjectsAt(path, place),
};

const postgres: SinkPlugin<typeof PostgresSinkConfig> = {
  plugin: 'postgres',
  role: 'sink',
  schema: PostgresSinkConfig,
  delivery: 'exactly-once',
  module: 'functions/postgres/sink.ts',
  exportName: 'postgresSink',
  order: orderOf,
  handler: 'functions/postgres/sink.handler.ts',
  access: accessToDatabase,
};

const mysql: SinkPlugin<typeof MysqlSinkConfig> = {
  plugin: 'mysql',
  role: 'sink',
  schema: MysqlSinkConfig,
  delivery: 'exactly-once',
  module: 'functions/mysql/sink.ts',
  exportName: 'mysqlSink',
  order: orderOf,
  handler: 'functions/mysql/sink.handler.ts',
  access: accessToDatabase,
};

/** By name. What `connector:` of a source in YAML may be. */
export const sourcePlugins: readonly SourcePlugin[] = [
  file,
  mysqlCdc,
  postgresCdc,
  mysqlQuery,
  postgresQuery,
] as unknown as readonly SourcePlugin[];
export const sinkPlugins: readonly SinkPlugin[] = [fileDirectory, postgres, mysql];

/** Relative paths in a config are from `directory`: the pipeline file's, or else where the app is run. */
export const sourceOf = (plugin: SourcePlugin, config: unknown, directory = ''): Source => ({
  ...plugin,
  config: withLocalPaths(plugin.paths, config, directory),
  told: toldOf(plugin, config),
});

export const sinkOf = (plugin: SinkPlugin, config: unknown, directory = ''): Sink => ({
  ...plugin,
  config: withLocalPaths(plugin.paths, config, directory),
  delivery: deliveryOf(plugin, config),
  wantedOrder: wantedOrderOf(plugin, config),
});

const deliveryOf = ({ delivery, schema }: SinkPlugin, config: unknown): Delivery => {
  if (typeof delivery !== 'function') return delivery;
  const parsed = schema.safeParse(config);
  // A bad config is refused on its own account.
  return parsed.success ? delivery(parsed.data) : 'exactly-once';
};

const toldOf = ({ tells, schema }: SourcePlugin, config: unknown): Tells => {
  const parsed = schema.safeParse(config);
  return parsed.success ? (tells?.(parsed.data) ?? {}) : {};
};

const wantedOrderOf = ({ order, schema }: SinkPlugin, config: unknown): WantedOrder | undefined => {
  const parsed = schema.safeParse(config);
  return parsed.success ? order?.(parsed.data) : undefined;
};

/** Reads files: JSON lines, a JSON array, CSV or lines of text. */
export const fileSource = (config: z.input<typeof FileSourceConfig>): Source =>
  sourceOf(file as unknown as SourcePlugin, config);

/** Reads the rows of MySQL's and MariaDB's tables and all their changes. */
export const mysqlCdcSource = (config: z.input<typeof MysqlCdcConfig>): Source =>
  sourceOf(mysqlCdc as unknown as SourcePlugin, config);

/** Reads the changes of PostgreSQL's tables from a replication slot. */
export const postgresCdcSource = (config: z.input<typeof PostgresCdcConfig>): Source =>
  sourceOf(postgresCdc as unknown as SourcePlugin, config);

/** Reads the rows of MySQL's and MariaDB's tables, or of a query, by their timestamps, their numbers or all of them each time. */
export const mysqlQuerySource = (config: z.input<typeof MysqlQueryConfig>): Source =>
  sourceOf(mysqlQuery as unknown as SourcePlugin, config);

/** Reads the rows of PostgreSQL's tables, or of a query, by their timestamps, their numbers or all of them each time. */
export const postgresQuerySource = (config: z.input<typeof PostgresQueryConfig>): Source =>
  sourceOf(postgresQuery as unknown as SourcePlugin, config);

/** Writes files into a directory: JSON lines, CSV, Parquet or lines of text. */
export const fileSink = (config: z.input<typeof FileSinkConfig>): Sink => sinkOf(fileDirectory, config);

/** Writes rows into PostgreSQL. */
export const postgresSink = (config: z.input<typeof PostgresSinkConfig>): Sink => sinkOf(postgres, config);

/** Writes rows into MySQL or MariaDB. */
export const mysqlSink = (config: z.input<typeof MysqlSinkConfig>): Sink => sinkOf(mysql, config);

/**
 * A source of your own: a file whose default export is made by `defineSource`. The path is relative to the working directory, as the
 * `entry` of a `NodejsFunction` is.
 */
export const sourceFromFile = (path: string, config: object = {}): Source =>
  sourceOf(sourceFile(resolve(path)), config);

/** A sink of your own: a file whose default export is made by `defineSink`. The path is relative to the working directory. */
export const sinkFromFile = (path: string, config: object = {}): Sink => sinkOf(sinkFile(resolve(path)), config);

/** A function runs in a directory of its own, so a relative path is settled where the person who wrote it stands. */
const withLocalPaths = (keys: readonly string[] = [], config: unknown, directory: string): unknown => {
  if (typeof config !== 'object' || config === null) return config;
  const settled = Object.entries(config).map(([key, value]) =>
    keys.includes(key) && typeof value === 'string' && value !== '' && !/^(\$\{|s3:\/\/)/.test(value)
      ? // What ends in a slash is a directory, whether it is there already or not.
        [key, resolve(directory, value) + (value.endsWith('/') ? '/' : '')]
      : [key, value],
  );
  return Object.fromEntries(settled);
};

import { mysqlCdcSource } from '../../functions/mysql/cdc-source.ts';
import { mysqlSink } from '../../functions/mysql/sink.ts';
import { postgresCdcSource } from '../../functions/postgres/cdc-source.ts';
import { postgresSink } from '../../functions/postgres/sink.ts';
import type { SinkTask, SourceConnector, SourceTask } from '../../shared/connect/connector.ts';
import type { Struct } from '../../shared/connect/schema.ts';
import type { DatabaseServer } from './database.ts';

const context = () => ({
  ...{ deployment: 'test', connector: 'c', incarnation: 'i1', taskId: 0, tasks: 1 },
  signal: new AbortController().signal,
});

/** The tables of a schema, read and then followed. `name` is also that of a slot. */
export const captureTables = (database: DatabaseServer, schema: string, tables: readonly string[]) => {
  const common = { topicPrefix: 'p', tables: tables.map((table) => `${schema}.${table}`) };
  const isPostgres = database.system === 'postgres';
  const config = {
    ...{ ...common, url: database.url(schema) },
    ...(isPostgres ? { slotName: `slot_${schema}` } : {}),
  };
  const connector = (isPostgres ? postgresCdcSource : mysqlCdcSource) as unknown as SourceConnector;
  const open = () => connector.open({ ...context(), config: connector.config.parse(config) as never });
  return {
    /** Opened with its first use: whoever makes a task can't wait. */
    task(): SourceTask<unknown> {
      let opening: Promise<SourceTask<unknown>> | undefined;
      const opened = () => {
        opening ??= open();
        return opening;
      };
      return {
        poll: async (offsets, budget) => (await opened()).poll(offsets, budget),
        commit: async (positions) => (await opened()).commit?.(positions),
        more: async (offsets) => (await opened()).more!(offsets),
        close: async () => (await opening)?.close(),
      };
    },
    forget: () => (isPostgres ? database.run(`SELECT pg_drop_replication_slot('slot_${schema}')`) : Promise.resolve()),
  };
};

/** A sink into tables of a schema, which are called like those of the source. */
export const writeTables = (database: DatabaseServer, schema: string, more: Struct = {}): SinkTask => {
  const config = { url: database.url(schema), table: '${table}', ...more };
  let opening: Promise<SinkTask> | undefined;
  const opened = () => {
    opening ??=
      database.system === 'postgres'
        ? postgresSink.open({ ...context(), config: postgresSink.config.parse({ schema, ...config }) })
        : mysqlSink.open({ ...context(), config: mysqlSink.config.parse(config) });
    return opening;
  };
  return {
    put: async (batch, put) => (await opened()).put(batch, put),
    offsets: async () => (await opened()).offsets!(),
    reset: async (id, offsets) => (await opened()).reset!(id, offsets),
    close: async () => (await opening)?.close(),
  };
};

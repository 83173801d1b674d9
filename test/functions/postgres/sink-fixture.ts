import pg from 'pg';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import type { SinkTask } from '../../../shared/connect/connector.ts';
import type { Struct, Value } from '../../../shared/connect/schema.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';

/** A server for the file and an empty schema for each test, in which unqualified names are looked up. */
export const useSink = () => {
  let server: PostgresServer;
  let db: pg.Client;
  let schema: string;
  let made = 0;
  beforeAll(async () => {
    server = await startPostgres();
    db = new pg.Client(server.url);
    await db.connect();
  });
  afterAll(async () => {
    await db?.end();
    await server?.stop();
  });
  beforeEach(async () => {
    schema = `test_${made++}`;
    await db.query(`CREATE SCHEMA ${schema}; SET search_path = ${schema}`);
  });

  const openSink = (config: Struct = {}, connector = 'c') =>
    postgresSink.open({
      config: postgresSink.config.parse({ url: server.url, schema, ...config }),
      taskId: 0,
      tasks: 1,
      signal: new AbortController().signal,
      deployment: 'd',
      connector,
      incarnation: 'i',
    });

  return {
    schema: () => schema,
    /** The server as another role. */
    urlAs: (user: string) => server.url.replace(/\/\/[^@]*@/, `//${user}@`),
    port: () => server.port,
    /** The server through another port. */
    through: (port: number): Struct => ({ url: server.url.replace(String(server.port), String(port)) }),
    tables: async () =>
      (await db.query('SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace', [schema])).rows.map(
        ({ relname }) => relname as string,
      ),
    openSink,
    async withSink<T>(config: Struct, work: (task: SinkTask) => Promise<T>): Promise<T> {
      const task = await openSink(config);
      try {
        return await work(task);
      } finally {
        await task.close();
      }
    },
    run: (sql: string) => db.query(sql),
    all: async (sql: string): Promise<Value[][]> => (await db.query({ text: sql, rowMode: 'array' })).rows,
  };
};

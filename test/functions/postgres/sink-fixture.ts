import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import type { RecordInput } from '../../../shared/connect/build.ts';
import type { SinkTask } from '../../../shared/connect/connector.ts';
import type { PrimitiveType, Schema, Struct, Value } from '../../../shared/connect/schema.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';

type Fields = { readonly [name: string]: PrimitiveType | Schema };

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
      signal: new AbortController().signal,
      deployment: 'd',
      connector,
      incarnation: 'i',
    });

  return {
    schema: () => schema,
    /** The server as another role. */
    urlAs: (user: string) => server.url.replace(/\/\/[^@]*@/, `//${user}@`),
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

export const structOf = (fields: Fields): Schema => ({
  type: 'struct',
  fields: Object.entries(fields).map(([name, type]) => ({
    name,
    schema: typeof type === 'string' ? { type, optional: true } : type,
  })),
});

/** A record with an int32 key `id` and the given fields. */
export const keyed = (id: number, value: Struct | null, fields: Fields = {}, topic = 't'): RecordInput => ({
  topic,
  key: { id },
  keySchema: structOf({ id: 'int32' }),
  value: value === null ? null : { id, ...value },
  valueSchema: structOf({ id: 'int32', ...fields }),
});

export const refused = (code: string, message: RegExp, more: object = {}) => ({
  code,
  message: expect.stringMatching(message),
  ...more,
});

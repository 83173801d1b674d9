import pg from 'pg';
import { afterAll, beforeAll } from 'vitest';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { describeSink } from '../../kit/describe-sink.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';
import { until } from '../../kit/until.ts';

let server: PostgresServer;
let reader: pg.Client;
beforeAll(async () => {
  server = await startPostgres();
  reader = new pg.Client(server.url);
  await reader.connect();
});
afterAll(async () => {
  await reader?.end();
  await server?.stop();
});

let made = 0;
const makeFixture = async (mode: 'insert' | 'upsert' | undefined) => {
  const schema = `contract_${made++}`;
  await reader.query(`CREATE SCHEMA ${schema}`);
  return {
    sink: postgresSink,
    config: { url: server.url, schema, ...(mode === undefined ? {} : { mode }) },
    mode: mode === 'insert' ? ('append' as const) : ('upsert' as const),
    tombstones: mode !== 'insert',
    rejects: {
      topic: 'orders',
      key: { id: 'bad' },
      keySchema: { type: 'struct' as const, fields: [{ name: 'id', schema: { type: 'string' as const } }] },
      value: { id: 'bad', note: 'no \0 in text', n: 1 },
      valueSchema: {
        type: 'struct' as const,
        fields: [
          { name: 'id', schema: { type: 'string' as const } },
          { name: 'note', schema: { type: 'string' as const } },
          { name: 'n', schema: { type: 'int32' as const } },
        ],
      },
    },
    async read() {
      const { rows: tables } = await reader.query(
        "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename <> 'sluice_offsets'",
        [schema],
      );
      const all = [];
      for (const { tablename: topic } of tables) {
        const { rows } = await reader.query<Struct>(`SELECT * FROM ${schema}.${pg.escapeIdentifier(topic)}`);
        all.push(...rows.map((value) => ({ topic, value })));
      }
      return all;
    },
    cleanup: async () => {
      // Whatever happened to a task, close left no session behind.
      const open = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'sluice%'";
      await until(async () => (await reader.query(open)).rowCount === 0);
      await reader.query(`DROP SCHEMA ${schema} CASCADE`);
    },
  };
};

describeSink('postgres, upsert', () => makeFixture(undefined));
describeSink('postgres, insert', () => makeFixture('insert'));

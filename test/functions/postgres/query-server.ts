import pg from 'pg';
import { afterAll, beforeAll } from 'vitest';
import { postgresQuerySource } from '../../../functions/postgres/query-source.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';
import type { QueryServer } from '../../kit/query-server.ts';

export const useQueryServer = (): QueryServer => {
  let server: PostgresServer;
  let db: pg.Client;
  let current: string;
  let made = 0;
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client(server.url);
    await client.connect();
    return client;
  };
  beforeAll(async () => {
    server = await startPostgres();
    db = await connect();
  });
  afterAll(async () => {
    await db?.end();
    await server?.stop();
  });
  return {
    source: postgresQuerySource as never,
    address: () => ({ url: server.url }),
    async schema() {
      current = `t${made++}`;
      await db.query(`CREATE SCHEMA ${current}; SET search_path = ${current}; SET TimeZone = 'UTC'`);
      return current;
    },
    run: (sql) => db.query(sql),
    async session() {
      const session = await connect();
      await session.query(`SET search_path = ${current}`);
      return { run: (sql) => session.query(sql), end: () => session.end() };
    },
    instant: 'timestamptz',
    wallClock: 'timestamp',
    clockAt: (hours) => `now() AT TIME ZONE 'UTC' + interval '${hours} hours'`,
    waits: 'pg_sleep(1000) IS NULL',
  };
};

import pg from 'pg';
import { afterAll, beforeAll, expect } from 'vitest';
import { postgresQuerySource } from '../../../functions/postgres/query-source.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';
import type { QueryServer } from '../../kit/query-server.ts';
import { until } from '../../kit/until.ts';

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
    fill: (columns, key, values, rows) =>
      db.query(`CREATE TABLE t (${columns}, PRIMARY KEY (${key})); ALTER TABLE t ALTER pad SET STORAGE EXTERNAL;
        INSERT INTO t SELECT ${values} FROM generate_series(0, ${rows - 1}) AS n; ANALYZE t`),
    rows: async (sql) => (await db.query(sql)).rows,
    async session() {
      const session = await connect();
      await session.query(`SET search_path = ${current}`);
      return { run: (sql) => session.query(sql), end: () => session.end() };
    },
    instant: 'timestamptz',
    wallClock: 'timestamp',
    clockAt: (hours) => `now() AT TIME ZONE 'UTC' + interval '${hours} hours'`,
    thisSecond: "date_trunc('second', clock_timestamp())",
    today: 'current_date',
    bytes: 'bytea',
    text: 'text',
    hex: (digits) => `'\\x${digits}'`,
    quote: (name) => `"${name}"`,
    badValue: ['timestamptz', "'infinity'", /column v: infinity: it has no place in the calendar/],
    async reader(schema) {
      await db.query(
        `CREATE ROLE reader LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA ${schema} TO reader; GRANT SELECT ON hidden TO reader`,
      );
      const url = new URL(server.url);
      url.username = 'reader';
      url.password = 'x';
      return {
        config: { url: url.href },
        grants: [
          expect.stringMatching(
            /t can't be read: .*permission denied for table t.*: GRANT SELECT ON \w+\.t TO reader$/,
          ),
        ],
        end: () => db.query('DROP OWNED BY reader; DROP ROLE reader'),
      };
    },
    refused: () => ({ url: server.url.replace(/:[^:@/]*@/, ':wrong@') }),
    caseless: false,
    waits: 'pg_sleep(1000) IS NULL',
    untilWaits: () =>
      until(async () => {
        const { rows } = await db.query("SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
        return rows.length > 0;
      }),
  };
};

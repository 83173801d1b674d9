import pg from 'pg';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';
import { createRunner } from '../../kit/source-runner.ts';

export const identity = { connector: 'contract', incarnation: 'i1', deployment: 'test' };
export const logical = ['wal_level=logical', 'max_replication_slots=20', 'max_wal_senders=0'];

/** The connector's context, with a config of defaults. */
export const contextOf = (config: Struct) => ({
  ...identity,
  taskId: 0,
  tasks: 1,
  signal: new AbortController().signal,
  config: postgresCdcSource.config.parse(config),
});

/** A server for the file; for each test a schema of its own, in which unqualified names are looked up. */
export const useCdc = (settings: readonly string[] = []) => {
  let server: PostgresServer;
  let db: pg.Client;
  let schema: string;
  let made = 0;
  const slots: string[] = [];
  beforeAll(async () => {
    server = await startPostgres([...logical, ...settings]);
    db = new pg.Client(server.url);
    await db.connect();
  });
  afterAll(async () => {
    await db?.end();
    await server?.stop();
  });
  beforeEach(async () => {
    for (const slot of slots.splice(0))
      await db.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1', [
        slot,
      ]);
    schema = `t${made++}`;
    await db.query(`CREATE SCHEMA ${schema}; SET search_path = ${schema}`);
  });

  const config = (tables: readonly string[], more: Struct = {}): Struct => {
    slots.push(`s_${schema}`);
    return {
      url: server.url,
      topicPrefix: 'shop',
      tables: tables.map((table) => `${schema}.${table}`),
      slotName: `s_${schema}`,
      snapshotMode: 'no_data',
      ...more,
    };
  };

  return {
    server: () => server,
    schema: () => schema,
    run: (sql: string, values?: readonly unknown[]) => db.query(sql, values as unknown[]),
    all: async (sql: string) => (await db.query({ text: sql, rowMode: 'array' })).rows,
    config,
    /** A source of these tables from now on. */
    async capture(tables: readonly string[], more: Struct = {}) {
      const whole = config(tables, more);
      await postgresCdcSource.created!(contextOf(whole));
      return {
        config: whole,
        ...createRunner({ source: postgresCdcSource, config: whole as never, expected: [] } as never),
      };
    },
  };
};

/** What the tests look at of an envelope. */
export const changeOf = ({ key, value }: { key: unknown; value: unknown }) => {
  if (value === null) return { key, op: 'tombstone' };
  const { op, before, after } = value as Struct;
  return { key, op, before, after };
};

import mysql from 'mysql2/promise';
import pg from 'pg';
import type { Flavour } from '../../infra/local/install-mysql.ts';
import { startMysql } from './mysql-server.ts';
import { startPostgres } from './postgres-server.ts';

export type System = Flavour | 'postgres';

/** A server that changes can be captured from, and one session: what is alike in all systems is told in one way. */
export interface Database {
  readonly system: System;
  /** Of the server, for connectors; of MySQL and MariaDB with a database. */
  url(database: string): string;
  run(sql: string): Promise<void>;
  /** Rows as texts, null as null. */
  rows(sql: string): Promise<readonly (readonly (string | null)[])[]>;
  /** It dies at once; `restart` brings it back with its data, on its port. */
  kill9(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export const startDatabase = (system: System): Promise<Database> =>
  system === 'postgres' ? startOfPostgres() : startOfMysql(system);

const textsOf = (rows: readonly (readonly unknown[])[]) =>
  rows.map((row) => row.map((value) => (value === null ? null : String(value))));

const startOfMysql = async (flavour: Flavour): Promise<Database> => {
  const server = await startMysql(flavour);
  const { host, port, user, password } = server;
  const connect = async () => {
    const made = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
    made.on('error', () => {});
    return made;
  };
  let db = await connect();
  return {
    system: flavour,
    url: (database) => `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}`,
    run: async (sql) => void (await db.query(sql)),
    rows: async (sql) => textsOf((await db.query({ sql, rowsAsArray: true }))[0] as unknown as unknown[][]),
    kill9: server.kill9,
    async restart() {
      db.destroy();
      await server.restart();
      db = await connect();
    },
    async stop() {
      db.destroy();
      await server.stop();
    },
  };
};

const startOfPostgres = async (): Promise<Database> => {
  const server = await startPostgres(['wal_level=logical', 'max_wal_senders=0', 'max_replication_slots=20']);
  const connect = async () => {
    const made = new pg.Client(server.url);
    made.on('error', () => {});
    await made.connect();
    return made;
  };
  let db = await connect();
  return {
    system: 'postgres',
    url: () => server.url,
    run: async (sql) => void (await db.query(sql)),
    rows: async (sql) => textsOf((await db.query({ text: sql, rowMode: 'array' })).rows),
    kill9: server.kill9,
    async restart() {
      await server.restart();
      db = await connect();
    },
    async stop() {
      await db.end();
      await server.stop();
    },
  };
};

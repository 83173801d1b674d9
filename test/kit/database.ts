import mysql from 'mysql2/promise';
import pg from 'pg';
import { afterAll, beforeAll } from 'vitest';
import type { Flavour } from '../../infra/local/install-mysql.ts';
import { startMysql } from './mysql-server.ts';
import { startPostgres } from './postgres-server.ts';

export const systems = ['mariadb', 'mysql', 'postgres'] as const satisfies readonly (Flavour | 'postgres')[];
export type System = (typeof systems)[number];

/** What is alike in all systems is told in one way. */
interface Session {
  /** Runs statements, several at once. */
  run(sql: string): Promise<void>;
  /** Rows as texts, null as null. */
  rows(sql: string): Promise<readonly (readonly (string | null)[])[]>;
}

/** A server that changes can be captured from, and a session on it. */
export interface DatabaseServer extends Session {
  readonly system: System;
  /** Of the server, for connectors; of MySQL and MariaDB with a database. */
  url(database: string): string;
  /** Makes a database, which has a session of its own. */
  database(name: string): Promise<Database>;
  /** It dies at once; `restart` brings it back with its data, on its port. */
  kill9(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface Database extends Session, AsyncDisposable {
  readonly system: System;
  readonly url: string;
  readonly name: string;
  /** Where its tables are, for a connector. */
  readonly schema: string;
}

/** `env` is of PostgreSQL's process. */
export const startDatabase = (system: System, env: Readonly<Record<string, string>> = {}): Promise<DatabaseServer> =>
  system === 'postgres' ? startOfPostgres(env) : startOfMysql(system);

/** Servers for all tests of a file, or of a `describe`. */
export const useDatabases = (wanted: readonly System[] = systems): ((system: System) => DatabaseServer) => {
  const servers = new Map<System, DatabaseServer>();
  beforeAll(async () => {
    for (const system of wanted) servers.set(system, await startDatabase(system));
  }, 120_000);
  afterAll(async () => {
    for (const server of servers.values()) await server.stop();
  });
  return (system) => servers.get(system)!;
};

const startOfMysql = async (flavour: Flavour): Promise<DatabaseServer> => {
  const server = await startMysql(flavour);
  const { host, port, user, password } = server;
  const connect = async () => {
    const made = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
    made.on('error', () => {});
    return made;
  };
  const sessionOf = (db: () => mysql.Connection): Session => ({
    run: async (sql) => void (await db().query(sql)),
    async rows(sql) {
      const [rows] = await db().query({ sql, rowsAsArray: true });
      return (rows as unknown[][]).map((row) => row.map((value) => (value === null ? null : String(value))));
    },
  });
  const urlOf = (database: string) => `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}`;
  let db = await connect();
  return {
    ...sessionOf(() => db),
    system: flavour,
    url: urlOf,
    async database(name) {
      const own = await connect();
      await own.query(`CREATE DATABASE ${name}; USE ${name}`);
      return {
        ...sessionOf(() => own),
        ...{ system: flavour, url: urlOf(name), name, schema: name },
        [Symbol.asyncDispose]: () => own.end(),
      };
    },
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

const startOfPostgres = async (env: Readonly<Record<string, string>>): Promise<DatabaseServer> => {
  const server = await startPostgres(['wal_level=logical', 'max_wal_senders=0', 'max_replication_slots=20'], env);
  const types = { getTypeParser: () => String } as unknown as pg.CustomTypesConfig;
  const connect = async (url = server.url) => {
    const made = new pg.Client({ connectionString: url, types });
    made.on('error', () => {});
    await made.connect();
    return made;
  };
  const sessionOf = (db: () => pg.Client): Session => ({
    run: async (sql) => void (await db().query(sql)),
    rows: async (text) => (await db().query({ text, rowMode: 'array' })).rows,
  });
  let db = await connect();
  return {
    ...sessionOf(() => db),
    system: 'postgres',
    url: () => server.url,
    async database(name) {
      await db.query(`CREATE DATABASE ${name}`);
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      const own = await connect(url.href);
      return {
        ...sessionOf(() => own),
        ...{ system: 'postgres', url: url.href, name, schema: 'public' },
        [Symbol.asyncDispose]: () => own.end(),
      };
    },
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

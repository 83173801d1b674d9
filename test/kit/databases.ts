import mysql from 'mysql2/promise';
import pg from 'pg';
import { startMysql } from './mysql-server.ts';
import { startPostgres } from './postgres-server.ts';

export const systems = ['mariadb', 'mysql', 'postgres'] as const;
export type System = (typeof systems)[number];

/** A database server of any system, and one session on it. */
export interface DatabaseServer extends AsyncDisposable {
  readonly system: System;
  /** Makes a database; a session with it is that one from now on. */
  database(name: string): Promise<Database>;
}

export interface Database extends AsyncDisposable {
  readonly url: string;
  readonly name: string;
  /** Runs statements, several at once. */
  run(sql: string): Promise<void>;
  /** Rows as arrays of texts. */
  rows(sql: string): Promise<readonly (readonly (string | null)[])[]>;
}

export const startServer = async (system: System): Promise<DatabaseServer> =>
  system === 'postgres' ? startPostgresServer() : startMysqlServer(system);

const startPostgresServer = async (): Promise<DatabaseServer> => {
  const server = await startPostgres(['wal_level=logical']);
  return {
    system: 'postgres',
    async database(name) {
      const root = new pg.Client(server.url);
      await root.connect();
      await root.query(`CREATE DATABASE ${name}`);
      await root.end();
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      const types = { getTypeParser: () => (text: string | Buffer) => String(text) };
      const client = new pg.Client({ connectionString: url.href, types: types as unknown as pg.CustomTypesConfig });
      await client.connect();
      return {
        url: url.href,
        name,
        run: async (sql) => void (await client.query(sql)),
        rows: async (text) => (await client.query({ text, rowMode: 'array' })).rows,
        [Symbol.asyncDispose]: () => client.end(),
      };
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
};

const startMysqlServer = async (system: 'mariadb' | 'mysql'): Promise<DatabaseServer> => {
  const server = await startMysql(system);
  const { host, port, user, password } = server;
  return {
    system,
    async database(name) {
      const client = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
      await client.query(`CREATE DATABASE ${name}; USE ${name}`);
      return {
        url: `mysql://${user}:${encodeURIComponent(password)}@${host}:${port}/${name}`,
        name,
        run: async (sql) => void (await client.query(sql)),
        rows: async (sql) => {
          const [rows] = await client.query({ sql, rowsAsArray: true });
          return (rows as unknown[][]).map((row) => row.map((value) => (value === null ? null : String(value))));
        },
        [Symbol.asyncDispose]: () => client.end(),
      };
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
};

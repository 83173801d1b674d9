import mysql from 'mysql2/promise';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { mysqlSink } from '../../../functions/mysql/sink.ts';
import type { SinkTask } from '../../../shared/connect/connector.ts';
import type { Struct, Value } from '../../../shared/connect/schema.ts';
import { type Flavour, type MysqlServer, startMysql } from '../../kit/mysql-server.ts';

/** A server for the tests around it, and an empty database for each, which is the reader's own. */
export const useSink = (flavour: Flavour, settings: readonly string[] = []) => {
  let server: MysqlServer;
  let db: mysql.Connection;
  let database: string;
  let made = 0;

  const connectReader = async (): Promise<void> => {
    const { host, port, user, password } = server;
    db = await mysql.createConnection({
      ...{ host, port, user, password, charset: 'utf8mb4_bin' },
      ...{ multipleStatements: true, dateStrings: true, supportBigNumbers: true, bigNumberStrings: false },
    });
    db.on('error', () => {});
  };

  beforeAll(async () => {
    server = await startMysql(flavour, settings);
    await connectReader();
  });
  afterAll(async () => {
    db?.destroy();
    await server?.stop();
  });
  beforeEach(async () => {
    database = `test_${made++}`;
    await db.query(`CREATE DATABASE ${database}; USE ${database}`);
  });

  const login = () => {
    const { host, port, user, password } = server;
    return { host, port, user, password, database };
  };
  const contextOf = (config: Struct = {}, connector = 'c') => ({
    config: mysqlSink.config.parse({ ...login(), ...config }),
    taskId: 0,
    tasks: 1,
    signal: new AbortController().signal,
    deployment: 'd',
    connector,
    incarnation: 'i',
  });
  const openSink = (config: Struct = {}, connector = 'c') => mysqlSink.open(contextOf(config, connector));

  return {
    server: () => server,
    database: () => database,
    login,
    contextOf,
    openSink,
    connectReader,
    port: () => server.port,
    /** The server through another port. */
    through: (port: number): Struct => ({ port }),
    tables: async () => {
      const [rows] = await db.query<mysql.RowDataPacket[]>(`SHOW TABLES FROM ${database}`);
      return rows.map((row) => String(Object.values(row)[0]));
    },
    async withSink<T>(config: Struct, work: (task: SinkTask) => Promise<T>): Promise<T> {
      const task = await openSink(config);
      try {
        return await work(task);
      } finally {
        await task.close();
      }
    },
    run: async (sql: string): Promise<void> => {
      await db.query(sql);
    },
    all: async (sql: string): Promise<Value[][]> => {
      const [rows] = await db.query<mysql.RowDataPacket[]>({ sql, rowsAsArray: true });
      return rows as unknown as Value[][];
    },
  };
};

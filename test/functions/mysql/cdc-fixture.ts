import mysql from 'mysql2/promise';
import { afterAll, beforeAll } from 'vitest';
import { mysqlCdcSource } from '../../../functions/mysql/cdc-source.ts';
import { type Flavour, type MysqlServer, type OldFlavour, startMysql } from '../../kit/mysql-server.ts';
import type { SourceFixture } from '../../kit/source-runner.ts';

/** A server for a file, and an empty database for whoever asks for one. */
export const useMysql = (flavour: Flavour | OldFlavour, settings: readonly string[] = []) => {
  let server: MysqlServer;
  let connection: mysql.Connection;
  let made = 0;
  beforeAll(async () => {
    server = await startMysql(flavour, settings);
    const { host, port, user, password } = server;
    connection = await mysql.createConnection({ host, port, user, password, multipleStatements: true, timezone: 'Z' });
  });
  afterAll(async () => {
    await connection?.end();
    await server?.stop();
  });
  return {
    server: () => server,
    run: (sql: string, values: readonly unknown[] = []) => connection.query(sql, [...values] as never[]),
    /** Another session. */
    connect: () => {
      const { host, port, user, password } = server;
      return mysql.createConnection({ host, port, user, password });
    },
    async database(): Promise<string> {
      const name = `test_${made++}`;
      await connection.query(`CREATE DATABASE ${name}; USE ${name}; SET time_zone = '+00:00'`);
      return name;
    },
    /** The connector's context, with a config of defaults. */
    contextOf: (config: object) => {
      const { host, port, user, password } = server;
      return {
        ...{ connector: 'c', incarnation: 'i', deployment: 'd', taskId: 0, tasks: 1 },
        signal: new AbortController().signal,
        config: mysqlCdcSource.config.parse({ host, port, user, password, topicPrefix: 'shop', ...config }),
      };
    },
    fixture: (config: object) => {
      const { host, port, user, password } = server;
      return {
        source: mysqlCdcSource,
        config: { host, port, user, password, topicPrefix: 'shop', ...config },
      } as unknown as Omit<SourceFixture, 'expected'>;
    },
  };
};

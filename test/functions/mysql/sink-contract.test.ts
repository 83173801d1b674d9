import mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe } from 'vitest';
import { mysqlSink } from '../../../functions/mysql/sink.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { describeSink } from '../../kit/describe-sink.ts';
import { type MysqlServer, startMysql } from '../../kit/mysql-server.ts';
import { until } from '../../kit/until.ts';

const id = { name: 'id', schema: { type: 'string' as const } };
/** In a key the server finds what is too long; in a row without one there is room for any text. */
const refusedBy = { upsert: { id: 'x'.repeat(800) }, insert: { id: 'bad' } };

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  let server: MysqlServer;
  let reader: mysql.Connection;
  beforeAll(async () => {
    server = await startMysql(flavour);
    const { host, port, user, password } = server;
    reader = await mysql.createConnection({ host, port, user, password });
  });
  afterAll(async () => {
    await reader?.end();
    await server?.stop();
  });

  const ask = async (sql: string) => (await reader.query<mysql.RowDataPacket[]>(sql))[0];

  let made = 0;
  const makeFixture = async (mode: 'insert' | 'upsert') => {
    const database = `contract_${made++}`;
    await reader.query(`CREATE DATABASE ${database}`);
    const { host, port, user, password } = server;
    const key = refusedBy[mode];
    return {
      sink: mysqlSink,
      config: { host, port, user, password, database, ...(mode === 'insert' ? { mode } : {}) },
      mode: mode === 'insert' ? ('append' as const) : ('upsert' as const),
      tombstones: mode !== 'insert',
      rejects: {
        topic: 'orders',
        key,
        keySchema: { type: 'struct' as const, fields: [id] },
        value: mode === 'insert' ? null : { ...key, note: 'too long', n: 1 },
        valueSchema: {
          type: 'struct' as const,
          fields: [
            id,
            { name: 'note', schema: { type: 'string' as const } },
            { name: 'n', schema: { type: 'int32' as const } },
          ],
        },
      },
      async read() {
        const tables = await ask(
          `SELECT TABLE_NAME AS topic FROM information_schema.TABLES WHERE TABLE_SCHEMA = '${database}' AND TABLE_NAME <> 'sluice_offsets'`,
        );
        const all = [];
        for (const { topic } of tables)
          all.push(
            ...(await ask(`SELECT * FROM ${database}.\`${topic}\``)).map((row) => ({
              topic,
              value: { ...row } as Struct,
            })),
          );
        return all;
      },
      cleanup: async () => {
        // Whatever happened to a task, close left no session behind.
        await until(async () => (await ask('SHOW FULL PROCESSLIST')).filter((row) => row.db === database).length === 0);
        await reader.query(`DROP DATABASE ${database}`);
      },
    };
  };

  describeSink(`${flavour}, upsert`, () => makeFixture('upsert'));
  describeSink(`${flavour}, insert`, () => makeFixture('insert'));
});

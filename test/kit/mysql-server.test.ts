import mysql from 'mysql2/promise';
import { expect, test } from 'vitest';
import { startMysql } from './mysql-server.ts';

test.each([
  ['mariadb', /mariadb/i],
  ['mysql', /^8\.0/],
  ['mariadb-10.2', /^10\.2.*mariadb/i],
  ['mysql-5.7', /^5\.7/],
] as const)('%s takes SQL over TCP, and has its data after it was killed', async (flavour, version) => {
  const server = await startMysql(flavour);
  try {
    const { host, port, user, password, database } = server;
    const query = async (sql: string) => {
      const connection = await mysql.createConnection({ host, port, user, password, database });
      try {
        return (await connection.query<mysql.RowDataPacket[]>({ sql, rowsAsArray: true }))[0];
      } finally {
        await connection.end();
      }
    };
    expect(await query('SELECT @@version, @@log_bin, @@binlog_format, @@binlog_row_image, @@local_infile')).toEqual([
      [expect.stringMatching(version), 1, 'ROW', 'FULL', 1],
    ]);
    await query('CREATE TABLE t (id int PRIMARY KEY, s text)');
    await query("INSERT INTO t VALUES (1, 'ä☃😀')");
    await server.kill9();
    await expect(query('SELECT 1')).rejects.toThrow('ECONNREFUSED');
    await server.restart();
    expect(await query('SELECT * FROM t')).toEqual([[1, 'ä☃😀']]);
    await server.restart();
    expect(await query('SELECT id FROM t')).toEqual([[1]]);
  } finally {
    await server.stop();
  }
});

import type mysql from 'mysql2/promise';
import { expect } from 'vitest';
import { mysqlQuerySource } from '../../../functions/mysql/query-source.ts';
import type { Flavour } from '../../kit/mysql-server.ts';
import type { QueryServer } from '../../kit/query-server.ts';
import { until } from '../../kit/until.ts';
import { useMysql } from './cdc-fixture.ts';

export const useQueryServer = (flavour: Flavour): QueryServer => {
  const { server, run, connect, database } = useMysql(flavour);
  let current: string;
  return {
    source: mysqlQuerySource as never,
    address: () => {
      const { host, port, user, password } = server();
      return { host, port, user, password };
    },
    async schema() {
      current = await database();
      return current;
    },
    run,
    fill: (columns, key, values, rows) =>
      run(`CREATE TABLE numbers (n int PRIMARY KEY); INSERT INTO numbers VALUES (0);
        ${Array.from({ length: Math.ceil(Math.log2(rows)) }, (_, i) => `INSERT INTO numbers SELECT n + ${2 ** i} FROM numbers`).join('; ')};
        CREATE TABLE t (${columns}, PRIMARY KEY (${key})) CHARSET utf8mb4;
        INSERT INTO t SELECT ${values} FROM numbers WHERE n < ${rows}; ANALYZE TABLE t`),
    rows: async (sql) => (await run(sql))[0] as never,
    async session() {
      const session: mysql.Connection = await connect();
      await session.query(`USE ${current}`);
      return { run: (sql) => session.query(sql), end: () => session.end() };
    },
    instant: 'timestamp(6) NULL',
    wallClock: 'datetime(6)',
    clockAt: (hours) => `UTC_TIMESTAMP(6) + INTERVAL ${hours} HOUR`,
    thisSecond: 'UTC_TIMESTAMP(0)',
    today: 'UTC_DATE()',
    bytes: 'varbinary(9)',
    text: 'longtext',
    hex: (digits) => `x'${digits}'`,
    quote: (name) => `\`${name}\``,
    badValue: ['time', "'25:00:00'", /column v: 25:00:00 is no time of day/],
    async reader(schema) {
      await run(
        `CREATE USER reader@'%' IDENTIFIED BY 'x'; GRANT SELECT (id) ON ${schema}.t TO reader@'%'; GRANT INSERT ON ${schema}.t TO reader@'%'`,
      );
      const denied = expect.stringMatching(/t can't be read: .*denied.*: GRANT SELECT ON \w+\.t TO reader@%$/);
      const missing = expect.stringMatching(/^there is no table \w+\.hidden, or the account may not read it/);
      return {
        config: { user: 'reader', password: 'x' },
        grants: [missing, denied],
        end: () => run("DROP USER reader@'%'"),
      };
    },
    refused: () => ({ password: 'wrong' }),
    caseless: true,
    waits: 'SLEEP(1000) = 0',
    untilWaits: () =>
      until(async () => {
        const [found] = await run("SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'");
        return (found as unknown[]).length > 0;
      }),
  };
};

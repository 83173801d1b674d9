import type mysql from 'mysql2/promise';
import { mysqlQuerySource } from '../../../functions/mysql/query-source.ts';
import type { Flavour } from '../../kit/install-mysql.ts';
import type { QueryServer } from '../../kit/query-server.ts';
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
    async session() {
      const session: mysql.Connection = await connect();
      await session.query(`USE ${current}`);
      return { run: (sql) => session.query(sql), end: () => session.end() };
    },
    instant: 'timestamp(6) NULL',
    wallClock: 'datetime(6)',
    clockAt: (hours) => `UTC_TIMESTAMP(6) + INTERVAL ${hours} HOUR`,
    waits: 'SLEEP(1000) = 0',
  };
};

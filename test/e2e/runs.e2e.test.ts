import { setImmediate } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mysqlCdcSource } from '../../functions/mysql/cdc-source.ts';
import { mysqlQuerySource } from '../../functions/mysql/query-source.ts';
import { postgresCdcSource } from '../../functions/postgres/cdc-source.ts';
import { postgresQuerySource } from '../../functions/postgres/query-source.ts';
import { postgresSink } from '../../functions/postgres/sink.ts';
import type { SinkTask, SourceTask } from '../../shared/connect/connector.ts';
import type { RunResult } from '../../shared/runtime/run.ts';
import { askDestination } from '../../shared/state/offsets.ts';
import { type MysqlServer, startMysql } from '../kit/mysql-server.ts';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { createRunKit } from '../kit/run-kit.ts';

const rows = 2_000;
const context = (connector: string) => ({
  ...{ connector, incarnation: 'i', deployment: 'd', taskId: 0, tasks: 1 },
  signal: new AbortController().signal,
});

let maria: MysqlServer;
let postgres: PostgresServer;
let db: pg.Client;
beforeAll(async () => {
  maria = await startMysql('mariadb');
  postgres = await startPostgres(['wal_level=logical', 'max_wal_senders=0']);
  db = new pg.Client(postgres.url);
  await db.connect();
});
afterAll(async () => {
  await db?.end();
  await maria?.stop();
  await postgres?.stop();
});

/** A table of rows, and the source that reads it. */
const sources = {
  async 'mysql-cdc'() {
    const { host, port, user, password } = maria;
    const connection = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
    const values = Array.from({ length: rows }, (_, i) => `(${i})`).join();
    await connection.query(
      `CREATE DATABASE shop; CREATE TABLE shop.t (id int PRIMARY KEY); INSERT INTO shop.t VALUES ${values}`,
    );
    await connection.end();
    const config = mysqlCdcSource.config.parse({
      ...{ host, port, user, password, topicPrefix: 'src', tables: ['shop.t'], runs: true },
    });
    return { table: 'shop.t', open: () => mysqlCdcSource.open({ ...context('mysql'), config }) };
  },
  async 'postgres-cdc'() {
    await db.query(`CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(0, ${rows - 1})`);
    const config = postgresCdcSource.config.parse({
      ...{ url: postgres.url, topicPrefix: 'src', tables: ['public.t'], runs: true },
    });
    await postgresCdcSource.created!({ ...context('postgres'), config });
    return { table: 'public.t', open: () => postgresCdcSource.open({ ...context('postgres'), config }) };
  },
  async 'mysql-query'() {
    const { host, port, user, password } = maria;
    const config = mysqlQuerySource.config.parse({
      ...{ host, port, user, password, topicPrefix: 'src', tables: ['shop.t'], mode: 'bulk', runs: true },
    });
    return { table: 'shop.t', open: () => mysqlQuerySource.open({ ...context('mysql-query'), config }) };
  },
  async 'postgres-query'() {
    const config = postgresQuerySource.config.parse({
      ...{ url: postgres.url, topicPrefix: 'src', tables: ['public.t'], mode: 'bulk', runs: true },
    });
    return { table: 'public.t', open: () => postgresQuerySource.open({ ...context('postgres-query'), config }) };
  },
};

test.each(Object.keys(sources) as (keyof typeof sources)[])(
  'readers see the rows of %s all at once, and none that the table has not',
  async (plugin) => {
    const { table, open } = await sources[plugin]();
    const name = plugin.replace('-', '_');
    const openSink = (): Promise<SinkTask> =>
      postgresSink.open({
        ...context(plugin),
        config: postgresSink.config.parse({ url: postgres.url, table: name, visibility: 'batch' }),
      });
    const kit = createRunKit();
    const run = () =>
      kit.run({
        openSource: open as () => Promise<SourceTask<unknown>>,
        openSink,
        budget: { maxRecords: 150, maxBytes: 1 << 20 },
      });
    const reader = new pg.Client(postgres.url);
    await reader.connect();
    /** How many rows a reader saw, over and over, while it ran. */
    const seenDuring = async (work: Promise<RunResult>) => {
      const seen = new Set<number>();
      let isOver = false;
      const over = work.finally(() => {
        isOver = true;
      });
      while (!isOver) {
        const { rows: found } = await reader
          .query(`SELECT count(*)::int AS n FROM ${name}`)
          .catch(() => ({ rows: [{ n: 0 }] }));
        seen.add(found[0].n);
        await setImmediate();
      }
      const { outcome, error } = await over;
      expect([outcome, error?.message]).toEqual(['drained', undefined]);
      return [...seen].filter((n) => n !== 0 && n !== rows && n !== rows + 1);
    };
    try {
      expect(await seenDuring(run())).toEqual([]);
      const count = async () => (await db.query(`SELECT count(*)::int AS n FROM ${name}`)).rows[0].n;
      expect(await count()).toBe(rows);
      // Read again by an operator's order: what the table has not is gone.
      await db.query(`INSERT INTO ${name} VALUES (-1)`);
      const sink = await openSink();
      await sink.reset!('again', [{ partition: { server: 'src', table }, offset: null }]);
      await sink.close();
      await askDestination(kit.base, kit.request().identity, 'again');
      expect(await seenDuring(run())).toEqual([]);
      expect(await count()).toBe(rows);
    } finally {
      await reader.end();
    }
  },
);

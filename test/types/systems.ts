import mysql from 'mysql2/promise';
import pg from 'pg';
import { afterAll, beforeAll } from 'vitest';
import { mysqlCdcSource } from '../../functions/mysql/cdc-source.ts';
import { connect as connectMysql } from '../../functions/mysql/client.ts';
import { mysqlSink } from '../../functions/mysql/sink.ts';
import { loadTable as loadMysqlTable } from '../../functions/mysql/table.ts';
import { takes as mysqlTakes } from '../../functions/mysql/types.ts';
import { postgresCdcSource } from '../../functions/postgres/cdc-source.ts';
import { connect as connectPostgres } from '../../functions/postgres/client.ts';
import { postgresSink } from '../../functions/postgres/sink.ts';
import { loadTable as loadPostgresTable } from '../../functions/postgres/table.ts';
import { takes as postgresTakes } from '../../functions/postgres/types.ts';
import type { SinkTask } from '../../shared/connect/connector.ts';
import type { Schema, Struct } from '../../shared/connect/schema.ts';
import { contextOf, logical } from '../functions/postgres/cdc-fixture.ts';
import { type Flavour, startMysql } from '../kit/mysql-server.ts';
import { startPostgres } from '../kit/postgres-server.ts';
import type { SourceFixture } from '../kit/source-runner.ts';

/** A database as a source and as a destination, and what it says itself of what is in it. */
export interface System {
  readonly name: 'mariadb' | 'mysql' | 'postgres';
  run(sql: string): Promise<unknown>;
  /** Rows as texts, as the server writes them. */
  texts(sql: string): Promise<readonly (readonly (string | null)[])[]>;
  /** The connector of table `t`, for the rows that are there or for the changes since `beginChanges`. */
  source(of: 'rows' | 'changes'): Pick<SourceFixture, 'source' | 'config'>;
  beginChanges(): Promise<void>;
  openSink(config: Struct): Promise<SinkTask>;
  /** A stored column as text, by its own type and the values it was written for. */
  textOf(column: string, type: string, schema: Schema): string;
  /** What the sink says of a table's columns: whether one takes the values of a schema. */
  takes(table: string): Promise<(column: string, schema: Schema) => boolean>;
  /** The types of a table's columns, by name, without the display widths of old. */
  columnTypes(table: string): Promise<ReadonlyMap<string, string>>;
}

const identity = { taskId: 0, tasks: 1, deployment: 'd', connector: 'types', incarnation: 'i' };
const signal = new AbortController().signal;

interface Started {
  readonly system: System;
  stop(): Promise<void>;
}

const startMysqlSystem = async (name: Flavour): Promise<Started> => {
  const server = await startMysql(name);
  const { host, port, user, password } = server;
  const db = await mysql.createConnection({
    ...{ host, port, user, password },
    multipleStatements: true,
    charset: 'utf8mb4_bin',
  });
  await db.query("CREATE DATABASE types; USE types; SET time_zone = '+00:00', sql_mode = ''");
  const config = { host, port, user, password };
  const texts: System['texts'] = async (sql) => {
    const [rows] = await db.query<mysql.RowDataPacket[]>({
      sql,
      rowsAsArray: true,
      typeCast: (field) => field.string('utf8'),
    });
    return rows as unknown as (string | null)[][];
  };
  return {
    system: {
      name,
      run: (sql) => db.query(sql),
      texts,
      source: (of) => ({
        source: mysqlCdcSource as never,
        config: {
          ...config,
          ...{ topicPrefix: 'p', tables: ['types.t'], snapshotMode: of === 'rows' ? 'initial' : 'never' },
        } as never,
      }),
      beginChanges: async () => {},
      openSink: (more) =>
        mysqlSink.open({
          ...identity,
          signal,
          config: mysqlSink.config.parse({ ...config, database: 'types', ...more }),
        }),
      textOf(column, type, schema) {
        if (schema.type === 'bytes') return `HEX(${column})`;
        if (type.startsWith('bit')) return `CAST(${column} + 0 AS CHAR)`;
        return /^float/.test(type) ? `CAST(${column} + 0e0 AS CHAR)` : `CAST(${column} AS CHAR)`;
      },
      async takes(table) {
        const connection = await connectMysql(
          mysqlSink.config.parse({ ...config, database: 'types' }),
          'types',
          signal,
        );
        const { columns } = (await loadMysqlTable(connection, { schema: 'types', name: table }))!;
        await connection.close();
        return (column, schema) => mysqlTakes(columns.get(column)!, schema);
      },
      columnTypes: async (table) =>
        new Map(
          (
            await texts(
              `SELECT COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'types' AND TABLE_NAME = '${table}'`,
            )
          ).map(([column, type]) => [column!, type!.replace(/^((?!tinyint\(1\))[a-z]*int)\(\d+\)/, '$1')]),
        ),
    },
    stop: async () => {
      await db.end();
      await server.stop();
    },
  };
};

const startPostgresSystem = async (): Promise<Started> => {
  const server = await startPostgres(logical);
  const db = new pg.Client(server.url);
  await db.connect();
  await db.query("SET timezone = 'UTC'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = 1");
  const texts: System['texts'] = async (sql) =>
    (await db.query({ text: sql, rowMode: 'array', types: { getTypeParser: () => (text: unknown) => text } as never }))
      .rows;
  const configOf = (of: 'rows' | 'changes') => ({
    ...{ url: server.url, topicPrefix: 'p', tables: ['public.t'], slotName: 'types' },
    snapshotMode: of === 'rows' ? 'initial' : 'no_data',
  });
  return {
    system: {
      name: 'postgres',
      run: (sql) => db.query(sql),
      texts,
      source: (of) => ({ source: postgresCdcSource as never, config: configOf(of) as never }),
      beginChanges: () => postgresCdcSource.created!(contextOf(configOf('changes'))),
      openSink: (more) =>
        postgresSink.open({ ...identity, signal, config: postgresSink.config.parse({ url: server.url, ...more }) }),
      textOf: (column, _, schema) => (schema.type === 'bytes' ? `encode(${column}, 'hex')` : `${column}::text`),
      async takes(table) {
        const connection = await connectPostgres(postgresSink.config.parse({ url: server.url }), 'types', signal);
        const { columns } = (await loadPostgresTable(connection, { schema: 'public', name: table }))!;
        await connection.close();
        return (column, schema) => postgresTakes(columns.get(column)!, schema);
      },
      columnTypes: async (table) =>
        new Map(
          (
            await texts(
              `SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '"${table}"'::regclass AND attnum > 0`,
            )
          ).map(([column, type]) => [column!, type!]),
        ),
    },
    stop: async () => {
      await db.end();
      await server.stop();
    },
  };
};

/** MariaDB, MySQL and PostgreSQL for the tests of a file, each both source and destination. */
export const useSystems = (): (() => readonly System[]) => {
  let started: readonly Started[] = [];
  beforeAll(async () => {
    started = await Promise.all([startMysqlSystem('mariadb'), startMysqlSystem('mysql'), startPostgresSystem()]);
  });
  afterAll(() => Promise.all(started.map(({ stop }) => stop())));
  return () => started.map(({ system }) => system);
};

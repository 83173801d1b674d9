import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll } from 'vitest';
import type { PostgresCdcOffset } from '../../../functions/postgres/cdc-offset.ts';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import type { SourceTask } from '../../../shared/connect/connector.ts';
import type { Value } from '../../../shared/connect/schema.ts';
import { describeSource, type ExpectedRecord } from '../../kit/describe-source.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';
import { recordsOf } from '../../kit/source-runner.ts';
import { contextOf, logical } from './cdc-fixture.ts';

let server: PostgresServer;
let db: pg.Client;
beforeAll(async () => {
  server = await startPostgres([...logical, 'autovacuum=off']);
  db = new pg.Client(server.url);
  await db.connect();
});
afterAll(async () => {
  await db?.end();
  await server?.stop();
});

const fixtureWith = (more: { readonly transactions?: boolean; readonly topic?: string }) => async () => {
  const schema = `c_${randomUUID().slice(0, 8)}`;
  await db.query(`CREATE SCHEMA ${schema}; SET search_path = ${schema};
    CREATE TABLE a (id int PRIMARY KEY, name text); CREATE TABLE b (id int PRIMARY KEY, name text);
    CREATE TABLE other (id int PRIMARY KEY)`);
  const config = {
    url: server.url,
    topicPrefix: schema,
    tables: [`${schema}.a`, `${schema}.b`],
    slotName: schema,
    publicationName: schema,
    snapshotMode: 'no_data' as const,
    ...more,
  };
  await postgresCdcSource.created!(contextOf(config));
  // A publication may hold more than is read.
  await db.query(`ALTER PUBLICATION ${schema} ADD TABLE other`);
  let seen = 0;
  const read = async (): Promise<ExpectedRecord[]> => {
    const task = await postgresCdcSource.open(contextOf(config));
    const poll = await task.poll(
      { get: () => undefined, all: () => [] },
      { maxRecords: 1000, maxBytes: 1e9, signal: new AbortController().signal },
    );
    await task.close();
    return recordsOf(poll).map(({ topic, key, value }) => ({ topic, key, value }));
  };
  await db.query(`BEGIN; INSERT INTO a SELECT n, 'x' || n FROM generate_series(1, 4) n; INSERT INTO other VALUES (1);
    UPDATE b SET id = 1; INSERT INTO b VALUES (1, 'b'); UPDATE a SET name = 'y' WHERE id = 2; COMMIT`);
  await db.query('UPDATE a SET id = 20 WHERE id = 2');
  await db.query('INSERT INTO other VALUES (2)');
  await db.query('DELETE FROM a WHERE id IN (1, 3)');
  await db.query("BEGIN; INSERT INTO b VALUES (2, 'c'); INSERT INTO other VALUES (3); COMMIT");
  // What was read at once is what every other way of reading must give; cdc-changes.test.ts holds what it is.
  const expected = await read();
  seen = expected.length;
  return {
    source: postgresCdcSource,
    config,
    expected,
    async more() {
      await db.query(`INSERT INTO ${schema}.a VALUES (100, 'more'), (101, NULL)`);
      const all = await read();
      const more = all.slice(seen);
      seen = all.length;
      return more;
    },
    async replace() {
      await db.query(`SELECT pg_drop_replication_slot('${schema}')`);
      await db.query(`SELECT pg_create_logical_replication_slot('${schema}', 'pgoutput')`);
    },
    async cleanup() {
      await postgresCdcSource.deleted!(contextOf(config));
      await db.query(`DROP SCHEMA ${schema} CASCADE`);
    },
  };
};

describeSource('postgres-cdc', fixtureWith({}));
describeSource('postgres-cdc, transactions', fixtureWith({ transactions: true, topic: 'all' }));

/** The server writes WAL by itself now and then, and the views of two readings differ by it. Here all rows were there before the slot. */
const quiet = (task: SourceTask<PostgresCdcOffset>): SourceTask<PostgresCdcOffset> => {
  const still = (offset: PostgresCdcOffset): PostgresCdcOffset =>
    'views' in offset && 'after' in offset
      ? { ...offset, views: offset.views.map((one) => ({ ...one, view: { ...one.view, lsn: '0/1' } })) }
      : offset;
  return {
    ...task,
    async poll(offsets, budget) {
      const poll = await task.poll(offsets, budget);
      return {
        ...poll,
        position: (index) => ({ ...poll.position(index), offset: still(poll.position(index).offset) }),
        offsets: poll.offsets.map((position) => ({ ...position, offset: still(position.offset) })),
      };
    },
  };
};

describeSource('postgres-cdc, rows that were there', async () => {
  const schema = `c_${randomUUID().slice(0, 8)}`;
  await db.query(`CREATE SCHEMA ${schema}; SET search_path = ${schema};
    CREATE TABLE a (id int PRIMARY KEY, name text); INSERT INTO a SELECT n, 'x' || n FROM generate_series(1, 7) n;
    CREATE TABLE b (x text, y int, at timestamptz, PRIMARY KEY (y, x));
    INSERT INTO b SELECT 'b' || n, n % 2, '2024-02-29 12:00+00' FROM generate_series(1, 6) n;
    CREATE TABLE c (at timestamptz PRIMARY KEY); INSERT INTO c VALUES ('2024-02-29 12:00+00'), ('2025-02-28 12:00+00')`);
  const config = {
    url: server.url,
    topicPrefix: schema,
    tables: ['a', 'b', 'c'].map((table) => `${schema}.${table}`),
    slotName: schema,
  };
  await postgresCdcSource.created!(contextOf(config));
  const [found] = (await db.query("SELECT current_setting('server_version') AS version, current_database() AS db"))
    .rows;
  const read = (table: string, key: string[], row: { [name: string]: Value }): ExpectedRecord => ({
    topic: `${schema}.${schema}.${table}`,
    key: Object.fromEntries(Object.entries(row).filter(([name]) => key.includes(name))),
    value: {
      before: null,
      after: row,
      source: {
        ...found,
        connector: 'postgresql',
        name: schema,
        ts_ms: null,
        snapshot: 'true',
        schema,
        table,
        txId: null,
        lsn: null,
      },
      transaction: null,
      op: 'r',
      ts_ms: null,
    },
  });
  return {
    source: {
      ...postgresCdcSource,
      open: async (context) => quiet(await postgresCdcSource.open(context)),
    } as typeof postgresCdcSource,
    config,
    expected: [
      ...[1, 2, 3, 4, 5, 6, 7].map((n) => read('a', ['id'], { id: n, name: `x${n}` })),
      ...[2, 4, 6, 1, 3, 5].map((n) => read('b', ['x', 'y'], { x: `b${n}`, y: n % 2, at: '2024-02-29T12:00:00Z' })),
      ...['2024-02-29', '2025-02-28'].map((date) => read('c', ['at'], { at: `${date}T12:00:00Z` })),
    ],
    async replace() {
      await db.query(`SELECT pg_drop_replication_slot('${schema}'); INSERT INTO a VALUES (100, 'more')`);
      await db.query(`SELECT pg_create_logical_replication_slot('${schema}', 'pgoutput')`);
    },
    async cleanup() {
      await postgresCdcSource.deleted!(contextOf(config));
      await db.query(`DROP SCHEMA ${schema} CASCADE`);
    },
  };
});

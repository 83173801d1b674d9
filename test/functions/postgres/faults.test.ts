import { once } from 'node:events';
import { createServer } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createOffsetsTable } from '../../../functions/postgres/offsets.ts';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import { createRunsTable, createStagedTable } from '../../../functions/postgres/staging.ts';
import type { RecordInput } from '../../../shared/connect/build.ts';
import { type OffsetCommit, partitionKey } from '../../../shared/connect/connector.ts';
import type { Schema, Struct } from '../../../shared/connect/schema.ts';
import { offsetsShape } from '../../../shared/sql/offsets.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';
import { nextCommit, putRecords } from '../../kit/put-records.ts';
import { until } from '../../kit/until.ts';
import { createWire } from '../../kit/wire.ts';

let server: PostgresServer;
let db: pg.Client;
let schema: string;
let made = 0;
const connectReader = async () => {
  db = new pg.Client(server.url);
  db.on('error', () => {});
  await db.connect();
};
beforeAll(async () => {
  server = await startPostgres();
  await connectReader();
});
afterAll(async () => {
  await db?.end();
  await server?.stop();
});
beforeEach(async () => {
  schema = `test_${made++}`;
  await db.query(`CREATE SCHEMA ${schema}`);
});

const contextOf = (config: Struct = {}) => ({
  config: postgresSink.config.parse({ url: server.url, schema, ...config }),
  taskId: 0,
  tasks: 1,
  signal: new AbortController().signal,
  deployment: 'd',
  connector: 'c',
  incarnation: 'i',
});
const openSink = (config: Struct = {}) => postgresSink.open(contextOf(config));

const idSchema: Schema = { type: 'struct', fields: [{ name: 'id', schema: { type: 'int32' } }] };
const record = (id: number): RecordInput => ({
  topic: 't',
  value: { id },
  valueSchema: idSchema,
});
const ids = async () => (await db.query(`SELECT id FROM ${schema}.t ORDER BY id`)).rows.map(({ id }) => id);
const sessions = async () =>
  (await db.query("SELECT pid, state FROM pg_stat_activity WHERE application_name LIKE 'sluice%'")).rows;

describe('lost connections', () => {
  test('a put that is cut off at any answer of the server, and repeated, writes once', async () => {
    const wire = await createWire(server.port);
    const url = server.url.replace(String(server.port), String(wire.port));
    const task = await openSink({ url });
    let outcomes = '';
    for (let cut = 1, next = 0, done = false; !done; cut++) {
      const commit = await nextCommit(task);
      const records = [record(next++), record(next++)];
      wire.cutAfter(cut);
      const error = await putRecords(task, records, { offsets: [commit] }).then(
        () => undefined,
        (thrown) => thrown,
      );
      done = !wire.wasCut();
      wire.cutAfter(Number.POSITIVE_INFINITY);
      if (done) expect(error).toBeUndefined();
      else {
        expect(error).toMatchObject({ code: 'UNAVAILABLE', retriable: true, blame: 'system' });
        // The server may still be at it: the repeated put waits for the row it holds.
        expect(await putRecords(task, records, { offsets: [commit] })).toMatchObject({ committed: true });
      }
      outcomes += done ? '.' : 'x';
      const seen = Array.from({ length: next }, (_, i) => i);
      expect(await ids()).toEqual(seen);
      expect(await nextCommit(task)).toMatchObject({ seq: commit.seq + 1 });
    }
    // BEGIN with the offset, COPY's invitation, its end: three answers a put waits for, and DDL before them the first time.
    expect(outcomes.length).toBeGreaterThanOrEqual(4);
    await task.close();
    await wire.close();
  });

  test('a server that is killed and comes back: the same task goes on, nothing is lost or doubled', async () => {
    const task = await openSink();
    await putRecords(task, [record(0)]);
    for (let round = 1; round <= 3; round++) {
      const commit = await nextCommit(task);
      const records = Array.from({ length: 2_000 }, (_, i) => record(round * 10_000 + i));
      const put = putRecords(task, records, { offsets: [commit] });
      const [outcome] = await Promise.allSettled([put, server.kill9()]);
      if (outcome.status === 'rejected') {
        expect(outcome.reason).toMatchObject({ code: 'UNAVAILABLE', retriable: true });
        await expect(putRecords(task, records, { offsets: [commit] })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      }
      await server.restart();
      await connectReader();
      await putRecords(task, records, { offsets: [commit] });
      expect(await ids()).toHaveLength(1 + 2_000 * round);
    }
    await task.close();
  });

  test('an aborted put lets go at once, even where a lock holds it, and leaves nothing', async () => {
    const task = await openSink();
    await putRecords(task, [record(1)]);
    const commit = await nextCommit(task);
    await db.query(`BEGIN; LOCK TABLE ${schema}.t`);
    const budget = new AbortController();
    const put = putRecords(task, [record(2)], { offsets: [commit], signal: budget.signal });
    const outcome = expect(put).rejects.toMatchObject({ code: 'STOPPED', blame: 'system' });
    await until(async () => (await db.query('SELECT FROM pg_locks WHERE NOT granted')).rowCount === 1);
    budget.abort(new Error('the budget ended'));
    await outcome;
    await db.query('COMMIT');
    await until(async () => (await sessions()).length === 0);
    expect(await ids()).toEqual([1]);
    await putRecords(task, [record(2)], { offsets: [commit] });
    await task.close();
    expect(await ids()).toEqual([1, 2]);
  });

  test('a client that vanishes holds no lock for long: the server ends its session', async () => {
    const settings = ['idle_in_transaction_session_timeout', 'statement_timeout', 'client_connection_check_interval'];
    const columns = settings.map((name) => `${name} text DEFAULT current_setting('${name}')`);
    await db.query(`CREATE TABLE ${schema}.t (id integer, ${columns.join(', ')})`);
    const task = await openSink();
    await putRecords(task, [record(1)]);
    await task.close();
    const { rows } = await db.query(`SELECT ${settings.join(', ')} FROM ${schema}.t`);
    expect(rows.map((row) => Object.values(row))).toEqual([['1min', '15min', '5s']]);
  });

  test('close leaves no session behind', async () => {
    const task = await openSink();
    await putRecords(task, [record(1)]);
    expect(await sessions()).toHaveLength(1);
    await task.close();
    await until(async () => (await sessions()).length === 0);
  });

  test('two runs with the same partitions in another order do not deadlock', async () => {
    const tasks = await Promise.all([openSink(), openSink()]);
    const commits = (by: string, seq: number) =>
      Array.from({ length: 9 }, (_, p): OffsetCommit => {
        const partition = { p };
        return { key: partitionKey(partition), partition, offset: seq, seq, writeId: `${by}-${seq}` };
      });
    await putRecords(tasks[0]!, [], { offsets: commits('a', 0) });
    // Both stop at the row in the middle, each with the rows before it in its order.
    await db.query(`BEGIN; SELECT FROM ${schema}.sluice_offsets WHERE partition = '{"p":4}' FOR UPDATE`);
    const puts = Promise.allSettled([
      putRecords(tasks[0]!, [], { offsets: commits('a', 1) }),
      putRecords(tasks[1]!, [], { offsets: commits('b', 1).reverse() }),
    ]);
    await until(async () => (await db.query('SELECT FROM pg_locks WHERE NOT granted')).rowCount === 2);
    await db.query('COMMIT');
    const failed = (await puts).filter((result) => result.status === 'rejected');
    expect(failed).toMatchObject([{ reason: { code: 'FENCED' } }]);
    for (const task of tasks) await task.close();
  });
});

describe('sluice_offsets', () => {
  test('its shape is pinned: changing it needs a reader for rows of this one', () => {
    expect(offsetsShape).toBe(1);
    expect(createOffsetsTable('s')).toMatchInlineSnapshot(`
      "CREATE TABLE IF NOT EXISTS "s"."sluice_offsets" (
          deployment text, connector text, incarnation text, partition text,
          seq bigint NOT NULL, write_id text NOT NULL, "offset" text, reset_id text,
          v smallint NOT NULL, updated_at timestamptz NOT NULL,
          PRIMARY KEY (deployment, connector, incarnation, partition))"
    `);
  });

  test('a row of a newer release stops this one', async () => {
    const task = await openSink();
    await putRecords(task, [record(1)]);
    const commit = await nextCommit(task);
    await db.query(`UPDATE ${schema}.sluice_offsets SET v = 2`);
    await expect(task.offsets!()).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
    await expect(putRecords(task, [record(2)], { offsets: [commit] })).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
    await task.close();
    expect(await ids()).toEqual([1]);
  });

  test('a run that finds nothing to do makes no table', async () => {
    const task = await openSink();
    expect(await task.offsets!()).toEqual([]);
    await putRecords(task, [], { offsets: [] });
    await task.close();
    expect((await db.query('SELECT FROM pg_tables WHERE schemaname = $1', [schema])).rowCount).toBe(0);
  });
});

describe('logging in', () => {
  const parts = () => ({
    url: undefined,
    host: server.host,
    port: server.port,
    database: server.database,
    user: server.user,
  });

  test('by parts instead of a url', async () => {
    const { url: _, ...config } = { ...parts(), password: server.password };
    const task = await postgresSink.open({ ...contextOf(), config: postgresSink.config.parse({ schema, ...config }) });
    await putRecords(task, [record(1)]);
    await task.close();
    expect(await ids()).toEqual([1]);
  });

  test.each([
    ['a wrong password', (url: string) => url.replace(/:[^:@]*@/, ':wr0ng-s3cret@'), 'AUTHENTICATION_FAILED', true],
    ['a database that is missing', (url: string) => url.replace(/postgres$/, 'nowhere'), 'CONFIG_INVALID', false],
    ['no server', (url: string) => url.replace(/:\d+\//, ':1/'), 'UNAVAILABLE', true],
    ['a host that is unknown', (url: string) => url.replace('127.0.0.1', 'nowhere.invalid'), 'UNAVAILABLE', true],
    ['TLS that the server has not', (url: string) => `${url}?sslmode=require`, 'CONFIG_INVALID', false],
    ['an unknown parameter', (url: string) => `${url}?fallback=1`, 'CONFIG_INVALID', false],
    ['an unknown sslmode', (url: string) => `${url}?sslmode=maybe`, 'CONFIG_INVALID', false],
    ['no url at all', () => 'wr0ng-s3cret', 'CONFIG_INVALID', false],
    ['a % that is no escape', (url: string) => url.replace(/:[^:@]*@/, ':wr0ng-s3cret%@'), 'CONFIG_INVALID', false],
  ] as const)('%s is told without the password', async (_, change, code, retriable) => {
    const error = await openSink({ url: change(server.url) }).then(
      () => undefined,
      (thrown) => thrown,
    );
    expect(error).toMatchObject({ code, retriable, blame: 'system' });
    for (let at = error; at instanceof Error; at = at.cause as Error)
      expect(`${at.message} ${JSON.stringify(at)}`).not.toMatch(/wr0ng-s3cret|p'w/);
    const problems = await postgresSink.check!(contextOf({ url: change(server.url) }));
    expect(problems).toEqual([error.message]);
  });

  test('a server that has not yet started, and answers to the first word of TLS with an error, is tried again', async () => {
    const starting = createServer((socket) => socket.once('data', () => socket.end('E')));
    await once(starting.listen(0, '127.0.0.1'), 'listening');
    const { port } = starting.address() as { port: number };
    await expect(
      openSink({ url: `${server.url.replace(/:\d+\//, `:${port}/`)}?sslmode=require` }),
    ).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      retriable: true,
    });
    starting.close();
  });

  test.each([
    [{}, /give either/],
    [{ url: 'u', host: 'h' }, /give either/],
    [{ host: 'h', user: 'u' }, /give either/],
    [{ url: 'u', table: `a_\${key}` }, /the only references are/],
    [{ url: 'u', mode: 'insert', keyFields: ['id'] }, /keyFields belongs to mode upsert/],
    [{ url: 'u', tabel: 't' }, /tabel/],
  ])('a config that makes no sense is refused: %j', (config, problem) => {
    expect(() => postgresSink.config.parse(config)).toThrow(problem);
  });
});

describe('check', () => {
  const asRole = async (grants: string) => {
    const role = `role_${made++}`;
    await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'pw'; ${grants.replaceAll('ROLE', role)}`);
    return { role, url: `postgres://${role}:pw@${server.host}:${server.port}/${server.database}` };
  };

  test('a superuser has no problems', async () => {
    expect(await postgresSink.check!(contextOf())).toEqual([]);
  });

  test('every missing privilege is named with its GRANT, and granting them all is enough', async () => {
    await db.query(`REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC; CREATE TABLE ${schema}.t (id integer PRIMARY KEY);
      ${createOffsetsTable(schema)}`);
    const { url } = await asRole('');
    const config = { url, table: 't', keyFields: ['id'] };
    const problems = await postgresSink.check!(contextOf(config));
    expect(problems).toHaveLength(4);
    const statements = problems.map((problem) => /(GRANT .*? TO "\w+")/.exec(problem)![1]!);
    await db.query(statements.join(';'));
    expect(await postgresSink.check!(contextOf(config))).toEqual([]);
    const task = await openSink(config);
    await putRecords(task, [record(1), record(2)]);
    await task.close();
    expect(await ids()).toEqual([1, 2]);
    await db.query('GRANT TEMPORARY ON DATABASE postgres TO PUBLIC');
  });

  test.each([
    ['transactions', 'atomic', 'sluice_staged', createStagedTable],
    ['visibility', 'batch', 'sluice_runs', createRunsTable],
  ] as const)('%s: %s asks for the privileges on its own table too', async (option, value, table, statement) => {
    await db.query(createOffsetsTable(schema));
    const { url } = await asRole(
      `GRANT USAGE ON SCHEMA ${schema} TO ROLE; GRANT ALL ON ${schema}.sluice_offsets TO ROLE`,
    );
    const config = { url, create: false, [option]: value };
    expect(await postgresSink.check!(contextOf(config))).toContainEqual(
      expect.stringContaining(`${table}" is missing and role`),
    );
    await db.query(statement(schema));
    const problems = await postgresSink.check!(contextOf(config));
    expect(problems).toContainEqual(expect.stringMatching(new RegExp(`GRANT SELECT, INSERT.*${table}`)));
    await db.query(problems.map((problem) => /(GRANT .*? TO "\w+")/.exec(problem)![1]!).join(';'));
    expect(await postgresSink.check!(contextOf(config))).toEqual([]);
  });

  test('what is missing is told: the schema, the table, its key', async () => {
    expect(await postgresSink.check!(contextOf({ schema: 'nowhere' }))).toEqual([
      expect.stringMatching(/CREATE SCHEMA "nowhere"/),
    ]);
    expect(await postgresSink.check!(contextOf({ table: 'absent', create: false }))).toEqual([
      expect.stringMatching(/"absent" is missing/),
    ]);
    expect(await postgresSink.check!(contextOf({ table: 'a.b.c' }))).toEqual([
      expect.stringMatching(/more than one dot/),
    ]);
    await db.query(`CREATE TABLE ${schema}.t (id integer)`);
    expect(await postgresSink.check!(contextOf({ table: 't', keyFields: ['id'] }))).toEqual([
      expect.stringMatching(/ADD PRIMARY KEY \("id"\)/),
    ]);
  });

  test('a put without a privilege is a system error that names it', async () => {
    const { url, role } = await asRole(`GRANT USAGE, CREATE ON SCHEMA ${schema} TO ROLE`);
    await db.query(`CREATE TABLE ${schema}.t (id integer)`);
    await expect(
      openSink({ url }).then((task) => putRecords(task, [record(1)]).finally(() => task.close())),
    ).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      blame: 'system',
      message: expect.stringMatching(/permission denied for table t/),
    });
    expect(role).toBeDefined();
  });
});

import { describe, expect, test } from 'vitest';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { startPostgres } from '../../kit/postgres-server.ts';
import { contextOf, useCdc } from './cdc-fixture.ts';

const { run, all, config, capture, schema, server } = useCdc(['max_slot_wal_keep_size=64MB']);

const check = (config: Struct) => postgresCdcSource.check!(contextOf(config));
const warnings = (config: Struct) => postgresCdcSource.warnings!(contextOf(config));
const created = (config: Struct) => postgresCdcSource.created!(contextOf(config));
const deleted = (config: Struct) => postgresCdcSource.deleted!(contextOf(config));
const lag = (config: Struct) => postgresCdcSource.lag!(contextOf(config), { get: () => undefined, all: () => [] });
const slots = async (name: string) =>
  (await all(`SELECT plugin FROM pg_replication_slots WHERE slot_name = '${name}'`)).flat();
const published = async (name: string) =>
  (await all(`SELECT tablename FROM pg_publication_tables WHERE pubname = '${name}' ORDER BY 1`)).flat();
const as = (role: string) => server().url.replace(/\/\/[^@]*@/, `//${role}:p@`);

describe('a connector', () => {
  test('makes its slot and publication, as often as it is asked, and takes both away', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)');
    const { slotName: _, ...named } = config(['t']);
    const name = 'sluice_test_contract';
    expect(await check(named)).toEqual([]);
    await created(named);
    await created(named);
    expect(await slots(name)).toEqual(['pgoutput']);
    expect(await published(name)).toEqual(['t']);
    expect(await check(named)).toEqual([]);
    const more = { ...named, tables: [`${schema()}.t`, `${schema()}.u`] };
    await created(more);
    expect(await published(name)).toEqual(['t', 'u']);
    await deleted(named);
    expect(await slots(name)).toEqual([]);
    expect(await published(name)).toEqual([]);
    await deleted(named);
  });

  test('has a slot of its own, whatever its name', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { slotName: _, ...named } = config(['t']);
    const connectors = ['Orders', 'orders', 'or.ders', 'o'.repeat(100), `${'o'.repeat(100)}x`];
    for (const connector of connectors) await postgresCdcSource.created!({ ...contextOf(named), connector });
    const found = await all("SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'sluice_test_o%'");
    expect(found).toHaveLength(connectors.length);
    for (const connector of connectors) await postgresCdcSource.deleted!({ ...contextOf(named), connector });
  });

  test('has a slot that standbys keep where it is asked to, and goes on after a failover', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { config: named, withTask, readAll, pollOnce } = await capture(['t'], { slotFailover: true });
    expect(await all(`SELECT failover FROM pg_replication_slots WHERE slot_name = '${named.slotName}'`)).toEqual([
      [true],
    ]);
    await run('INSERT INTO t VALUES (1)');
    const { offsets } = await withTask((task) => readAll(task));
    await run('INSERT INTO t VALUES (2)');
    // As if the server had been promoted since.
    const [[key, { partition, offset }]] = [...offsets] as [[string, { partition: never; offset: object }]];
    const before = new Map([[key, { partition, offset: { ...offset, timeline: 7 } }]]);
    expect((await withTask((task) => pollOnce(task, before))).batch.count).toBe(1);
  });

  test('needs no more than the privileges of its README', async () => {
    const role = `least_${schema()}`;
    await run(`CREATE TABLE t (id int PRIMARY KEY, p int[]); CREATE PUBLICATION by_owner_${schema()} FOR TABLE t;
      CREATE ROLE ${role} LOGIN REPLICATION PASSWORD 'p'; GRANT USAGE ON SCHEMA ${schema()} TO ${role}; GRANT SELECT ON t TO ${role}`);
    const more = { url: as(role), publicationName: `by_owner_${schema()}` };
    expect(await check(config(['t'], more))).toEqual([]);
    const { config: named, withTask, readAll } = await capture(['t'], more);
    await run("INSERT INTO t VALUES (1, '{1,2}')");
    const read = await withTask(async (task) => {
      const { records, offsets } = await readAll(task);
      await task.commit!([...offsets.values()] as never);
      return records.length;
    });
    expect(read).toBe(1);
    await deleted(named);
    expect(await slots(String(named.slotName))).toEqual([]);
  });

  test('leaves a publication alone that it did not make', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION mine_${schema()} FOR TABLE t`);
    const named = config(['t'], { publicationName: `mine_${schema()}` });
    await created(named);
    await deleted(named);
    expect(await published(`mine_${schema()}`)).toEqual(['t']);
    expect(await slots(`s_${schema()}`)).toEqual([]);
  });

  test('says what it could not take away', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE keeper_${schema()} LOGIN PASSWORD 'p'`);
    const named = config(['t']);
    await created(named);
    const error = await deleted({ ...named, url: as(`keeper_${schema()}`) }).then(
      String,
      (thrown: Error) => thrown.message,
    );
    expect(error).toMatch(
      /^left at PostgreSQL: replication slot s_t\d+, which keeps WAL until the disk is full: SELECT pg_drop_replication_slot/,
    );
    expect(error).toMatch(/publication s_t\d+: DROP PUBLICATION/);
    await deleted(named);
  });

  test('refuses tables that are not there, before it makes anything', async () => {
    await expect(created(config(['nowhere']))).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/there is no table t\d+\.nowhere/),
    });
    expect(await slots(`s_${schema()}`)).toEqual([]);
  });
});

describe('check', () => {
  test('tells every problem of a role and its tables at once, with the statement', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE keyless (a int);
      CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
      CREATE TABLE whole (a int); ALTER TABLE whole REPLICA IDENTITY FULL;
      CREATE ROLE poor_${schema()} LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA ${schema()} TO poor_${schema()};
      GRANT SELECT ON ALL TABLES IN SCHEMA ${schema()} TO poor_${schema()}; REVOKE SELECT ON t FROM poor_${schema()};
      CREATE SCHEMA closed_${schema()}; CREATE TABLE closed_${schema()}.t (id int PRIMARY KEY); GRANT SELECT ON closed_${schema()}.t TO poor_${schema()}`);
    const poor = config(['t', 'keyless', 'nothing', 'whole', 'gone'], { url: as(`poor_${schema()}`) });
    const problems = await check({ ...poor, tables: [...(poor.tables as string[]), `closed_${schema()}.t`] });
    const has = (pattern: RegExp) => expect(problems.filter((problem) => pattern.test(problem))).toHaveLength(1);
    has(/ALTER ROLE "poor_t\d+" REPLICATION/);
    has(/GRANT CREATE ON DATABASE "postgres" TO "poor_t\d+"/);
    has(/GRANT SELECT ON "t\d+"."t" TO "poor_t\d+"/);
    has(
      /^role poor_t\d+ may not use the schema of "closed_t\d+"."t": GRANT USAGE ON SCHEMA "closed_t\d+" TO "poor_t\d+"$/,
    );
    has(/there is no table t\d+\.gone/);
    has(/table "t\d+"."keyless" has no primary key.*REPLICA IDENTITY FULL/);
    has(/table "t\d+"."nothing" has no primary key/);
    expect(problems.filter((problem) => /does not own/.test(problem))).toHaveLength(5);
    expect(problems).toHaveLength(12);
  });

  test('names the tables that a publication lacks', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY);
      CREATE PUBLICATION some_${schema()} FOR TABLE t; CREATE ROLE reader_${schema()} LOGIN REPLICATION PASSWORD 'p';
      GRANT USAGE ON SCHEMA ${schema()} TO reader_${schema()}; GRANT SELECT ON t, u TO reader_${schema()}`);
    const named = config(['t', 'u'], { url: as(`reader_${schema()}`), publicationName: `some_${schema()}` });
    expect(await check(named)).toEqual([
      expect.stringMatching(/lacks "t\d+"."u": ALTER PUBLICATION "some_t\d+" ADD TABLE/),
    ]);
  });

  test('warns at half of the WAL that the server keeps, and says when it was given up', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE busy (a text)');
    const named = config(['t']);
    await created(named);
    expect(await warnings(named)).toEqual([]);
    const write = () => run('INSERT INTO busy SELECT repeat(md5(n::text), 60) FROM generate_series(1, 22000) n');
    await run('ALTER TABLE busy ALTER a SET STORAGE EXTERNAL');
    await write();
    expect(await check(named)).toEqual([]);
    expect(await warnings(named)).toEqual([
      expect.stringMatching(/keeps \d+ MB of WAL .* gives it up at 64 MB.*ALTER SYSTEM SET max_slot_wal_keep_size/),
    ]);
    expect((await lag(named)).retained!.share).toBeGreaterThan(0.5);
    await write();
    await write();
    await run('CHECKPOINT');
    expect((await lag(named)).retained).toMatchObject({ share: 1, text: expect.stringMatching(/given up/) });
    expect(await check(named)).toEqual([expect.stringMatching(/was given up by the server.*pg_drop_replication_slot/)]);
  });

  test('says what a server needs that decodes nothing, and that WAL has no limit', async () => {
    const plain = await startPostgres(['max_replication_slots=0', 'max_wal_senders=0']);
    try {
      const problems = await check({ url: plain.url, topicPrefix: 'p', tables: ['public.t'] });
      expect(await warnings({ url: plain.url, topicPrefix: 'p', tables: ['public.t'] })).toEqual([
        expect.stringMatching(/^max_slot_wal_keep_size is -1.*ALTER SYSTEM SET max_slot_wal_keep_size/),
      ]);
      expect(problems).toEqual([
        expect.stringMatching(/wal_level is replica: ALTER SYSTEM SET wal_level = logical/),
        expect.stringMatching(/all 0 replication slots are taken.*max_replication_slots = 5/),
        expect.stringMatching(/there is no table public\.t/),
      ]);
    } finally {
      await plain.stop();
    }
  });

  test('says that nobody answers', async () => {
    expect(await check({ url: 'postgres://u@127.0.0.1:1/d', topicPrefix: 'p', tables: ['public.t'] })).toEqual([
      expect.stringMatching(/cannot connect to PostgreSQL/),
    ]);
  });
});

describe('the config', () => {
  const problemsOf = (config: Struct) =>
    postgresCdcSource.config
      .safeParse({ url: 'postgres://u@h/d', topicPrefix: 'p', ...config })
      .error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`) ?? [];
  test.each([
    [{ tables: ['public.a'] }, []],
    [
      { tables: ['public.a_*'] },
      ['topic: public.a_* matches tables that are not known yet; say which topic they go to, or list the tables'],
    ],
    [{ tables: ['a'] }, ['tables.0: a table is schema.table; * stands for any characters']],
    [{ tables: ['public.a'], slotName: 'A-b' }, ['slotName: 1 to 63 of the characters a-z 0-9 _']],
    [{ tables: ['public.a'], host: 'h' }, [': give either `url`, or `host`, `database` and `user`']],
  ])('%o', (config, problems) => expect(problemsOf(config as Struct)).toEqual(problems));

  test('a topic for each table, or one for all', () => {
    const topics = (more: Struct) =>
      postgresCdcSource.topics(
        postgresCdcSource.config.parse({
          url: 'postgres://u@h/d',
          topicPrefix: 'p',
          tables: ['public.a', 'public.ä b'],
          ...more,
        }),
      );
    expect(topics({})).toEqual(['p.public.a', 'p.public.__b']);
    expect(topics({ topic: 'all' })).toEqual(['all']);
  });
});

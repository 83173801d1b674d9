import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import type { Position, SourceTask } from '../../../shared/connect/connector.ts';
import { type OffsetMap, offsetsOf, recordsOf } from '../../kit/source-runner.ts';
import { until } from '../../kit/until.ts';
import { contextOf, useCdc } from './cdc-fixture.ts';

const { run, all, capture, schema, server } = useCdc(['max_wal_senders=2']);

const partition = { server: 'shop' };
const slot = () => `s_${schema()}`;
const confirmed = async (): Promise<string> =>
  (await all(`SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '${slot()}'`))[0]![0];
const idsOf = (records: readonly { readonly value: unknown }[]) =>
  records.map(({ value }) => (value as { after: { id: number } }).after.id);
const offsetOf = (offsets: OffsetMap) => [...offsets.values()][0]!.offset as { lsn: string; row?: number };
const at = (offset: object): OffsetMap => new Map([['{"server":"shop"}', { partition, offset }]]);
type Kept = readonly Position<never>[];
const kept = (offsets: OffsetMap) => [...offsets.values()] as unknown as Kept;

describe('a transaction larger than the budget', () => {
  test('is cut at the row, and goes on there in another task', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { withTask, pollOnce, advance } = await capture(['t']);
    await run('INSERT INTO t SELECT generate_series(1, 10)');
    let offsets: OffsetMap = new Map();
    const seen: number[][] = [];
    for (let polls = 0; polls < 4; polls++) {
      const poll = await withTask(async (task) => {
        await task.commit?.(kept(offsets));
        return pollOnce(task, offsets, { maxRecords: 3 });
      });
      seen.push(idsOf(recordsOf(poll)));
      offsets = advance(offsets, poll.offsets);
    }
    expect(seen).toEqual([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]);
    expect(offsetOf(offsets).row).toBeUndefined();
  });

  test('counts changes of tables that are not read, so that another list of tables moves no position', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)');
    const { config, withTask, pollOnce, advance } = await capture(['t', 'u']);
    await run('INSERT INTO u VALUES (1); INSERT INTO t VALUES (1); INSERT INTO u VALUES (2); INSERT INTO t VALUES (2)');
    const two = await withTask((task) => pollOnce(task, new Map(), { maxRecords: 2 }));
    const offsets = advance(new Map(), two.offsets);
    const fewer = contextOf({ ...config, tables: [`${schema()}.t`] } as never);
    const task = await postgresCdcSource.open(fewer);
    const rest = await task.poll(offsetsOf(offsets) as never, {
      maxRecords: 10,
      maxBytes: 1e6,
      signal: new AbortController().signal,
    });
    await task.close();
    expect(idsOf([...rest.batch])).toEqual([2]);
    expect(rest.position(0).offset).toMatchObject({ row: 4 });
  });

  test('is the same when the publication has more tables by then', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)');
    const { config, withTask, pollOnce, readAll, advance } = await capture(['t']);
    await run('INSERT INTO u VALUES (1); INSERT INTO t VALUES (1); INSERT INTO u VALUES (2); INSERT INTO t VALUES (2)');
    const { records } = await withTask((task) => readAll(task));
    const one = await withTask((task) => pollOnce(task, new Map(), { maxRecords: 1 }));
    await postgresCdcSource.created!(contextOf({ ...config, tables: [`${schema()}.t`, `${schema()}.u`] } as never));
    const rest = await withTask((task) => readAll(task, advance(new Map(), one.offsets)));
    expect([...recordsOf(one), ...rest.records]).toEqual(records);
    expect(idsOf(records)).toEqual([1, 2]);
  });

  test('is read in pieces, and not held in memory', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, pad text)');
    const { withTask, pollOnce, advance } = await capture(['t']);
    await run("INSERT INTO t SELECT n, repeat('x', 300) FROM generate_series(1, 200000) n");
    await withTask(async (task) => {
      let offsets: OffsetMap = new Map();
      let next = 1;
      let most = 0;
      for (let caughtUp = false; !caughtUp; ) {
        const poll = await pollOnce(task, offsets, { maxRecords: 5_000 });
        for (const id of idsOf([...poll.batch])) expect(id).toBe(next++);
        poll.release?.();
        offsets = advance(offsets, poll.offsets);
        ({ caughtUp } = poll);
        // Time for the server to send all of the rest.
        if (next < 10_000) await delay(1_500);
        most = Math.max(most, process.memoryUsage().arrayBuffers);
      }
      expect(next).toBe(200_001);
      // 80 MB in all; four pages read ahead, one under way, those of a batch.
      expect(most).toBeLessThan(40 * 1024 * 1024);
    });
  });
});

describe('a backlog', () => {
  test('of more transactions than one COPY brings', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { withTask, readAll } = await capture(['t']);
    await run(`DO $$ BEGIN FOR n IN 0..1199 LOOP
      INSERT INTO ${schema()}.t SELECT generate_series(n * 100 + 1, n * 100 + 100); COMMIT; END LOOP; END $$`);
    const { records } = await withTask((task) => readAll(task, new Map(), { maxRecords: 20_000 }));
    expect(idsOf(records)).toEqual(Array.from({ length: 120_000 }, (_, n) => n + 1));
  });

  test('behind more WAL of other tables than one COPY goes through', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE busy (a text)');
    await run('ALTER TABLE busy ALTER a SET STORAGE EXTERNAL');
    const { withTask, pollOnce } = await capture(['t']);
    for (let n = 0; n < 5; n++)
      await run('INSERT INTO busy SELECT repeat(md5(n::text), 512) FROM generate_series(1, 4 * 1024) n');
    await run('INSERT INTO t VALUES (1)');
    const poll = await withTask((task) => pollOnce(task, new Map()));
    expect(idsOf([...poll.batch])).toEqual([1]);
    expect(poll.caughtUp).toBe(true);
  });
});

describe('what the server may let go', () => {
  test('is what was committed, and no more', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { withTask, pollOnce, readAll, advance } = await capture(['t']);
    const before = await confirmed();
    await run('INSERT INTO t VALUES (1)');
    await run('INSERT INTO t VALUES (2)');
    // Read to the end and closed, but nothing is durable.
    await withTask((task) => readAll(task));
    expect(await confirmed()).toBe(before);
    const one = await withTask(async (task) => {
      const first = await pollOnce(task, new Map(), { maxRecords: 1 });
      await task.commit!(first.offsets as Kept);
      return first;
    });
    expect(await confirmed()).toBe((one.offsets[0]!.offset as { lsn: string }).lsn);
    const offsets = advance(new Map(), one.offsets);
    expect(idsOf((await withTask((task) => readAll(task, offsets))).records)).toEqual([2]);
    // Inside a transaction the server keeps all of it.
    await run('INSERT INTO t VALUES (3), (4)');
    const three = await withTask(async (task) => {
      const first = await pollOnce(task, offsets, { maxRecords: 2 });
      await task.commit!([first.position(1)] as unknown as Kept);
      return advance(new Map(), [first.position(1)]);
    });
    expect(offsetOf(three)).toMatchObject({ row: 1, lsn: await confirmed() });
    expect(idsOf((await withTask((task) => readAll(task, three))).records)).toEqual([4]);
  });

  test('is told again by the next run where it was lost', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { withTask, readAll, pollOnce } = await capture(['t']);
    await run('INSERT INTO t VALUES (1)');
    const { offsets } = await withTask((task) => readAll(task));
    expect(await confirmed()).not.toBe(offsetOf(offsets).lsn);
    await withTask(async (task) => {
      await task.commit!(kept(offsets));
      await pollOnce(task, offsets);
    });
    expect(await confirmed()).toBe(offsetOf(offsets).lsn);
  });
});

describe('a position', () => {
  const lost = (message: RegExp) => ({
    code: 'LOST_POSITION',
    blame: 'system',
    message: expect.stringMatching(message),
  });
  const captured = async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const captured = await capture(['t']);
    await run('INSERT INTO t VALUES (1)');
    const { offsets } = await captured.withTask((task) => captured.readAll(task));
    return { ...captured, offset: offsetOf(offsets), offsets };
  };

  test('that the slot is beyond is lost, not done already', async () => {
    const { withTask, pollOnce, offsets } = await captured();
    await run('INSERT INTO t VALUES (2)');
    await run(`SELECT pg_replication_slot_advance('${slot()}', pg_current_wal_lsn())`);
    await withTask(async (task) => {
      // It may be another run that got further: that is seen under the lease.
      expect(await task.more!(offsetsOf(offsets) as never)).toBe(true);
      await task.commit!(kept(offsets));
      await expect(pollOnce(task, offsets)).rejects.toMatchObject(
        lost(/has let go everything before .*Reset the offsets/),
      );
    });
  });

  test.each([
    ['server', { system: '1' }, /belongs to the server with system identifier 1/],
    ['slot', { slot: 'other' }, /belongs to slot other.*set slotName: other/],
    ['timeline', { timeline: 7 }, /from timeline 7 to 1 \(a failover or a restore\)/],
    ['future', { lsn: 'FFF/0' }, /the server has written no more than/],
  ])('of another %s is lost, and acknowledged to nobody', async (_, other, message) => {
    const { withTask, pollOnce, offset } = await captured();
    const before = await confirmed();
    await run('INSERT INTO t VALUES (2)');
    const offsets = at({ ...offset, ...other });
    await withTask(async (task) => {
      await task.commit!(kept(offsets));
      expect(await task.more!(offsetsOf(offsets) as never)).toBe(true);
      await expect(pollOnce(task, offsets)).rejects.toMatchObject(lost(message));
    });
    expect(await confirmed()).toBe(before);
  });

  test('of a slot that was dropped is lost; without a position it is only missing', async () => {
    const { withTask, pollOnce, offsets } = await captured();
    await run(`SELECT pg_drop_replication_slot('${slot()}')`);
    await withTask((task) => expect(pollOnce(task, offsets)).rejects.toMatchObject(lost(/was dropped/)));
    await withTask((task) => expect(pollOnce(task, new Map())).rejects.toMatchObject({ code: 'NOT_FOUND' }));
  });

  test('survives a session that is cut in the middle', async () => {
    const { withTask, pollOnce, readAll, advance, offsets } = await captured();
    await run('INSERT INTO t SELECT generate_series(2, 100000)');
    await withTask(async (task) => {
      const first = await pollOnce(task, offsets, { maxRecords: 10 });
      expect(idsOf(recordsOf(first)).at(-1)).toBe(11);
      await run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sluice%'");
      const then = advance(new Map(), first.offsets);
      const { records } = await readAll(task, then, { maxRecords: 20_000 }).catch(() => readAll(task, then));
      expect(records.length).toBe(100_000 - 11);
    });
  });
});

describe('a slot that another session reads', () => {
  const isActive = async () =>
    (await all(`SELECT active FROM pg_replication_slots WHERE slot_name = '${slot()}'`))[0]![0];
  const budget = { maxRecords: 1, maxBytes: 1e6, signal: new AbortController().signal };
  const captured = async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const cdc = await capture(['t']);
    await run('INSERT INTO t SELECT generate_series(1, 200000)');
    return cdc;
  };
  const looks: readonly [string, (task: SourceTask<unknown>) => unknown][] = [
    ['polled', (task) => task.poll(offsetsOf(new Map()) as never, budget)],
    ['looked at', (task) => task.more!(offsetsOf(new Map()) as never)],
  ];
  test.each(looks)('is waited for when it is %s: a run that was cut may not know yet', async (_, look) => {
    const { withTask } = await captured();
    const other = new pg.Client(server().url);
    await other.connect();
    const slow = other.query(
      `SELECT count(*) FROM pg_logical_slot_peek_binary_changes('${slot()}', NULL, NULL, 'proto_version', '1', 'publication_names', '${slot()}')`,
    );
    await until(isActive);
    await withTask(async (task) => look(task));
    await slow;
    await other.end();
  });

  test('is a system error that is tried again where that session keeps it', async () => {
    const { withTask, pollOnce, readAll } = await captured();
    const other = new pg.Client({ connectionString: server().url, replication: 'database' } as pg.ClientConfig);
    other.on('error', () => {});
    await other.connect();
    void other
      .query(`START_REPLICATION SLOT ${slot()} LOGICAL 0/0 ("proto_version" '1', "publication_names" '${slot()}')`)
      .catch(() => {});
    await until(isActive);
    await withTask((task) =>
      expect(pollOnce(task, new Map())).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        blame: 'system',
        retriable: true,
      }),
    );
    await run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'");
    await until(async () => !(await isActive()));
    expect((await withTask((task) => readAll(task, new Map(), { maxRecords: 50_000 }))).records.length).toBe(200_000);
  });
});

describe('WAL without a change', () => {
  const busy = (mb: number) =>
    run(`INSERT INTO busy SELECT repeat(md5(n::text), 32) FROM generate_series(1, ${mb} * 1024) n`);

  test('of tables that are not read moves the position, and a slot on an idle table is not left behind', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE busy (a text)');
    await run('ALTER TABLE busy ALTER a SET STORAGE EXTERNAL');
    const { withTask, pollOnce, readAll, advance } = await capture(['t']);
    await run('INSERT INTO t VALUES (1)');
    let { offsets } = await withTask((task) => readAll(task));
    const moreThan = (map: OffsetMap) => withTask((task) => task.more!(offsetsOf(map) as never));
    expect(await moreThan(offsets)).toBe(false);
    await busy(10);
    // Not worth a run, but told by one that is under way.
    expect(await moreThan(offsets)).toBe(false);
    const some = await withTask((task) => pollOnce(task, offsets));
    expect(some).toMatchObject({ caughtUp: true, batch: { count: 0 } });
    expect(some.moved).toBeGreaterThan(10 * 1024 * 1024);
    await busy(70);
    expect(await moreThan(offsets)).toBe(true);
    await withTask(async (task) => {
      const poll = await pollOnce(task, offsets);
      expect(poll).toMatchObject({ caughtUp: true, batch: { count: 0 } });
      expect(poll.moved).toBeGreaterThan(64 * 1024 * 1024);
      await task.commit!(poll.offsets as Kept);
      offsets = advance(offsets, poll.offsets);
    });
    expect(await confirmed()).toBe(offsetOf(offsets).lsn);
    expect(await moreThan(offsets)).toBe(false);
    await run('INSERT INTO t VALUES (2)');
    expect(await moreThan(offsets)).toBe(true);
    expect(idsOf((await withTask((task) => readAll(task, offsets))).records)).toEqual([2]);
  });

  test('the end of a transaction that was cut is worth a commit at once', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { withTask, pollOnce, advance } = await capture(['t']);
    await run('INSERT INTO t VALUES (1), (2)');
    const whole = await withTask((task) => pollOnce(task, new Map()));
    const last = advance(new Map(), [whole.position(1)]);
    expect(offsetOf(last).row).toBe(2);
    const poll = await withTask((task) => pollOnce(task, last));
    expect(poll).toMatchObject({ batch: { count: 0 }, caughtUp: true, moved: 64 * 1024 * 1024 });
    const offsets = advance(last, poll.offsets);
    expect(await withTask((task) => task.more!(offsetsOf(offsets) as never))).toBe(false);
  });

  test('is the lag: to the end from where is committed, since when, and what the server keeps', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE busy (a text)');
    const { config, withTask, readAll } = await capture(['t']);
    const lag = (map: OffsetMap, more = {}) =>
      postgresCdcSource.lag!(contextOf({ ...config, ...more }), offsetsOf(map) as never);
    const { offsets } = await withTask((task) => readAll(task));
    await run('SELECT pg_switch_wal()');
    const sinceMs = Date.now();
    await busy(4);
    const askedMs = Date.now();
    const { bytes, behindMs, retained } = await lag(offsets);
    expect(bytes).toBeGreaterThan(100_000);
    expect(behindMs).toBeGreaterThanOrEqual(askedMs - sinceMs);
    expect(retained).toEqual({ bytes: expect.any(Number), text: expect.stringMatching(/until its disk is full/) });
    expect((await lag(new Map())).bytes).toBeGreaterThanOrEqual(bytes!);
    expect((await lag((await withTask((task) => readAll(task, offsets))).offsets)).bytes).toBeLessThan(bytes!);
    await run(`CREATE ROLE lag_${schema()} LOGIN REPLICATION PASSWORD 'p'`);
    const poor = await lag(offsets, { url: server().url.replace(/\/\/[^@]*@/, `//lag_${schema()}:p@`) });
    expect(poor).toEqual({ bytes: expect.any(Number), retained: expect.anything() });
  });

  test('turns no run away that reads at the same time', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const { config, withTask, readAll } = await capture(['t']);
    await run('INSERT INTO t VALUES (1)');
    const none = { get: () => undefined, all: () => [] };
    const asked = Array.from({ length: 5 }, () => postgresCdcSource.lag!(contextOf(config), none));
    const { records } = await withTask((task) => readAll(task));
    expect(idsOf(records)).toEqual([1]);
    expect((await Promise.all(asked)).every(({ bytes }) => bytes! >= 0)).toBe(true);
  });
});

test('a transaction that began before others is where it commits', async () => {
  await run('CREATE TABLE t (id int PRIMARY KEY)');
  const { withTask, readAll, pollOnce, advance } = await capture(['t']);
  const other = new pg.Client(server().url);
  await other.connect();
  await other.query(`BEGIN; INSERT INTO ${schema()}.t VALUES (1)`);
  await run('INSERT INTO t VALUES (2)');
  const first = await withTask(async (task) => {
    const poll = await pollOnce(task, new Map());
    await task.commit!(poll.offsets as Kept);
    return { ids: idsOf(recordsOf(poll)), offsets: advance(new Map(), poll.offsets) };
  });
  expect(first.ids).toEqual([2]);
  await other.query('COMMIT');
  await other.end();
  expect(idsOf((await withTask((task) => readAll(task, first.offsets))).records)).toEqual([1]);
});

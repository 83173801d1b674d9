import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { createRunner, type OffsetMap, recordsOf, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

/** Key, operation, row before and row after; a tombstone is its key alone. */
const told = ({ key, value }: { readonly key: unknown; readonly value: unknown }) => {
  if (value === null) return [key];
  const { op, before, after } = value as Struct;
  return [key, op, before, after];
};

describe.each(['mariadb', 'mysql'] as const)('rows in the binlog of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour, flavour === 'mariadb' ? ['--log-bin-compress-min-len=10'] : []);

  /** All polls of a run, so many records at a time. */
  const readAll = async (config: object, maxRecords = 1000) => {
    const of = createRunner({ ...fixture({ snapshotMode: 'never', ...config }), expected: [] } as SourceFixture);
    return of.withTask(async (task) => {
      const offsets: OffsetMap = new Map();
      const polls = [];
      for (;;) {
        const poll = await of.pollOnce(task, offsets, { maxRecords });
        const records = recordsOf(poll);
        of.advance(offsets, poll.offsets);
        polls.push({ records, rejected: poll.rejected ?? [], offset: poll.offsets.at(-1)!.offset });
        poll.release?.();
        if (poll.caughtUp) return polls;
      }
    });
  };

  test('a row with a zero date is refused alone, and the update that mends it is told', async () => {
    const name = await database();
    await run(`SET sql_mode = ''; CREATE TABLE t (id int PRIMARY KEY, d date, s timestamp(3) NULL, b varbinary(3));
      INSERT INTO t VALUES (1, '2024-01-01', NULL, x'00'), (2, '0000-00-00', NULL, x'ff'), (3, '2024-01-00', '0000-00-00', NULL),
        (4, '2024-01-04', NULL, NULL);
      UPDATE t SET d = '2024-01-02' WHERE id = 2; DELETE FROM t WHERE id = 3`);
    const whole = await readAll({ tables: [`${name}.t`] });
    const records = whole.flatMap((poll) => poll.records);
    const b = new Uint8Array([0xff]);
    expect(records.map(told)).toEqual([
      [{ id: 1 }, 'c', null, { id: 1, d: '2024-01-01', s: null, b: new Uint8Array([0]) }],
      [{ id: 4 }, 'c', null, { id: 4, d: '2024-01-04', s: null, b: null }],
      [{ id: 2 }, 'u', { id: 2, s: null, b }, { id: 2, d: '2024-01-02', s: null, b }],
      [{ id: 3 }, 'd', { id: 3, b: null }, null],
      [{ id: 3 }],
    ]);
    const rejected = whole.flatMap((poll) => poll.rejected);
    expect(rejected.map(({ index, topic, error }) => [index, topic, error.blame, error.message])).toEqual([
      [
        1,
        `shop.${name}.t`,
        'row',
        expect.stringMatching(/^column d: 0000-00-00 is no date: mend the row, or set zeroDates/),
      ],
      [1, `shop.${name}.t`, 'row', expect.stringMatching(/^column d: 2024-01-00 is no date/)],
    ]);
    expect(JSON.parse(String(Buffer.from(rejected[0]!.raw!)))).toMatchObject({ id: 2, d: '0000-00-00', s: null });
    // Each has its place, however batches are cut.
    const cut = await readAll({ tables: [`${name}.t`] }, 1);
    expect(cut.flatMap((poll) => poll.records)).toEqual(records);
    expect(cut.flatMap((poll) => poll.rejected.map(({ offset }) => offset))).toEqual(
      rejected.map(({ offset }) => offset),
    );
    const asNull = await readAll({ tables: [`${name}.t`], zeroDates: 'null' });
    expect(asNull.flatMap((poll) => poll.rejected)).toEqual([]);
    expect(asNull.flatMap((poll) => poll.records).map(told)[2]).toEqual([
      { id: 3 },
      'c',
      null,
      { id: 3, d: null, s: null, b: null },
    ]);
  });

  test.each([
    ['-00:00:01.5', '-00:00:01.50'],
    ['24:00:00', '24:00:00.00'],
    ['838:59:59', '838:59:59.00'],
    ['-838:59:59', '-838:59:59.00'],
  ])('a duration of %s is refused', async (time, text) => {
    const name = await database();
    await run(
      `CREATE TABLE t (id int PRIMARY KEY, t time(2)); INSERT INTO t VALUES (1, '${time}'), (2, '23:59:59.99')`,
    );
    const polls = await readAll({ tables: [`${name}.t`] });
    const records = polls.flatMap((poll) => poll.records);
    const rejected = polls.flatMap((poll) => poll.rejected);
    expect(records.map(told)).toEqual([[{ id: 2 }, 'c', null, { id: 2, t: '23:59:59.99' }]]);
    expect(rejected.map(({ error }) => error.message)).toEqual([
      expect.stringContaining(`column t: ${text} is no time of day`),
    ]);
  });

  test('what an image leaves out is not told, and no null', async () => {
    const name = await database();
    await run(`CREATE TABLE t (id int, n int, s varchar(10), b text, PRIMARY KEY (id, n));
      INSERT INTO t VALUES (1, 1, 'a', 'long'), (2, 1, NULL, NULL); SET SESSION binlog_row_image = MINIMAL;
      UPDATE t SET s = 'b'; UPDATE t SET n = 2 WHERE id = 2; DELETE FROM t WHERE id = 1;
      SET SESSION binlog_row_image = NOBLOB; UPDATE t SET s = 'c'; SET SESSION binlog_row_image = FULL; UPDATE t SET s = 'd'`);
    const polls = await readAll({ tables: [`${name}.t`] });
    const rejected = polls.flatMap((poll) => poll.rejected);
    expect(rejected.map(({ index, error }) => [index, error.message])).toEqual([
      [6, expect.stringMatching(/^its key was changed, and not all of its columns are in the binlog: SET GLOBAL/)],
    ]);
    expect(polls.flatMap((poll) => poll.records).map(told)).toEqual([
      [{ id: 1, n: 1 }, 'c', null, { id: 1, n: 1, s: 'a', b: 'long' }],
      [{ id: 2, n: 1 }, 'c', null, { id: 2, n: 1, s: null, b: null }],
      [{ id: 1, n: 1 }, 'u', { id: 1, n: 1 }, { id: 1, n: 1, s: 'b' }],
      [{ id: 2, n: 1 }, 'u', { id: 2, n: 1 }, { id: 2, n: 1, s: 'b' }],
      [{ id: 2, n: 1 }, 'd', { id: 2, n: 1 }, null],
      [{ id: 2, n: 1 }],
      [{ id: 1, n: 1 }, 'd', { id: 1, n: 1 }, null],
      [{ id: 1, n: 1 }],
      [{ id: 2, n: 2 }, 'u', { id: 2, n: 2, s: 'b' }, { id: 2, n: 2, s: 'c' }],
      [{ id: 2, n: 2 }, 'u', { id: 2, n: 2, s: 'c', b: null }, { id: 2, n: 2, s: 'd', b: null }],
    ]);
  });

  test('a row whose key is not in its image is refused', async () => {
    const name = await database();
    await run(`CREATE TABLE t (id int PRIMARY KEY DEFAULT 7, s text); SET SESSION binlog_row_image = MINIMAL;
      INSERT INTO t (s) VALUES ('a'); SET SESSION binlog_row_image = FULL; UPDATE t SET s = 'b'`);
    const polls = await readAll({ tables: [`${name}.t`] });
    expect(polls.flatMap((poll) => poll.rejected).map(({ error }) => error.message)).toEqual([
      'the binlog has not all columns of its key: SET GLOBAL binlog_row_image = FULL',
    ]);
    expect(polls.flatMap((poll) => poll.records).map(told)).toEqual([
      [{ id: 7 }, 'u', { id: 7, s: 'a' }, { id: 7, s: 'b' }],
    ]);
  });

  test('tables that a transaction writes in turns keep their order, and each batch is a prefix of it', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, s text); CREATE TABLE u (n bigint PRIMARY KEY, d decimal(10,2))');
    const turns = Array.from(
      { length: 40 },
      (_, i) =>
        `INSERT INTO t VALUES (${i}, repeat('x', ${i * 50})), (${i + 100}, NULL); INSERT INTO u VALUES (${i}, ${i}.5)`,
    );
    await run(`BEGIN; ${turns.join('; ')}; UPDATE t SET id = id + 1000; COMMIT`);
    const tables = { tables: [`${name}.t`, `${name}.u`] };
    const whole = (await readAll(tables)).flatMap((poll) => poll.records);
    expect(whole).toHaveLength(40 * 3 + 80 * 3);
    expect(whole.slice(0, 120).map(({ key }) => Object.values(key as Struct)[0])).toEqual(
      Array.from({ length: 40 }, (_, i) => [i, i + 100, BigInt(i)]).flat(),
    );
    for (const maxRecords of [1, 7, 100]) {
      const polls = await readAll(tables, maxRecords);
      expect(polls.flatMap((poll) => poll.records)).toEqual(whole);
      for (const { records, offset } of polls)
        if (records.length === maxRecords) expect(records.at(-1)!.offset).toEqual(offset);
    }
  });

  test('events, also where the server compresses them', async () => {
    const name = await database();
    // MariaDB alone can.
    if (flavour === 'mariadb') await run('SET GLOBAL log_bin_compress = ON');
    const rows = Array.from({ length: 300 }, (_, i) => `(${i + 1}, repeat('ab', 100))`);
    await run(`CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t VALUES ${rows.join()};
      UPDATE t SET s = 'c' WHERE id <= 2; DELETE FROM t WHERE id = 1`);
    if (flavour === 'mariadb') await run('SET GLOBAL log_bin_compress = OFF');
    const records = (await readAll({ tables: [`${name}.t`] })).flatMap((poll) => poll.records);
    expect(records.slice(0, 300).map(told)).toEqual(
      Array.from({ length: 300 }, (_, i) => [{ id: i + 1 }, 'c', null, { id: i + 1, s: 'ab'.repeat(100) }]),
    );
    expect(records.slice(300).map(told)).toEqual([
      [{ id: 1 }, 'u', { id: 1, s: 'ab'.repeat(100) }, { id: 1, s: 'c' }],
      [{ id: 2 }, 'u', { id: 2, s: 'ab'.repeat(100) }, { id: 2, s: 'c' }],
      [{ id: 1 }, 'd', { id: 1, s: 'c' }, null],
      [{ id: 1 }],
    ]);
  });
});

import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { describeSource } from '../../kit/describe-source.ts';
import {
  createRunner,
  type Delivered,
  type OffsetMap,
  offsetsOf,
  type SourceFixture,
} from '../../kit/source-runner.ts';
import { until } from '../../kit/until.ts';
import { useMysql } from './cdc-fixture.ts';

/** Key, operation, row before and row after; a tombstone is its key alone. */
const told = ({ key, value }: Delivered) => {
  if (value === null) return [key];
  const { op, before, after } = value as Struct;
  return [key, op, before, after];
};

describe.each(['mariadb', 'mysql'] as const)('changes of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);
  const allOf = (of: Omit<SourceFixture, 'expected'>) => {
    const { withTask, readAll } = createRunner({ ...of, expected: [] });
    return withTask((task) => readAll(task));
  };

  test('each change of a row is told as it happened, in order', async () => {
    const name = await database();
    await run(`CREATE TABLE t (id int PRIMARY KEY, s varchar(20)) ENGINE=InnoDB;
      INSERT INTO t VALUES (1, 'a'), (2, NULL);
      UPDATE t SET s = 'A' WHERE id = 1;
      UPDATE t SET id = 3 WHERE id = 2;
      DELETE FROM t WHERE id = 1`);
    const { records } = await allOf(fixture({ tables: [`${name}.t`], snapshotMode: 'never' }));
    expect(records.map(told)).toEqual([
      [{ id: 1 }, 'c', null, { id: 1, s: 'a' }],
      [{ id: 2 }, 'c', null, { id: 2, s: null }],
      [{ id: 1 }, 'u', { id: 1, s: 'a' }, { id: 1, s: 'A' }],
      [{ id: 2 }, 'd', { id: 2, s: null }, null],
      [{ id: 2 }],
      [{ id: 3 }, 'c', null, { id: 3, s: null }],
      [{ id: 1 }, 'd', { id: 1, s: 'A' }, null],
      [{ id: 1 }],
    ]);
    expect(records[0]!.topic).toBe(`shop.${name}.t`);
    const { source, ts_ms } = records[0]!.value as { source: Struct; ts_ms: bigint };
    expect(source).toMatchObject({ connector: 'mysql', name: 'shop', db: name, table: 't', snapshot: false });
    expect(Number(ts_ms)).toBeGreaterThan(Date.now() - 60_000);
  });

  test('a table that is altered is told as it was at each change', async () => {
    const name = await database();
    await run(`CREATE TABLE t (id int PRIMARY KEY, a varchar(20)); INSERT INTO t VALUES (1, 'x');
      ALTER TABLE t ADD b int FIRST, CHANGE a c varchar(30); INSERT INTO t VALUES (5, 2, 'y');
      ALTER TABLE t DROP b; UPDATE t SET c = 'z' WHERE id = 1; DROP TABLE t`);
    const { records } = await allOf(fixture({ tables: [`${name}.t`], snapshotMode: 'never' }));
    expect(records.map(told)).toEqual([
      [{ id: 1 }, 'c', null, { id: 1, a: 'x' }],
      [{ id: 2 }, 'c', null, { b: 5, id: 2, c: 'y' }],
      [{ id: 1 }, 'u', { id: 1, c: 'x' }, { id: 1, c: 'z' }],
    ]);
  });

  test('a run that ends while the server sends much more does not stand in the way of the next', async () => {
    const name = await database();
    await run(`CREATE TABLE t (id int PRIMARY KEY AUTO_INCREMENT, s longtext);
      INSERT INTO t (s) VALUES (repeat('x', 1000000)); ${'INSERT INTO t (s) SELECT s FROM t LIMIT 8; '.repeat(6)}`);
    const of = createRunner({ ...fixture({ tables: [`${name}.t`], snapshotMode: 'never' }), expected: [] });
    const offsets: OffsetMap = new Map();
    for (const maxRecords of [1, 2, 100])
      await of.withTask(async (task) => {
        for (let polls = 0; polls < 2; polls++) {
          const poll = await of.pollOnce(task, offsets, { maxRecords, maxBytes: 1e9 });
          of.advance(offsets, poll.offsets);
        }
      });
    const { records } = await of.withTask((task) => of.readAll(task, offsets));
    expect(records).toEqual([]);
  });

  test('a run that waits passes what the log says of itself, and a reader that is cut is an error to retry', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    const of = createRunner({ ...fixture({ tables: [`${name}.t`], snapshotMode: 'never' }), expected: [] });
    const signal = new AbortController().signal;
    await of.withTask(async (task) => {
      const { offsets } = await of.readAll(task);
      await task.wait!(10, signal);
      await run('FLUSH BINARY LOGS');
      await until(async () => {
        await task.wait!(10, signal);
        of.advance(offsets, (await of.pollOnce(task, offsets)).offsets);
        return (await task.more!(offsetsOf(offsets))) === false;
      });
      await task.wait!(10, signal);
      const cutReaders = async () => {
        const [readers] = (await run(
          "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'",
        )) as unknown as [readonly { id: number }[]];
        // One may end by itself meanwhile.
        for (const { id } of readers) await run(`KILL ${id}`).catch(() => {});
      };
      const failed = until(
        async () => {
          await cutReaders();
          await task.wait!(10, signal);
          await of.pollOnce(task, offsets);
          return false;
          // MySQL's sender looks only now and then whether it was killed.
        },
        { timeoutMs: 50_000 },
      );
      await expect(failed).rejects.toMatchObject({ code: 'UNAVAILABLE', retriable: true });
    });
  });
});

describe.each(['mariadb', 'mysql', 'mariadb-10.2', 'mysql-5.7'] as const)('the contract of sources: %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);
  const allOf = (of: Omit<SourceFixture, 'expected'>) => {
    const { withTask, readAll } = createRunner({ ...of, expected: [] });
    return withTask((task) => readAll(task));
  };

  const hasCheckpoint = async () => {
    const [[status]] = (await run('SHOW MASTER STATUS')) as unknown as [[{ File: string }]];
    const [events] = (await run(`SHOW BINLOG EVENTS IN '${status.File}'`)) as unknown as [
      readonly { Event_type: string; Info: string }[],
    ];
    return events.some(({ Event_type, Info }) => Event_type === 'Binlog_checkpoint' && Info === status.File);
  };

  const makeFixture =
    (snapshotMode: 'initial' | 'never', more: Struct = {}) =>
    async () => {
      const name = await database();
      // Without a key a table is read at once, whatever the budget.
      const key = snapshotMode === 'initial' ? ', PRIMARY KEY (id, n)' : '';
      await run(`CREATE TABLE t (id int PRIMARY KEY, s text); CREATE TABLE u (id bigint, n decimal(10,2)${key}); CREATE TABLE other (id int);
      INSERT INTO t VALUES (1, 'a'), (2, 'b'), (6, 'c'), (7, 'd'), (8, 'e'), (9, NULL), (-5, ''); INSERT INTO other VALUES (1);
      INSERT INTO u VALUES (1, 1.5), (1, 2.5), (3, 0);
      BEGIN; UPDATE t SET s = concat(s, '!'); DELETE FROM u WHERE id = 3; INSERT INTO t VALUES (3, 'c'); COMMIT; FLUSH BINARY LOGS;
      INSERT INTO t VALUES (4, 'd'); UPDATE t SET id = id + 10 ORDER BY id DESC`);
      const of = fixture({ tables: [`${name}.t`, `${name}.u`], snapshotMode, ...more });
      // MariaDB notes in the new file, a moment later, that the old one is not needed any more.
      if (flavour.startsWith('mariadb')) await until(hasCheckpoint);
      const { records } = await allOf(of);
      // Rows that change are read as they are now, so those that were there are the same again only while nothing changes.
      if (snapshotMode === 'initial') return { ...of, expected: records } as SourceFixture as never;
      let next = 100;
      return {
        ...of,
        expected: records,
        more: async () => {
          const before = (await allOf(of)).records.length;
          await run(`INSERT INTO t VALUES (${next++}, 'more'); DELETE FROM t WHERE id = 11`);
          return (await allOf(of)).records.slice(before);
        },
      } as SourceFixture as never;
    };
  describeSource(`changes of ${flavour}`, makeFixture('never'));
  describeSource(`transactions of ${flavour}`, makeFixture('never', { transactions: true, topic: 'all' }));
  describeSource(`rows and changes of ${flavour}`, makeFixture('initial'));
});

import { describe, expect, test } from 'vitest';
import { type Partition, partitionKey } from '../../../shared/connect/connector.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { repairPartition } from '../../../shared/sql/repair-partition.ts';
import {
  createRunner,
  type Delivered,
  type OffsetMap,
  offsetsOf,
  recordsOf,
  type SourceFixture,
} from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

const told = (records: readonly Delivered[]) =>
  records.map(({ key, value }) => {
    const change = value as Struct | null;
    return `${change?.op ?? 'gone'} ${Object.values(key as Struct)}${change === null ? '' : ` ${(change.after as Struct | null)?.n ?? ''}`}`.trimEnd();
  });

describe.each(['mariadb', 'mysql'] as const)('rows that are sent again by %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);
  const runnerOf = (config: object) =>
    createRunner({ ...fixture({ tombstonesOnDelete: false, ...config }), expected: [] } as SourceFixture);
  const order = (offsets: OffsetMap, table: string, repair: string[][]) => {
    const partition: Partition = repairPartition({ server: 'shop' }, table);
    offsets.set(partitionKey(partition), { partition, offset: { repair, passed: 0, views: [] } } as never);
  };

  test('come as they are now, in the order of their keys, and not again by the changes that they hold', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, n int)');
    await run('INSERT INTO t VALUES (1, 0), (2, 0), (3, 0), (4, 0)');
    const of = runnerOf({ tables: [`${name}.t`] });
    const { offsets } = await of.withTask((task) => of.readAll(task));
    await run('UPDATE t SET n = 1; DELETE FROM t WHERE id = 2');
    order(offsets, `${name}.t`, [['3'], ['2'], ['-7'], ['1']]);
    const { records, offsets: after } = await of.withTask((task) => of.readAll(task, offsets));
    expect(told(records)).toEqual(['r 3 1', 'd 2', 'd -7', 'r 1 1', 'u 4 1']);
    await run('UPDATE t SET n = 2 WHERE id = 3');
    const { records: later } = await of.withTask((task) => of.readAll(task, after));
    expect(told(later)).toEqual(['u 3 2']);
  });

  test('wait for the end of a transaction that is half sent', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)');
    const of = runnerOf({ tables: [`${name}.t`] });
    const { offsets } = await of.withTask((task) => of.readAll(task));
    await run('UPDATE t SET n = 1');
    const changed = await of.withTask((task) => of.readAll(task, offsets));
    of.advance(offsets, changed.records.slice(0, 1));
    order(offsets, `${name}.t`, [['1']]);
    const { records } = await of.withTask((task) => of.readAll(task, offsets));
    expect(told(records)).toEqual(['u 2 1', 'r 1 1']);
  });

  test('stop where the table was truncated behind them and before their changes', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)');
    const of = runnerOf({ tables: [`${name}.t`] });
    const { offsets } = await of.withTask((task) => of.readAll(task));
    await run('TRUNCATE t');
    await run('INSERT INTO t VALUES (1, 1)');
    order(offsets, `${name}.t`, [['1']]);
    const polled = async () => of.advance(offsets, (await of.withTask((task) => of.pollOnce(task, offsets))).offsets);
    await polled();
    await expect(polled()).rejects.toMatchObject({
      code: 'LOST_POSITION',
      message: expect.stringMatching(/"repair":true.*to null/),
    });
    offsets.delete(partitionKey(repairPartition({ server: 'shop' }, `${name}.t`)));
    const { records } = await of.withTask((task) => of.readAll(task, offsets));
    expect(records.map(({ value }) => (value as Struct).op)).toEqual(['t', 'c']);
  });

  test('of a key of other types come before the changes that end where they are', async () => {
    const name = await database();
    await run(
      'CREATE TABLE t (code varchar(10) COLLATE utf8mb4_general_ci, at datetime(3), n int, PRIMARY KEY (code, at))',
    );
    await run("INSERT INTO t VALUES ('a', '2024-01-02 03:04:05.600', 0), ('b', '2024-01-02 00:00:00', 0)");
    const of = runnerOf({ tables: [`${name}.t`] });
    const { offsets } = await of.withTask((task) => of.readAll(task));
    await run("UPDATE t SET n = 1 WHERE code = 'b'");
    const wanted = [
      ['A', '2024-01-02T03:04:05.6'],
      ['a', '2024-01-02T03:04:05.6'],
      ['b', '2024-01-02T00:00:00'],
    ];
    order(offsets, `${name}.t`, wanted);
    const { records } = await of.withTask((task) => of.readAll(task, offsets));
    // A is a to the server, and another key to a destination.
    expect(told(records).map((one) => one.replace(/,\S+/, ''))).toEqual(['d A', 'r a 0', 'r b 1', 'u b 1']);
  });

  test('need not be of a snapshot, and a poll takes as many as it may', async () => {
    const name = await database();
    await run('CREATE TABLE t (id bigint PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)');
    const of = runnerOf({ tables: [`${name}.t`], snapshotMode: 'no_data' });
    const { offsets } = await of.withTask((task) => of.readAll(task));
    order(offsets, `${name}.t`, [['1'], ['9007199254740993'], ['3']]);
    const polls = await of.withTask(async (task) => {
      const found: (readonly string[])[] = [];
      while (await task.more!(offsetsOf(offsets))) {
        const poll = await of.pollOnce(task, offsets, { maxRecords: 2 });
        found.push(told(recordsOf(poll)));
        of.advance(offsets, poll.offsets);
      }
      return found;
    });
    expect(polls).toEqual([['r 1 0', 'd 9007199254740993'], ['r 3 0']]);
  });
});

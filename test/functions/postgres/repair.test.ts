import { expect, test } from 'vitest';
import { type Partition, partitionKey } from '../../../shared/connect/connector.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { repairPartition } from '../../../shared/sql/repair-partition.ts';
import type { Delivered, OffsetMap } from '../../kit/source-runner.ts';
import { useCdc } from './cdc-fixture.ts';

const { run, capture, schema } = useCdc();

const told = (records: readonly Delivered[]) =>
  records.map(({ key, value }) => {
    const change = value as Struct | null;
    const n = (change?.after as Struct | null)?.n ?? '';
    return `${change?.op ?? 'gone'} ${Object.values(key as Struct)} ${n}`.trimEnd();
  });

const order = (offsets: OffsetMap, table: string, repair: string[][]) => {
  const partition: Partition = repairPartition({ server: 'shop' }, `${schema()}.${table}`);
  offsets.set(partitionKey(partition), { partition, offset: { repair, passed: 0, views: [] } });
};

test.each(['initial', 'no_data'])(
  'rows that are sent again come as they are now, and not again by the changes that they hold (%s)',
  async (snapshotMode) => {
    await run('CREATE TABLE t (id bigint PRIMARY KEY, n int)');
    if (snapshotMode === 'initial') await run('INSERT INTO t SELECT i, 0 FROM generate_series(1, 4) i');
    const of = await capture(['t'], { snapshotMode, tombstonesOnDelete: false });
    if (snapshotMode === 'no_data') await run('INSERT INTO t SELECT i, 0 FROM generate_series(1, 4) i');
    const { offsets } = await of.withTask((task) => of.readAll(task));
    await run('UPDATE t SET n = 1; DELETE FROM t WHERE id = 2');
    order(offsets, 't', [['3'], ['2'], ['-7'], ['1']]);
    const { records, offsets: after } = await of.withTask((task) => of.readAll(task, offsets, { maxRecords: 3 }));
    expect(told(records)).toEqual(['r 3 1', 'd 2', 'd -7', 'r 1 1', 'u 4 1']);
    await run('UPDATE t SET n = 2 WHERE id = 3');
    const { records: later } = await of.withTask((task) => of.readAll(task, after));
    expect(told(later)).toEqual(['u 3 2']);
  },
);

test('rows that are sent again wait for the end of a transaction that is half sent', async () => {
  await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)');
  const of = await capture(['t'], { snapshotMode: 'initial' });
  const { offsets } = await of.withTask((task) => of.readAll(task));
  await run('UPDATE t SET n = 1');
  const changed = await of.withTask((task) => of.readAll(task, offsets));
  of.advance(offsets, changed.records.slice(0, 1));
  order(offsets, 't', [['1']]);
  const { records } = await of.withTask((task) => of.readAll(task, offsets));
  expect(told(records)).toEqual(['u 2 1', 'r 1 1']);
});

test('rows that are sent again stop where the table was truncated behind them and before their changes', async () => {
  await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)');
  const of = await capture(['t'], { snapshotMode: 'initial' });
  const { offsets } = await of.withTask((task) => of.readAll(task));
  await run('TRUNCATE t');
  await run('INSERT INTO t VALUES (1, 1)');
  order(offsets, 't', [['1']]);
  const polled = async () => of.advance(offsets, (await of.withTask((task) => of.pollOnce(task, offsets))).offsets);
  await polled();
  await expect(polled()).rejects.toMatchObject({
    code: 'LOST_POSITION',
    message: expect.stringMatching(/"repair":true.*to null/),
  });
  offsets.delete(partitionKey(repairPartition({ server: 'shop' }, `${schema()}.t`)));
  const { records } = await of.withTask((task) => of.readAll(task, offsets));
  expect(records.map(({ value }) => (value as Struct).op)).toEqual(['t', 'c']);
});

test('rows of a key of other types come before the changes that end where they are', async () => {
  await run('CREATE TABLE t (code text, at timestamptz, n int, PRIMARY KEY (at, code))');
  await run("INSERT INTO t VALUES ('a', '2024-01-02 03:04:05.6Z', 0), ('b', '2024-01-02Z', 0)");
  const of = await capture(['t'], { snapshotMode: 'initial', tombstonesOnDelete: false });
  const { offsets } = await of.withTask((task) => of.readAll(task));
  await run("UPDATE t SET n = 1 WHERE code = 'b'");
  order(offsets, 't', [
    ['A', '2024-01-02T03:04:05.6'],
    ['a', '2024-01-02T03:04:05.6'],
    ['b', '2024-01-02T00:00:00'],
  ]);
  const { records } = await of.withTask((task) => of.readAll(task, offsets));
  expect(told(records).map((one) => one.replace(/,\S+/, ''))).toEqual(['d A', 'r a 0', 'r b 1', 'u b 1']);
});

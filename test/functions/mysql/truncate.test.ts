import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { describeTruncate } from '../../kit/describe-truncate.ts';
import { createRunner, type Delivered, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';
import { useSink } from './sink-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  describeTruncate(flavour, useSink(flavour));
});

const told = ({ topic, key, value }: Delivered) =>
  `${topic.split('.').at(-1)} ${(value as Struct).op} ${Object.values((key ?? {}) as Struct)}`;

describe.each(['mariadb', 'mysql'] as const)('the source of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);
  const runnerOf = (config: object) => createRunner({ ...fixture(config), expected: [] } as SourceFixture);

  test('tells of a table that was emptied, in order, however it was said and wherever a batch ends', async () => {
    const name = await database();
    await run(`CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY);
      TRUNCATE u; INSERT INTO t VALUES (1); TRUNCATE TABLE t; INSERT INTO t VALUES (2); TRUNCATE other;
      /* ours */ TRUNCATE \`${name}\`.\`t\`; TRUNCATE t; INSERT INTO t VALUES (3); CREATE DATABASE IF NOT EXISTS aside; USE aside; TRUNCATE ${name}.u`);
    const config = { tables: [`${name}.t`, `${name}.u`], snapshotMode: 'never' };
    for (const maxRecords of [1, 2, 100]) {
      const of = runnerOf(config);
      const { records } = await of.withTask((task) => of.readAll(task, new Map(), { maxRecords }));
      expect(records.map(told)).toEqual(['u t ', 't c 1', 't t ', 't c 2', 't t ', 't t ', 't c 3', 'u t ']);
      // Each by itself: resumed behind it, it does not come again.
      const offsets: OffsetMap = of.advance(new Map(), records.slice(0, 3));
      const rest = await of.withTask((task) => of.readAll(task, offsets, { maxRecords }));
      expect(rest.records.map(told)).toEqual(records.slice(3).map(told));
      expect(records[2]).toMatchObject({
        key: null,
        value: { before: null, after: null, source: { db: name, table: 't', snapshot: false } },
      });
    }
    const skipping = runnerOf({ ...config, skippedOperations: ['c', 't'] });
    const { records } = await skipping.withTask((task) => skipping.readAll(task));
    expect(records).toEqual([]);
  });

  test('does not tell what the rows that were read had seen, and stops where only some had', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)');
    const of = runnerOf({ tables: [`${name}.t`] });
    const polls = (offsets: OffsetMap, times: number, maxRecords: number) =>
      of.withTask(async (task) => {
        for (let i = 0; i < times; i++) of.advance(offsets, (await of.pollOnce(task, offsets, { maxRecords })).offsets);
      });
    const seen: OffsetMap = new Map();
    await polls(seen, 2, 2);
    await run('TRUNCATE t; INSERT INTO t VALUES (4)');
    const { records, offsets } = await of.withTask((task) => of.readAll(task, seen));
    expect(records.map(told)).toEqual(['t r 4']);
    await run('TRUNCATE t; INSERT INTO t VALUES (5)');
    const later = await of.withTask((task) => of.readAll(task, offsets));
    expect(later.records.map(told)).toEqual(['t t ', 't c 5']);

    const partly: OffsetMap = new Map();
    await run('INSERT INTO t VALUES (6), (7)');
    await polls(partly, 3, 1);
    await run('TRUNCATE t; INSERT INTO t VALUES (8)');
    await expect(of.withTask((task) => of.readAll(task, partly))).rejects.toMatchObject({ code: 'LOST_POSITION' });
  });
});

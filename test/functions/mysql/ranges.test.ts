import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { partitionKey } from '../../../shared/connect/connector.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import type { PlanOffset } from '../../../shared/sql/snapshot.ts';
import { seeded } from '../../kit/seed.ts';
import { createRunner, type Delivered, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

/** Enough for two ranges. */
const rows = 1_200;
const rowBytes = 60_000;

/** The key's columns, their names, and what they are in row `n`. */
const keys = [
  ['an integer', 'id int', 'id', 'n'],
  ['integers from below zero on', 'id bigint', 'id', 'CAST(n AS signed) * 1000 - 500000'],
  ['a text, in the order of its collation', 'id varchar(20) COLLATE utf8mb4_unicode_ci', 'id', "concat('Ä', n)"],
  ['bytes', 'id varbinary(8)', 'id', 'unhex(lpad(hex(n * 7919), 8, 0))'],
  ['a decimal and an integer', 'a decimal(6,1), b int', 'a, b', '(n DIV 100) / 10, n'],
  ['an integer and a text', 'a int, b varchar(9)', 'a, b', 'n DIV 100, n'],
] as const;

describe.each(['mariadb', 'mysql'] as const)('a large table of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);

  /** What tasks read that take turns, a poll each, and the table is written between. */
  const readByTasks = async (of: SourceFixture, offsets: OffsetMap, tasks: number, changes: readonly string[] = []) => {
    const runners = Array.from({ length: tasks }, (_, taskId) => createRunner(of, { taskId, tasks }));
    const opened = await Promise.all(runners.map(({ open }) => open()));
    const records: Delivered[] = [];
    const counts = runners.map(() => 0);
    try {
      for (let waiting = 0, turn = 0; waiting < tasks; turn++) {
        const task = turn % tasks;
        const poll = await runners[task]!.pollOnce(opened[task]!, offsets, { maxRecords: 400, maxBytes: 64 << 20 });
        expect(poll.rejected ?? []).toEqual([]);
        records.push(
          ...Array.from(poll.batch, ({ topic, key, value }, at) => ({ topic, key, value, ...poll.position(at) })),
        );
        counts[task]! += poll.batch.count;
        runners[task]!.advance(offsets, poll.offsets);
        waiting = poll.caughtUp ? waiting + 1 : 0;
        if (turn >= changes.length) continue;
        await run(changes[turn]!);
        waiting = 0;
      }
    } finally {
      await Promise.all(opened.map((task) => task.close()));
    }
    return { records, counts };
  };

  const planOf = (offsets: OffsetMap, table: string) =>
    offsets.get(partitionKey({ server: 'shop', table }))!.offset as PlanOffset;

  test.each(keys)('whose key is %s is read by all tasks, every row once', async (_, columns, key, values) => {
    const name = await database();
    await run(`SET sql_log_bin = 0; CREATE TABLE numbers (n int PRIMARY KEY); INSERT INTO numbers VALUES (0);
      ${Array.from({ length: 11 }, (_, i) => `INSERT INTO numbers SELECT n + ${2 ** i} FROM numbers`).join('; ')};
      CREATE TABLE t (${columns}, pad longtext, PRIMARY KEY (${key})) CHARSET utf8mb4;
      INSERT INTO t SELECT ${values}, repeat('x', ${rowBytes}) FROM numbers WHERE n < ${rows}; ANALYZE TABLE t; SET sql_log_bin = 1`);
    const of = { ...fixture({ tables: [`${name}.t`] }), expected: [] } as SourceFixture;
    const offsets: OffsetMap = new Map();
    const { records, counts } = await readByTasks(of, offsets, 2);
    expect(planOf(offsets, `${name}.t`).bounds).toHaveLength(1);
    expect(new Set(records.map(({ key }) => inspect(key))).size).toBe(rows);
    expect(records.length).toBe(rows);
    for (const count of counts) expect(count).toBeGreaterThan(rows / 4);
    await run('DROP TABLE t');
  });

  test('that is written all the while is the same at its end', async () => {
    const name = await database();
    await run(`SET sql_log_bin = 0; CREATE TABLE numbers (n int PRIMARY KEY); INSERT INTO numbers VALUES (0);
      ${Array.from({ length: 11 }, (_, i) => `INSERT INTO numbers SELECT n + ${2 ** i} FROM numbers`).join('; ')};
      CREATE TABLE t (id int PRIMARY KEY, v int, pad longtext);
      INSERT INTO t SELECT n * 10, 0, repeat('x', ${rowBytes}) FROM numbers WHERE n < ${rows}; ANALYZE TABLE t; SET sql_log_bin = 1`);
    const of = { ...fixture({ tables: [`${name}.t`] }), expected: [] } as SourceFixture;
    const offsets: OffsetMap = new Map();
    const random = seeded('ranges');
    const id = () => random.integer(0, rows * 10);
    const changes = Array.from(
      { length: 40 },
      () =>
        random.pick([
          `UPDATE t SET v = v + 1 WHERE id > ${id()} LIMIT 50`,
          `DELETE FROM t WHERE id > ${id()} LIMIT 1`,
          `INSERT IGNORE INTO t VALUES (${id()}, 1, 'y')`,
          `UPDATE IGNORE t SET id = ${id()} WHERE id > ${id()} LIMIT 1`,
        ])!,
    );
    const { records } = await readByTasks(of, offsets, 3, changes);
    const found = new Map<string, unknown>();
    for (const { key, value } of records) {
      const after = (value as Struct | null)?.after as Struct | null | undefined;
      if (after == null) found.delete(partitionKey(key as never));
      else found.set(partitionKey(key as never), after.v);
    }
    const [now] = (await run('SELECT id, v FROM t')) as unknown as [{ id: number; v: number }[]];
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(now.map(({ id, v }) => [partitionKey({ id }), v])));
  });

  test('is read anew where an operator takes its plan away, or it was out of the config for a while', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE u (id int PRIMARY KEY)');
    const both = { ...fixture({ tables: [`${name}.t`, `${name}.u`] }), expected: [] } as SourceFixture;
    const one = { ...fixture({ tables: [`${name}.u`] }), expected: [] } as SourceFixture;
    const offsets: OffsetMap = new Map();
    const idsOf = async (of: SourceFixture) =>
      (await readByTasks(of, offsets, 1)).records.map(({ key }) => (key as Struct).id);
    expect(await idsOf(both)).toEqual([1]);
    offsets.delete(partitionKey({ server: 'shop', table: `${name}.t` }));
    expect(await idsOf(both)).toEqual([1]);
    expect(await idsOf(one)).toEqual([]);
    await run('INSERT INTO t VALUES (2)');
    expect(await idsOf(one)).toEqual([]);
    expect(await idsOf(both)).toEqual([1, 2]);
    expect(await idsOf(both)).toEqual([]);
  });
});

import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { describeTransactions } from '../../kit/describe-transactions.ts';
import { createRunner, type Delivered, withEnds } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);
  let name: string;
  const capture = async (config: Struct, tables = ['a', 'b']) => {
    const of = fixture({ tables: tables.map((table) => `${name}.${table}`), snapshotMode: 'never', ...config });
    const { withTask, readAll } = createRunner({ ...of, expected: [] });
    return async (limits = {}) => {
      const records: Delivered[] = [];
      await withTask((task) => readAll(task, new Map(), limits, (poll) => records.push(...withEnds(poll))));
      return records;
    };
  };
  const empty = async (sql: string) => {
    if (sql.startsWith('CREATE')) name = await database();
    return run(sql);
  };
  describeTransactions(flavour, flavour === 'mysql' ? /^[0-9a-f-]{36}:\d+$/ : /^0-\d+-\d+$/, { run: empty, capture });

  test('statements among the rows of a transaction do not end it', async () => {
    await empty('CREATE TABLE a (id int PRIMARY KEY)');
    await run(`BEGIN; INSERT INTO a VALUES (1); SAVEPOINT s; CREATE TEMPORARY TABLE x (id int); INSERT INTO a VALUES (2);
      DROP TEMPORARY TABLE x; INSERT INTO a VALUES (3); COMMIT`);
    const records = await (await capture({ transactions: true }, ['a']))();
    expect(records.map(({ value }) => (value as Struct).op ?? (value as Struct).event)).toEqual([
      'c',
      'c',
      'c',
      'commit',
    ]);
  });
});

describe('a server without GTIDs', () => {
  const { run, database, fixture } = useMysql('mysql', ['--gtid-mode=OFF', '--enforce-gtid-consistency=OFF']);
  test('a transaction is known by its place in the binlog', async () => {
    const name = await database();
    await run('CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)');
    const of = fixture({ tables: [`${name}.a`], snapshotMode: 'never', transactions: true });
    const { withTask, readAll } = createRunner({ ...of, expected: [] });
    const records: Delivered[] = [];
    await withTask((task) => readAll(task, new Map(), {}, (poll) => records.push(...withEnds(poll))));
    const [change, end] = records.map(({ value }) => value as Record<string, Struct>);
    const { file, pos } = change!.source!;
    expect([change!.transaction!.id, end!.transaction]).toEqual([`${file}:${pos}`, `${file}:${pos}`]);
  });
});

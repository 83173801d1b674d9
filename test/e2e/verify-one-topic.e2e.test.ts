import { describe, expect, test } from 'vitest';
import { useDatabases } from '../kit/database.ts';
import { makeWorkplace, messageOf } from '../kit/sluice.ts';
import { differencesOf, verifiedOf } from '../kit/verify-pipeline.ts';

const timeout = 300_000;

const server = useDatabases();

describe.each([
  ['mariadb', 'postgres', 'sources', 'atomic'],
  ['postgres', 'mysql', 'sources', 'batch'],
  ['mysql', 'mysql', 'direct', 'batch'],
  ['postgres', 'postgres', 'direct', 'atomic'],
] as const)('%s to %s, %s, transactions %s', (from, to, through, transactions) => {
  test('tables of one topic are told apart by their source, compared and repaired', { timeout }, async () => {
    await using source = await server(from).database(`${from}_${to}_s`);
    await using sink = await server(to).database(`${from}_${to}_d`);
    await source.run(`CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, s varchar(9));
      INSERT INTO a VALUES (1, 1), (2, 2), (3, 3); INSERT INTO b VALUES (1, 'x'), (2, 'y')`);
    const { schema } = source;
    const read = `connector: ${from === 'postgres' ? 'postgres-cdc' : 'mysql-cdc'}
      config: { url: '\${env:SOURCE_URL}', topicPrefix: s, topic: all, transactions: ${transactions === 'atomic'}, tables: [${schema}.a, ${schema}.b] }`;
    const write = `connector: ${to === 'postgres' ? 'postgres' : 'mysql'}
      config: { url: '\${env:SINK_URL}', table: 'copy_\${source.table}', transactions: ${transactions} }`;
    await using place = await makeWorkplace();
    await place.file(
      'p.yaml',
      through === 'direct'
        ? `name: p_${from}_${to}\ndirect:\n  copy:\n    every: 1m\n    source:\n      ${read}\n    sink:\n      ${write}\n`
        : `name: p_${from}_${to}\ntopics: { all: { queues: 1 } }\nsources:\n  in:\n      every: 1m\n      ${read}\nsinks:\n  out:\n      from: [all]\n      ${write}\n`,
    );
    const env = { SOURCE_URL: source.url, SINK_URL: sink.url };
    const sluice = (...args: string[]) => place.sluice([...args, 'p.yaml', '--json'], env);
    const ran = await sluice('run');
    expect(ran.code, messageOf(ran)).toBe(0);
    expect(differencesOf(await sluice('verify'))).toEqual({ a: [], b: [] });

    // Rows of one key in both tables: a repair of one must not touch the other's.
    await sink.run(`UPDATE copy_a SET n = 0 WHERE id = 1; DELETE FROM copy_b WHERE id = 2;
      INSERT INTO copy_b VALUES (3, 'z'); INSERT INTO copy_a VALUES (4, 4); INSERT INTO copy_b VALUES (4, 'w')`);
    await source.run(`INSERT INTO b VALUES (4, 'w')`);
    const expected = { a: ['different 1 n', 'extra 4'], b: ['extra 3', 'missing 2'] };
    expect(differencesOf(await sluice('verify'))).toEqual(expected);
    const repaired = await sluice('verify', '--repair');
    expect(differencesOf(repaired), messageOf(repaired)).toEqual({ a: [], b: [] });
    expect(verifiedOf(repaired).map((table) => table.repaired)).toEqual([2, 2]);
    expect(verifiedOf(repaired).map(({ destination }) => destination.split('.')[1])).toEqual(['copy_a', 'copy_b']);
    expect(differencesOf(await sluice('verify'))).toEqual({ a: [], b: [] });
    // What is written after a repair is told as ever.
    await source.run(`UPDATE a SET n = 9; DELETE FROM b WHERE id = 2`);
    expect(differencesOf(await sluice('verify'))).toEqual({ a: [], b: [] });
    const rows = async (sql: string) => (await sink.rows(sql)).map((row) => row.map(String).join());
    expect(await rows('SELECT id, n FROM copy_a ORDER BY id')).toEqual(['1,9', '2,9', '3,9']);
    expect(await rows('SELECT id, s FROM copy_b ORDER BY id')).toEqual(['1,x', '4,w']);
  });
});

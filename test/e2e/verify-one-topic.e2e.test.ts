import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type DatabaseServer, type System, startServer, systems } from '../kit/databases.ts';
import { type Ended, envelopeOf, makeWorkplace, messageOf } from '../kit/sluice.ts';

const timeout = 300_000;

const servers = new Map<System, DatabaseServer>();
beforeAll(async () => {
  for (const system of systems) servers.set(system, await startServer(system));
}, timeout);
afterAll(async () => {
  for (const server of servers.values()) await server[Symbol.asyncDispose]();
});

interface Verified {
  readonly tables: readonly {
    readonly table: string;
    readonly destination: string;
    readonly differences: readonly { kind: string; key: readonly string[]; columns: readonly string[] }[];
    readonly repaired?: number;
  }[];
}

const tablesOf = (ended: Ended) => {
  const { result } = envelopeOf(ended) as { result: Verified & { error?: object } };
  expect(result.error, messageOf(ended)).toBeUndefined();
  return result.tables;
};
const differencesOf = (ended: Ended) =>
  Object.fromEntries(
    tablesOf(ended).map(({ table, differences }) => [
      table.split('.')[1],
      differences.map(({ kind, key, columns }) => `${kind} ${key.join('/')} ${columns.join()}`.trimEnd()).sort(),
    ]),
  );

describe.each([
  ['mariadb', 'postgres', 'sources', 'atomic'],
  ['postgres', 'mysql', 'sources', 'batch'],
  ['mysql', 'mysql', 'direct', 'batch'],
  ['postgres', 'postgres', 'direct', 'atomic'],
] as const)('%s to %s, %s, transactions %s', (from, to, through, transactions) => {
  test('tables of one topic are told apart by their source, compared and repaired', { timeout }, async () => {
    await using source = await servers.get(from)!.database(`${from}_${to}_s`);
    await using sink = await servers.get(to)!.database(`${from}_${to}_d`);
    await source.run(`CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, s varchar(9));
      INSERT INTO a VALUES (1, 1), (2, 2), (3, 3); INSERT INTO b VALUES (1, 'x'), (2, 'y')`);
    const schema = from === 'postgres' ? 'public' : source.name;
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
    expect(tablesOf(repaired).map((table) => table.repaired)).toEqual([2, 2]);
    expect(tablesOf(repaired).map(({ destination }) => destination.split('.')[1])).toEqual(['copy_a', 'copy_b']);
    expect(differencesOf(await sluice('verify'))).toEqual({ a: [], b: [] });
    // What is written after a repair is told as ever.
    await source.run(`UPDATE a SET n = 9; DELETE FROM b WHERE id = 2`);
    expect(differencesOf(await sluice('verify'))).toEqual({ a: [], b: [] });
    const rows = async (sql: string) => (await sink.rows(sql)).map((row) => row.map(String).join());
    expect(await rows('SELECT id, n FROM copy_a ORDER BY id')).toEqual(['1,9', '2,9', '3,9']);
    expect(await rows('SELECT id, s FROM copy_b ORDER BY id')).toEqual(['1,x', '4,w']);
  });
});

import { describe, expect, test } from 'vitest';
import { type Database, useDatabases } from '../kit/database.ts';
import { envelopeOf, makeWorkplace, messageOf } from '../kit/sluice.ts';
import { differencesOf, verifiedOf } from '../kit/verify-pipeline.ts';

const timeout = 300_000;

const server = useDatabases();

/** By number, by time with an hour of delay, two in bulk, and one in bulk that is shown whole. */
const sources = { numbers: ['numbers'], times: ['times'], bulks: ['bulks', 'others'], wholes: ['wholes'] } as const;
const tables = Object.values(sources).flat();

const pipeline = (source: Database, to: Database) => {
  const modes = {
    numbers: 'mode: incrementing, incrementingColumn: id',
    times: 'mode: timestamp, timestampColumns: [changed], timestampDelayIntervalMs: 3600000',
    bulks: 'mode: bulk, excludeColumns: [secret]',
    wholes: 'mode: bulk, runs: true',
  };
  const names = (node: keyof typeof sources) => sources[node].map((table) => `${source.schema}.${table}`);
  const nodes = (Object.keys(modes) as (keyof typeof modes)[]).map(
    (node) => `  ${node}:
    connector: ${source.system === 'postgres' ? 'postgres-query' : 'mysql-query'}
    cron: 0 3 * * ? *
    config: { url: '\${env:SOURCE_URL}', topicPrefix: s, tables: [${names(node)}], ${modes[node]} }
`,
  );
  const sink = (name: string, from: string, more: string) => `  ${name}:
    connector: ${to.system === 'postgres' ? 'postgres' : 'mysql'}
    from: [${from}]
    config: { url: '\${env:SINK_URL}', table: '\${table}'${more} }
`;
  return `name: ${source.name}
topics: { s.${source.schema}.wholes: { queues: 1 } }
sources:
${nodes.join('')}sinks:
${sink('out', 'numbers, times, bulks', '')}${sink('whole', 'wholes', ', visibility: batch')}`;
};

describe.each([
  ['mariadb', 'postgres'],
  ['mysql', 'mariadb'],
  ['postgres', 'mysql'],
] as const)('queries of %s to %s', (from, to) => {
  test('rows are compared as far as the mode reads them', { timeout }, async () => {
    await using source = await server(from).database(`${from}_${to}_q`);
    await using sink = await server(to).database(`${from}_${to}_d`);
    for (const table of tables)
      await source.run(`CREATE TABLE ${table} (id int PRIMARY KEY, name varchar(20), secret int, changed timestamp NULL);
        INSERT INTO ${table} VALUES ${Array.from({ length: 900 }, (_, i) => `(${i}, 'row ${i}', 7, '2024-01-02 03:04:${10 + (i % 40)}')`)}`);
    await source.run('UPDATE times SET changed = NULL WHERE id = 899');
    await using place = await makeWorkplace();
    await place.file('p.yaml', pipeline(source, sink));
    const env = { SOURCE_URL: source.url, SINK_URL: sink.url };
    const sluice = (...args: string[]) => place.sluice([...args, 'p.yaml', '--json'], env);
    const ran = await sluice('run');
    expect(ran.code, messageOf(ran)).toBe(0);

    // New, late, changed where nothing tells it, younger than the delay, deleted: each as its mode has it.
    await source.run(`INSERT INTO numbers (id) VALUES (-1), (1000); UPDATE numbers SET name = 'new' WHERE id = 1; DELETE FROM numbers WHERE id = 2;
      INSERT INTO times VALUES (1000, 'late', 7, '2024-01-01'), (1001, 'new', 7, '2025-01-01'), (1002, 'young', 7, now());
      UPDATE times SET name = 'young', changed = now() WHERE id = 3; DELETE FROM times WHERE id = 4;
      UPDATE bulks SET name = 'new' WHERE id = 1; DELETE FROM bulks WHERE id = 2; UPDATE bulks SET secret = 8 WHERE id = 5;
      UPDATE others SET name = 'new' WHERE id = 1;
      UPDATE wholes SET name = 'new' WHERE id = 1; DELETE FROM wholes WHERE id = 2`);
    await sink.run('DELETE FROM numbers WHERE id = 5; DELETE FROM bulks WHERE id = 6');
    const found = await sluice('verify');
    expect(differencesOf(found)).toEqual({
      numbers: ['different 1 name', 'missing -1', 'missing 5'],
      times: ['missing 1000'],
      bulks: [],
      others: [],
      wholes: [],
    });
    expect(found.code).toBe(1);
    const counts = verifiedOf(found).map(({ rows, inFlight, kept }) => [rows.source, inFlight, kept]);
    // Of the times one row is without, one young, one changed lately.
    expect(counts).toEqual([
      [901, 1, 1],
      [899, 1, 2],
      [899, 2, 1],
      [900, 1, 0],
      [899, 2, 0],
    ]);
    // Of both tables in bulk one reading was enough, behind the first.
    const { offsets } = envelopeOf(await place.sluice(['offsets', 'get', `${source.name}-bulks`, '--json'])).result as {
      readonly offsets: readonly { readonly offset: { readonly reading: number } }[];
    };
    expect(offsets.map(({ offset }) => offset.reading)).toEqual([2, 2]);

    const repair = await sluice('verify', '--repair');
    const refused = { error: { message: expect.stringContaining('offsets reset') } };
    expect([repair.code, envelopeOf(repair).result]).toMatchObject([2, refused]);
  });
});

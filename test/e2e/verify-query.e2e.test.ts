import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Database, type DatabaseServer, type System, startServer, systems } from '../kit/databases.ts';
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
    readonly rows: { readonly source: number; readonly destination: number };
    readonly differences: readonly { kind: string; key: readonly string[]; columns: readonly string[] }[];
    readonly inFlight: number;
    readonly kept: number;
  }[];
  readonly error?: { readonly code: string; readonly message: string };
}

const resultOf = (ended: Ended): Verified => envelopeOf(ended).result as Verified;

/** By table: the differences, and how many rows are only there. */
const toldOf = (ended: Ended) => {
  const { tables, error } = resultOf(ended);
  expect(error, messageOf(ended)).toBeUndefined();
  return Object.fromEntries(
    tables.map(({ table, differences, kept }) => [
      table.split('.')[1],
      [
        ...differences
          .map(({ kind, key, columns }) => `${kind} ${key.join('/')} ${columns.join()}`.trimEnd())
          .toSorted(),
        kept,
      ],
    ]),
  );
};

/** By number, by time with an hour of delay, two in bulk, and one in bulk that is shown whole. */
const sources = { numbers: ['numbers'], times: ['times'], bulks: ['bulks', 'others'], wholes: ['wholes'] } as const;
const tables = Object.values(sources).flat();

const pipeline = (from: System, to: System, source: Database, schema: string) => {
  const modes = {
    numbers: 'mode: incrementing, incrementingColumn: id',
    times: 'mode: timestamp, timestampColumns: [changed], timestampDelayIntervalMs: 3600000',
    bulks: 'mode: bulk, excludeColumns: [secret]',
    wholes: 'mode: bulk, runs: true',
  };
  const nodes = Object.entries(modes).map(
    ([node, mode]) => `  ${node}:
    connector: ${from === 'postgres' ? 'postgres-query' : 'mysql-query'}
    cron: 0 3 * * ? *
    config: { url: '\${env:SOURCE_URL}', topicPrefix: s, tables: [${sources[node as keyof typeof sources].map((table) => `${schema}.${table}`)}], ${mode} }
`,
  );
  const sink = (name: string, from: string, more: string) => `  ${name}:
    connector: ${to === 'postgres' ? 'postgres' : 'mysql'}
    from: [${from}]
    config: { url: '\${env:SINK_URL}', table: '\${table}'${more} }
`;
  return `name: ${source.name}
topics: { s.${schema}.wholes: { queues: 1 } }
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
    await using source = await servers.get(from)!.database(`${from}_${to}_q`);
    await using sink = await servers.get(to)!.database(`${from}_${to}_d`);
    const schema = from === 'postgres' ? 'public' : source.name;
    for (const table of tables)
      await source.run(`CREATE TABLE ${table} (id int PRIMARY KEY, name varchar(20), secret int, changed timestamp NULL);
        INSERT INTO ${table} VALUES ${Array.from({ length: 900 }, (_, i) => `(${i}, 'row ${i}', 7, '2024-01-02 03:04:${10 + (i % 40)}')`)}`);
    await source.run('UPDATE times SET changed = NULL WHERE id = 899');
    await using place = await makeWorkplace();
    await place.file('p.yaml', pipeline(from, to, source, schema));
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
    expect(toldOf(found)).toEqual({
      numbers: ['different 1 name', 'missing -1', 'missing 5', 1],
      times: ['missing 1000', 2],
      bulks: [1],
      others: [0],
      wholes: [0],
    });
    expect(found.code).toBe(1);
    const counts = resultOf(found).tables.map(({ rows, inFlight }) => [rows.source, inFlight]);
    // Of the times one row is without, one young, one changed lately.
    expect(counts).toEqual([
      [901, 1],
      [899, 1],
      [899, 2],
      [900, 1],
      [899, 2],
    ]);
    // Of both tables in bulk one reading was enough, behind the first.
    const { offsets } = envelopeOf(await place.sluice(['offsets', 'get', `${source.name}-bulks`, '--json'])).result as {
      readonly offsets: readonly { readonly offset: { readonly reading: number } }[];
    };
    expect(offsets.map(({ offset }) => offset.reading)).toEqual([2, 2]);

    const repair = await sluice('verify', '--repair');
    expect([repair.code, resultOf(repair).error?.message]).toEqual([2, expect.stringContaining('offsets reset')]);
  });
});

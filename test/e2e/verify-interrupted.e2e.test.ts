import { expect, test } from 'vitest';
import { useDatabases } from '../kit/database.ts';
import { type Ended, envelopeOf, killIfThere, makeWorkplace, messageOf } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';
import { verifiedOf } from '../kit/verify-pipeline.ts';

const timeout = 400_000;

const server = useDatabases(['mariadb', 'postgres']);

/** A window, and a table that is read in ranges by two tasks; both are shown whole, in batches that are small, so that both are found open. */
const pipeline = `name: p
topics: { s.shop.orders: { queues: 1 }, s.shop.stock: { queues: 1 } }
sources:
  orders:
    connector: mysql-query
    cron: 0 3 * * ? *
    maxRecords: 4
    config: { url: "\${env:MY}", topicPrefix: s, tables: [shop.orders], mode: incrementing, incrementingColumn: id, runs: true }
  stock:
    connector: mysql-query
    cron: 0 3 * * ? *
    maxRecords: 4
    tasks: 2
    config: { url: "\${env:MY}", topicPrefix: s, tables: [shop.stock], excludeColumns: [pad], mode: bulk, runs: true }
sinks:
  out: { connector: postgres, from: [orders, stock], config: { url: "\${env:PG}", table: "\${table}", visibility: batch } }
`;

interface Offsets {
  readonly offsets: readonly { readonly offset: { readonly endedMs?: number } }[];
}

const toldOf = (ended: Ended) =>
  Object.fromEntries(
    verifiedOf(ended).map(({ table, rows, differences, inFlight }) => [
      table,
      [rows.source, rows.destination, inFlight, ...differences.map(({ kind, key }) => `${kind} ${key}`)],
    ]),
  );

test('what a run that died had begun of a window and of ranges is brought to its end, and compared then', {
  timeout,
}, async () => {
  await using shop = await server('mariadb').database('shop');
  await using copy = await server('postgres').database('copy');
  await shop.run(`CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT seq FROM seq_1_to_1000;
    CREATE TABLE stock (id int PRIMARY KEY, pad longtext); INSERT INTO stock SELECT seq, repeat('x', 60000) FROM seq_1_to_1200; ANALYZE TABLE stock`);
  await copy.run('CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE stock (id int PRIMARY KEY)');
  const counts = () => copy.rows('SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM stock)');
  await using place = await makeWorkplace();
  await place.file('p.yaml', pipeline);
  const env = { MY: shop.url, PG: copy.url };
  const run = place.start(['run', 'p.yaml'], env);
  const staged = () => copy.rows('SELECT FROM sluice_runs WHERE records > 0').catch(() => []);
  await until(async () => (await staged()).length === 2, { timeoutMs: 200_000 });
  for (const pid of place.processes()) killIfThere(pid);
  await run.ended;
  await until(() => place.processes().length === 0);
  expect(await counts(), 'nothing is shown').toEqual([['0', '0']]);
  const offsetsOf = async (name: string) => {
    const { offsets } = envelopeOf(await place.sluice(['offsets', 'get', name, '--json'], env)).result as Offsets;
    return offsets.map(({ offset }) => offset);
  };
  expect(await offsetsOf('p-orders')).toMatchObject([{ to: ['1000'], run: 1 }]);
  const ranges = await offsetsOf('p-stock');
  expect(ranges).toContainEqual(expect.objectContaining({ bounds: [expect.anything()] }));
  expect(
    ranges.filter(({ endedMs }) => endedMs === undefined).length,
    'the table, and a range at least',
  ).toBeGreaterThan(1);

  const found = await place.sluice(['verify', 'p.yaml', '--json'], env);
  expect(toldOf(found)).toEqual({ 'shop.orders': [1_000, 0, 1_000], 'shop.stock': [1_200, 0, 1_200] });
  expect(found.code, messageOf(found)).toBe(0);
  expect(await counts()).toEqual([['1000', '1200']]);

  // Of the ranges all are read again, when the rest behind the last reading is over.
  await copy.run(
    'DELETE FROM orders WHERE id = 5; DELETE FROM stock WHERE id IN (3, 1100); INSERT INTO stock VALUES (0)',
  );
  await shop.run('INSERT INTO orders VALUES (1001)');
  const again = await place.sluice(['verify', 'p.yaml', '--json'], env);
  expect(toldOf(again)).toEqual({
    'shop.orders': [1_001, 999, 1, 'missing 5'],
    'shop.stock': [1_200, 1_199, 3],
  });
  expect(again.code).toBe(1);
});

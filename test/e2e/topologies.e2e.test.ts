import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { countsOf, difference, jsonLinesOf, queryRows, same } from '../kit/rows.ts';
import { makeWorkplace, messageOf, repository } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

/** What each branch does with an order: as its transform, and here. */
interface Order {
  readonly id: string;
  readonly n: number;
}
const branches = {
  double: { code: '({ ...r, value: { ...r.value, n: 2 * r.value.n } })', of: ({ id, n }: Order) => [{ id, n: 2 * n }] },
  even: { code: 'r.value.n % 2 === 0 ? r : null', of: (order: Order) => (order.n % 2 === 0 ? [order] : []) },
  twice: {
    code: '[r, { ...r, value: { ...r.value, n: 0 - r.value.n } }]',
    of: ({ id, n }: Order) => [
      { id, n },
      { id, n: 0 - n },
    ],
  },
  masked: { code: "({ ...r, value: { ...r.value, id: '***' } })", of: ({ n }: Order) => [{ id: '***', n }] },
};
type Branch = keyof typeof branches;

const branchOf = (name: Branch): string => `import { recordTransform } from 'sluice/connect/transform';


export default recordTransform('${name}', (r: any) => ${branches[name].code});
`;

const source = (name: string) =>
  `{ connector: file, every: 1m, config: { path: ${name}.jsonl, keyFields: [id], fields: { id: string, n: int32 } } }`;
const sink = (from: string, branch: Branch | undefined, config: string) =>
  `{ connector: file, from: [${from}], maxRecords: 700, ${branch === undefined ? '' : `transforms: [./${branch}.ts], `}config: ${config} }`;

/** One source to five sinks with transforms of their own, two sources into one sink, and a processor beside a sink of the same topic. */
const pipeline = `name: p
topics: { orders: { queues: 3 }, late: { queues: 2 }, derived: { queues: 4 } }
sources:
  orders: ${source('orders')}
  late: ${source('late')}
processors:
  derive: { from: [orders], to: derived, maxRecords: 500, transforms: [./twice.ts, ./even.ts] }
sinks:
  all: ${sink('orders', undefined, '{ path: out/all }')}
  even: ${sink('orders', 'even', '{ path: out/even }')}
  double: ${sink('orders', 'double', '{ path: out/double }')}
  masked: ${sink('orders', 'masked', '{ path: out/masked }')}
  twice:
    connector: postgres
    from: [orders]
    maxRecords: 600
    transforms: [./twice.ts]
    config: { url: '\${env:SLUICE_POSTGRES_URL}', table: twice, mode: insert }
  merged: ${sink('orders, late', undefined, '{ path: out/merged }')}
  derived: ${sink('derived', undefined, '{ path: out/derived }')}
`;

const ordersOf = (letter: string, count: number): readonly Order[] =>
  Array.from({ length: count }, (_, n) => ({ id: `${letter}${n % 50}`, n }));

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres?.stop());

test('a source that fans out to five sinks, two that merge into one, and a processor, cut off in the middle', {
  timeout: 300_000,
}, async () => {
  await using place = await makeWorkplace();
  await symlink(join(repository, 'node_modules'), place.path('node_modules'));
  const upstream = { orders: ordersOf('a', 8_000), late: ordersOf('b', 3_000) };
  for (const [name, rows] of Object.entries(upstream))
    await place.file(`${name}.jsonl`, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  for (const name of Object.keys(branches) as Branch[]) await place.file(`${name}.ts`, branchOf(name));
  await place.file('p.yaml', pipeline);
  const written = async (name: string, topic: string) =>
    (await jsonLinesOf(place.path(`out/${name}/${topic}`))) as readonly Order[];

  const start = () => place.start(['run', 'p.yaml'], { SLUICE_POSTGRES_URL: postgres.url });
  const first = start();
  await until(
    () =>
      written('merged', 'orders')
        .then((rows) => rows.length > 0)
        .catch(() => false),
    {
      timeoutMs: 90_000,
    },
  );
  first.kill('SIGKILL');
  await first.ended;
  const second = await start().ended;
  expect(second.code, messageOf(second)).toBe(0);

  const { orders, late } = upstream;
  const expected: readonly [sink: string, topic: string, rows: readonly Order[]][] = [
    ['all', 'orders', orders],
    ['even', 'orders', orders.flatMap(branches.even.of)],
    ['double', 'orders', orders.flatMap(branches.double.of)],
    ['masked', 'orders', orders.flatMap(branches.masked.of)],
    ['merged', 'orders', orders],
    ['merged', 'late', late],
    // Read once, with other logic, it agrees with what the sinks beside it got.
    ['derived', 'derived', orders.flatMap(branches.twice.of).flatMap(branches.even.of)],
  ];
  for (const [name, topic, rows] of expected) {
    const found = await written(name, topic);
    expect(difference(countsOf(found), countsOf(rows)), `${name} ${topic}`).toEqual(same);
    const byId = (all: readonly Order[]) => Object.fromEntries(Map.groupBy(all, ({ id }) => id));
    // Masked, all have one name: their order was that of their keys.
    if (name !== 'masked') expect(byId(found), `the order of each key in ${name}`).toEqual(byId(rows));
  }
  const twice = await queryRows(postgres.url, 'select id, n from twice');
  expect(
    difference(countsOf(twice), countsOf(orders.flatMap(branches.twice.of).map(({ id, n }) => [id, `${n}`]))),
  ).toEqual(same);
});

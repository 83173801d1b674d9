import { expect, test } from 'vitest';
import { type Ask, edgesOf, tablesOf } from '../../../infra/cli/verify-edges.ts';
import type { ConnectorRow } from '../../../shared/state/connectors.ts';

const row = (name: string, more: object): ConnectorRow => ({ name, tasks: 1, ...more }) as unknown as ConnectorRow;
const to = (...topics: readonly string[]) => topics.map((name) => ({ name }));
const sourceOf = (name: string, ...topics: readonly string[]) => row(name, { kind: 'source', to: to(...topics) });
const sink = row('sink', { kind: 'sink', from: ['a', 'b'] });
const names = new Set(['sink', 'direct']);

test('an edge leads from each source that a sink reads, and from a direct connector to itself', () => {
  const direct = row('direct', { kind: 'direct', transforms: ['unwrap'] });
  const rows = [sourceOf('one', 'a'), sourceOf('two', 'b', 'c'), sink, direct, row('other', { kind: 'direct' })];
  expect(edgesOf(rows, names).map(({ source, sink, topics }) => [source.name, sink.name, topics])).toEqual([
    ['one', 'sink', ['a']],
    ['two', 'sink', ['b']],
    ['direct', 'direct', undefined],
  ]);
});

test.each<readonly [string, readonly ConnectorRow[]]>([
  ['nothing writes topic b', [sourceOf('one', 'a')]],
  ['one and two write topic a', [sourceOf('one', 'a', 'b'), sourceOf('two', 'a')]],
  ['processor one writes topic a', [row('one', { kind: 'processor', to: to('a', 'b') })]],
  ['one has transform mine.ts', [row('one', { kind: 'source', to: to('a', 'b'), transforms: ['unwrap', 'mine.ts'] })]],
])('refused: %s', (message, rows) => {
  expect(() => edgesOf([...rows, sink], names)).toThrow(message);
});

const tables = ['a', 'b'].map((name) => ({
  ...{ table: `shop.${name}`, topic: 'all', key: ['id'], source: { db: 'shop', table: name } },
  columns: [{ name: 'id', type: 'int32' }],
}));
const answers =
  (destinationOf: (table: string) => string): Ask =>
  async (_, question) =>
    (question.step === 'tables'
      ? { tables }
      : { table: destinationOf((question as { table: { table: string } }).table.table), ignored: [] }) as never;

test('two tables of one topic are compared where they go to two, and refused where they go to one', async () => {
  const edge = { source: sourceOf('one', 'all'), sink, topics: ['all'] };
  const { pairs } = await tablesOf(
    answers((table) => `copy.${table}`),
    edge,
  );
  expect(pairs.map(({ destination }) => destination)).toEqual(['copy.shop.a', 'copy.shop.b']);
  const same = tablesOf(
    answers(() => 'copy.all'),
    edge,
  );
  await expect(same).rejects.toThrow('shop.a and shop.b both go to table copy.all');
});

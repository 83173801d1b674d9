import { expect, test } from 'vitest';
import type { Ask, TablePair } from '../../../infra/cli/verify-edges.ts';
import { verifyTables } from '../../../infra/cli/verify-table.ts';

const pairOf = (table: string): TablePair => ({
  table: { table, topic: table, key: ['id'], columns: [{ name: 'id', type: 'int32' }] },
  destination: table,
  keeps: false,
});

/** The rows of tables of both sides, by key, each in a bucket of its own; a destination gets those of its source when it has passed a place. */
const verified = async (tables: { readonly [table: string]: Sides }) => {
  const asked: string[] = [];
  const ask: Ask = async (side, question) => {
    if (!('table' in question)) throw new Error(`nobody asks for ${question.step}`);
    const { table } = question.table;
    asked.push(`${question.step} ${side} ${table}`);
    const rows = tables[table]![side];
    switch (question.step) {
      case 'sum':
        return { buckets: Array.from(rows, ([key, hash]) => [Number(key), 1, hash]) } as never;
      case 'list': {
        const wanted = new Set(question.buckets.map(String));
        return { rows: Array.from(rows, answered).filter(({ key }) => wanted.has(key[0]!)) } as never;
      }
      case 'rows': {
        const found = question.keys.flatMap(([key]) => (rows.has(key!) ? [answered([key!, rows.get(key!)!])] : []));
        return { rows: found, ...(side === 'source' ? { position: table } : {}) } as never;
      }
      default:
        throw new Error(`nobody asks for ${question.step}`);
    }
  };
  const results = await verifyTables(ask, Object.keys(tables).map(pairOf), {
    passed: async ({ table }, position) => {
      asked.push(`passed ${position}`);
      tables[table.table]!.pass();
    },
    values: false,
  });
  return { results, asked };
};

interface Sides {
  readonly source: ReadonlyMap<string, string>;
  readonly sink: ReadonlyMap<string, string>;
  pass(): void;
}

const answered = ([key, hash]: readonly [string, string]) => ({ key: [key], hash, columns: [hash] });

/** So many rows, of which the first ones are on their way, and those behind them differ for good. */
const sides = (count: number, onTheirWay: number, differing: number): Sides => {
  const source = new Map(Array.from({ length: count }, (_, i) => [String(i), 'a']));
  const sink = new Map(source);
  for (let i = 0; i < onTheirWay + differing; i++) sink.set(String(i), 'b');
  return {
    source,
    sink,
    pass() {
      for (let i = 0; i < onTheirWay; i++) sink.set(String(i), 'a');
    },
  };
};

test('of a table both sides are read once, and once more where rows differ; several tables wait together', async () => {
  const { results, asked } = await verified({ same: sides(9, 0, 0), late: sides(9, 2, 0), other: sides(9, 0, 1) });
  expect(results.map(({ inFlight, differences, more }) => [inFlight, differences.length, more])).toEqual([
    [0, 0, false],
    [2, 0, false],
    [0, 1, false],
  ]);
  expect(asked).toEqual([
    ...['sum source same', 'sum sink same'],
    ...['sum source late', 'sum sink late', 'list source late', 'list sink late'],
    ...['sum source other', 'sum sink other', 'list source other', 'list sink other'],
    ...['rows source late', 'rows source other', 'passed late', 'passed other', 'rows sink late', 'rows sink other'],
    ...['rows source other', 'passed other', 'rows sink other'],
  ]);
});

test('more rows than are looked at one by one are waited for, and then told if they still differ', async () => {
  const { results } = await verified({ late: sides(12_000, 11_999, 1), other: sides(12_000, 0, 10_001) });
  expect(results.map(({ differences, more }) => [differences.length, more])).toEqual([
    [1, false],
    [10_000, true],
  ]);
});

import { expect, test } from 'vitest';
import type { Ask } from '../../../infra/cli/verify-edges.ts';
import { settleKeys } from '../../../infra/cli/verify-settle.ts';

const pair = {
  table: {
    table: 't',
    topic: 't',
    key: ['id'],
    columns: [
      { name: 'id', type: 'int32' },
      { name: 'n', type: 'int32' },
    ],
  },
  destination: 't',
  keeps: false,
} as const;

/** Both sides of the row of key 1, look by look; the last one stays. Undefined: there is no row. */
const settled = async (
  source: readonly (string | undefined)[],
  destination: readonly (string | undefined)[],
  keeps = false,
) => {
  const looks = { source: 0, sink: 0 };
  const asked: string[] = [];
  const ask: Ask = async (side) => {
    asked.push(side);
    const list = side === 'source' ? source : destination;
    const hash = list[Math.min(looks[side]++, list.length - 1)];
    const row = { key: ['1'], hash, columns: ['1', hash ?? null] };
    return { rows: hash === undefined ? [] : [row], ...(side === 'source' ? { position: looks.source } : {}) } as never;
  };
  const [result] = await settleKeys(ask, [{ pair: { ...pair, keeps }, keys: [['1']] }], {
    passed: async (_, position) => void asked.push(`passed ${position}`),
    values: false,
  });
  return { ...result!, asked };
};

test('a row is looked at in the destination after that has passed the place of the source’s row, and what is equal then was on its way', async () => {
  const { differences, equal, asked } = await settled(['b'], ['b']);
  expect({ differences, equal }).toEqual({ differences: [], equal: 1 });
  expect(asked).toEqual(['source', 'passed 1', 'sink']);
});

test.each<readonly [string, readonly (string | undefined)[], readonly (string | undefined)[], string | undefined]>([
  ['a row that differs twice in the same way', ['a'], ['b'], 'different n'],
  ['a row that the destination lacks', ['a'], [undefined], 'missing '],
  ['a row that the source lacks', [undefined], ['a'], 'extra '],
  ['a row that changes at the source and then stays', ['a', 'b', 'c', 'c'], ['x', 'y', 'z'], 'different n'],
  ['a row that changes in between and arrives', ['a', 'b', 'c'], ['x', 'a', 'c'], undefined],
])('%s', async (_, source, destination, expected) => {
  const { differences } = await settled(source, destination);
  expect(differences.map(({ kind, columns }) => `${kind} ${columns}`)).toEqual(
    expected === undefined ? [] : [expected],
  );
});

test('a row that only the destination has is counted where that keeps such rows', async () => {
  const { differences, kept, equal } = await settled([undefined], ['a'], true);
  expect({ differences, kept, equal }).toEqual({ differences: [], kept: 1, equal: 0 });
});

test('a row that changes each time it is looked at is told as that', async () => {
  const changing = Array.from({ length: 99 }, (_, i) => `s${i}`);
  const { differences, unsettled } = await settled(changing, ['d']);
  expect({ differences, unsettled }).toEqual({ differences: [], unsettled: [['1']] });
});

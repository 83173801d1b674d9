import { expect, test } from 'vitest';
import { batchOf } from '../../../shared/connect/build.ts';
import { controlRecord } from '../../../shared/connect/control.ts';
import { applyChain, recordTransform } from '../../../shared/connect/transform.ts';
import { route } from '../../../shared/lambda/handlers.ts';

test('a processor sends control records to its own topic, with the records they speak of', () => {
  const [begin, commit] = [
    controlRecord('in', { event: 'begin', run: 'r', scope: 'merge' }),
    controlRecord('in', { event: 'commit', transaction: '1' }),
  ];
  const batch = batchOf([begin, { topic: 'in', value: 1 }, commit]);
  const same = recordTransform('same', (record) => record as never);
  const chain = applyChain([same, route({ to: [{ name: 'out' }] } as never)], batch);
  expect(chain.batch.groups.map(({ topic, count }) => [topic, count])).toEqual([
    ['out', 1],
    ['out', 1],
    ['out', 1],
  ]);
});

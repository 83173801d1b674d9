import { expect, test } from 'vitest';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import { pollOf } from '../../../shared/connect/connector.ts';
import { controlRecord } from '../../../shared/connect/control.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { describeVisibility } from '../../kit/describe-visibility.ts';
import { keyed } from '../../kit/put-records.ts';
import { createRunKit } from '../../kit/run-kit.ts';
import { useSink } from './sink-fixture.ts';

const sink = useSink();
describeVisibility('PostgreSQL', sink);

const row = (id: number) => keyed(id, { s: `s${id}` }, { s: 'string' });
const run = (name: string, ids: readonly number[]) => [
  controlRecord('t', { event: 'begin', run: name, scope: 'replace' }),
  ...ids.map(row),
  controlRecord('t', { event: 'end', run: name, records: ids.length }),
];

/** These records, each with an offset of its own. */
const sourceOf = (records: ReturnType<typeof run>) => ({
  poll: async (offsets: { get(partition: { name: string }): unknown }, { maxRecords }: { maxRecords: number }) => {
    const from = (offsets.get({ name: 'p' }) as { next?: number } | undefined)?.next ?? 0;
    const taken = records.slice(from, from + maxRecords).map((record, i) => ({
      ...record,
      partition: { name: 'p' },
      offset: { next: from + i + 1 },
    }));
    return pollOf(taken, { caughtUp: from + taken.length >= records.length });
  },
  close: async () => {},
});

const mixed = [row(1), ...run('r1', [2, 3, 4, 5, 6, 7, 8]), row(9), ...run('r2', [3, 4]), row(5)];
const commit = controlRecord('t', { event: 'commit', transaction: '1' });

test.each<[Struct, typeof mixed, readonly number[]]>([
  [{ visibility: 'batch' }, mixed, [3, 4, 5]],
  [
    { transactions: 'atomic' },
    [...mixed.slice(0, 6), commit, ...mixed.slice(6), commit, row(10)],
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  ],
])('the runner cuts its batches for %j, in one run or in several', async (config, records, expected) => {
  for (const maxRecords of [1, 3, 100]) {
    const kit = createRunKit();
    await sink.run('DROP TABLE IF EXISTS t, sluice_offsets, sluice_runs, sluice_staged');
    for (const count of [6, records.length])
      expect(
        await kit.run({
          openSource: async () => sourceOf(records.slice(0, count)),
          openSink: () => sink.openSink(config),
          budget: { maxRecords, maxBytes: 1 << 20 },
        }),
      ).toMatchObject({ outcome: 'drained' });
    const ids = (await sink.all('SELECT id FROM t ORDER BY id')).flat();
    expect(ids, `${maxRecords} records a batch`).toEqual(expected);
  }
});

test('one of both is asked for', () => {
  const parsed = postgresSink.config.safeParse({ url: 'postgres://h/d', visibility: 'batch', transactions: 'atomic' });
  expect(parsed.error?.issues).toMatchObject([
    { path: ['transactions'], message: expect.stringMatching(/^a run is shown whole at its end/) },
  ]);
});

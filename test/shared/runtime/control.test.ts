import { expect, test } from 'vitest';
import { batchOf } from '../../../shared/connect/build.ts';
import { pollOf, type SinkTask } from '../../../shared/connect/connector.ts';
import { controlRecord, controlsOf, isControl } from '../../../shared/connect/control.ts';
import { recordTransform } from '../../../shared/connect/transform.ts';
import { requireOrder } from '../../../shared/log/topics.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { appendingDestination } from '../../kit/memory-connectors.ts';
import { createRunKit } from '../../kit/run-kit.ts';
import { makeTopic } from '../../kit/world.ts';

const record = (n: number) => ({ topic: 'rows', value: { key: 'k', n } });
const records = [
  controlRecord('rows', { event: 'begin', run: 'r', scope: 'replace' }),
  record(1),
  record(2),
  controlRecord('rows', { event: 'end', run: 'r', records: 2 }),
].map((one, i) => ({ ...one, partition: { name: 'p' }, offset: { next: i + 1 } }));

const openSource = async () => ({
  poll: async (offsets: { all(): Iterable<unknown> }) =>
    pollOf([...offsets.all()].length > 0 ? [] : records, { caughtUp: true }),
  close: async () => {},
});

test('a sink that does not know control records gets none, and their offsets are committed', async () => {
  const kit = createRunKit();
  const { rows, sink } = appendingDestination();
  const seen: number[] = [];
  const transforms = [
    recordTransform('seen', (one) => {
      seen.push((one.value as { n: number }).n);
      return one as never;
    }),
  ];
  expect(await kit.run({ openSource, openSink: async () => sink(), transforms })).toMatchObject({ outcome: 'drained' });
  expect(rows.map(({ n }) => n)).toEqual([1, 2]);
  expect(seen).toEqual([1, 2]);
  expect(await kit.committed()).toEqual({ p: [{ next: 4 }, 1] });
});

test('one that says so gets them in their place', async () => {
  const kit = createRunKit();
  const got: string[] = [];
  const openSink = async (): Promise<SinkTask> => ({
    takesControl: true,
    take: (batch) => (isControl(batch.groups[0]!.value.schema) ? 1 : batch.groups[0]!.count),
    async put(batch) {
      for (const group of batch.groups)
        got.push(isControl(group.value.schema) ? controlsOf(group)[0]!.event : `${group.count} rows`);
      return { committed: false };
    },
    close: async () => {},
  });
  await kit.run({ openSource, openSink });
  expect(got).toEqual(['begin', '2 rows', 'end']);
  expect(batchOf(records).groups).toHaveLength(3);
});

test('who needs the order of a whole topic is refused one of several queues, also where it got them later', async () => {
  const table = memoryTable();
  await makeTopic(table, 'one', 1);
  await makeTopic(table, 'two', 2);
  const ofTopic = { of: 'a topic', setting: 'visibility batch' } as const;
  const ofAll = { of: 'all records', setting: 'transactions atomic' } as const;
  await requireOrder(table, ['one', 'not there yet'], ofTopic);
  await requireOrder(table, ['one'], ofAll);
  await expect(requireOrder(table, ['one', 'other'], ofAll)).rejects.toMatchObject({
    message: 'one and other are 2 topics, and transactions atomic needs the order of all records: read one topic',
  });
  await expect(requireOrder(table, ['one', 'two'], ofTopic)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: 'topic two has 2 queues, and visibility batch needs the order of all its records: give it one queue',
  });
});

import { expect, test } from 'vitest';
import { type RecordBatch, sliceBatch } from '../../../shared/connect/batch.ts';
import { batchOf } from '../../../shared/connect/build.ts';
import { ConnectError, rowError } from '../../../shared/connect/errors.ts';
import type { ConnectRecord } from '../../../shared/connect/record.ts';
import { deadLetters, type Letter } from '../../../shared/runtime/dead-letters.ts';

const owner = { connector: 'orders', incarnation: 'i1' };
const batch = batchOf([
  { topic: 'orders', key: 'a', value: { id: 1 }, headers: [{ key: 'trace', value: 'x' }], timestampMs: 7 },
  { topic: 'orders', key: 'b', value: { id: 2 } },
]);
const letterOf = (index: number, change: Partial<Letter> = {}): Letter => ({
  position: { partition: { table: 'orders' }, offset: { b: 1, a: index } },
  topic: 'orders',
  stage: 'TASK_PUT',
  error: rowError(`row ${index} is bad`, new RangeError('too long')),
  record: { batch, index },
  ...change,
});

const open = (policy: { tolerance: 'none' | 'all'; deadLetterTopic?: string }, identity = owner) => {
  const appended: RecordBatch[] = [];
  const events: string[] = [];
  const send = deadLetters({
    owner: identity,
    taskId: 3,
    policy: { retryTimeoutMs: 0, retryDelayMaxMs: 1, ...policy },
    append: async (letters) => {
      appended.push(letters);
      events.push('appended');
    },
    onTolerated: ({ error }) => events.push(error.message),
  });
  const records = () => appended.flatMap((one) => [...one]);
  return { send, appended, events, records };
};

const headersOf = ({ headers }: ConnectRecord) =>
  Object.fromEntries(headers.map(({ key, value }) => [key.replace('__connect.errors.', ''), value]));
const idsOf = async (letters: readonly Letter[], identity = owner) => {
  const { send, records } = open({ tolerance: 'all', deadLetterTopic: 'dead' }, identity);
  await send(letters);
  return records().map((record) => headersOf(record).id);
};

test('tolerance none throws for the first letter, with its exact place, and appends nothing', async () => {
  const { send, events } = open({ tolerance: 'none', deadLetterTopic: 'dead' });
  await expect(send([letterOf(0), letterOf(1)])).rejects.toMatchObject({
    code: 'RECORD_REJECTED',
    blame: 'system',
    retriable: false,
    message: expect.stringMatching(
      /row 0 is bad \(topic orders, partition \{"table":"orders"\}, offset \{"a":0,"b":1\}, stage TASK_PUT\)/,
    ),
  });
  expect(events).toEqual([]);
});

test('no letters, nothing happens, whatever the tolerance', async () => {
  for (const tolerance of ['none', 'all'] as const) {
    const { send, events } = open({ tolerance, deadLetterTopic: 'dead' });
    await send([]);
    expect(events).toEqual([]);
  }
});

test('tolerance all appends every letter in one batch, and tells of it when that is durable', async () => {
  const { send, appended, events } = open({ tolerance: 'all', deadLetterTopic: 'dead' });
  await send([letterOf(0), letterOf(1)]);
  expect(appended).toHaveLength(1);
  expect(events).toEqual(['appended', 'row 0 is bad', 'row 1 is bad']);
});

test('without a topic, letters are only told of', async () => {
  const { send, events } = open({ tolerance: 'all' });
  await send([letterOf(0)]);
  expect(events).toEqual(['row 0 is bad']);
});

test("a letter that can't be appended is not tolerated", async () => {
  const told: string[] = [];
  const send = deadLetters({
    owner,
    taskId: 0,
    policy: { tolerance: 'all', retryTimeoutMs: 0, retryDelayMaxMs: 1, deadLetterTopic: 'dead' },
    append: () => Promise.reject(new ConnectError('UNAVAILABLE', 'no table')),
    onTolerated: ({ error }) => told.push(error.message),
  });
  await expect(send([letterOf(0)])).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(told).toEqual([]);
});

test("a letter is the record as it was, under Kafka Connect's headers", async () => {
  const { send, records } = open({ tolerance: 'all', deadLetterTopic: 'dead' });
  await send([letterOf(0)]);
  const [record] = records() as [ConnectRecord];
  expect(record).toMatchObject({ topic: 'dead', key: 'a', value: { id: 1 }, timestampMs: 7 });
  expect(headersOf(record)).toEqual({
    trace: 'x',
    id: expect.stringMatching(/^[0-9a-f]{32}$/),
    topic: 'orders',
    partition: '{"table":"orders"}',
    offset: '{"a":0,"b":1}',
    'connector.name': 'orders',
    'task.id': '3',
    stage: 'TASK_PUT',
    'exception.class.name': 'RangeError',
    'exception.message': 'row 0 is bad',
  });
  expect(JSON.stringify(record.headers)).not.toContain('dead-letters.test.ts');
});

test('what never became a record is its raw bytes', async () => {
  const { send, records } = open({ tolerance: 'all', deadLetterTopic: 'dead' });
  const raw = Uint8Array.of(0, 255, 10);
  await send([letterOf(0, { record: { raw }, stage: 'TASK_POLL', error: rowError('no JSON') })]);
  const [record] = records() as [ConnectRecord];
  expect(record).toMatchObject({ topic: 'dead', key: null, valueSchema: { type: 'bytes' } });
  expect(Buffer.from(record.value as Uint8Array)).toEqual(Buffer.from(raw));
  expect(headersOf(record)).toMatchObject({ stage: 'TASK_POLL', 'exception.class.name': 'ConnectError' });
});

test('the id is the same after a crash, and however the batch was cut', async () => {
  const [first, second] = await idsOf([letterOf(0), letterOf(1)]);
  expect(await idsOf([letterOf(0)])).toEqual([first]);
  const cut = { batch: sliceBatch(batch, 1, 2), index: 0 };
  expect(await idsOf([letterOf(1, { record: cut, error: rowError('said otherwise') })])).toEqual([second]);
});

test('the id differs by all that makes a record another', async () => {
  const same = { position: letterOf(0).position };
  const ids = [
    ...(await idsOf([
      letterOf(0),
      letterOf(0, { stage: 'TRANSFORMATION' }),
      letterOf(0, { position: { partition: { table: 'other' }, offset: { a: 0, b: 1 } } }),
      letterOf(0, { position: { partition: { table: 'orders' }, offset: { a: 9, b: 1 } } }),
      // Two records of one offset, such as the rows of one statement.
      letterOf(1, same),
      letterOf(0, { ...same, record: { raw: Uint8Array.of(1) } }),
    ])),
    ...(await idsOf([letterOf(0)], { ...owner, incarnation: 'i2' })),
    ...(await idsOf([letterOf(0)], { ...owner, connector: 'other' })),
  ];
  expect(new Set(ids).size).toBe(8);
});

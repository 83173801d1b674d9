import { expect, test } from 'vitest';
import { sweep } from '../../../functions/coordinator/sweep.ts';
import { putResource } from '../../../functions/deploy/resource.ts';
import { MysqlCdcOffset } from '../../../functions/mysql/cdc-offset.ts';
import { PostgresCdcOffset } from '../../../functions/postgres/cdc-offset.ts';
import { batchOf, type RecordInput } from '../../../shared/connect/build.ts';
import { envelopeSchema } from '../../../shared/connect/envelope.ts';
import { namePattern } from '../../../shared/connect/name.ts';
import { ConnectorSpec } from '../../../shared/connect/spec.ts';
import { logAppender } from '../../../shared/log/append.ts';
import { memoryObjects } from '../../../shared/log/objects.ts';
import { logSource } from '../../../shared/log/read.ts';
import { decodeBody } from '../../../shared/log/segment.ts';
import { subscribe } from '../../../shared/log/start.ts';
import { changeQueues, declareTopic } from '../../../shared/log/topics.ts';
import { changeOffsets, resetOffsets } from '../../../shared/management/offsets.ts';
import { nextRepair, repairPoll } from '../../../shared/sql/repair.ts';
import { putConnector, setHeld } from '../../../shared/state/connectors.ts';
import * as keys from '../../../shared/state/keys.ts';
import { writeLag } from '../../../shared/state/lag.ts';
import { acquireLease, updateHeld } from '../../../shared/state/lease.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { commitOffsets, offsetsCache } from '../../../shared/state/offsets.ts';
import { checkShape, shapes } from '../../../shared/state/shape.ts';
import { expectRecords } from '../../kit/arbitraries.ts';
import { recordedFunctions } from '../../kit/platform.ts';

/*
 * Invariant 11. These are the bytes in users' tables. When one of these tests goes red, do not change the expectation:
 *   1. give the shape a new version in shared/state/shape.ts, and write a reader that takes the old and the new one;
 *   2. release that reader, still writing the old shape (so that a rollback finds nothing it can't read);
 *   3. only in the release after it write the new shape, and then add its pin here beside the old one.
 * A key has no version: a new form of key needs code that looks under the old one as well.
 */

const budget = { maxRecords: 10, maxBytes: 1e6, signal: new AbortController().signal };

test('versions', () => {
  expect(shapes).toEqual({
    connector: 1,
    task: 1,
    offset: 1,
    prepared: 1,
    reset: 1,
    topic: 1,
    head: 1,
    segment: 1,
    history: 1,
    deployed: 1,
    lag: 1,
  });
});

test('keys', () => {
  const long = `{"file":"${'x'.repeat(600)}"}`;
  expect([
    keys.configKey('c'),
    keys.taskKey('c', 12),
    keys.wakeKey('c', 12),
    keys.offsetKey('c', 'i', '{"file":"a"}'),
    keys.offsetKey('c', 'i', long),
    keys.preparedKey('c', 'i', 12, 'p'),
    keys.resetKey('c', 'i'),
    keys.lagKey('c', 'i'),
    keys.historyKey('c', 's'),
    keys.metaKey('t'),
    keys.subscriptionKey('t', 'c'),
    keys.keptKey('t', 2, 31),
    keys.deployedKey('c'),
    keys.headKey('t', 2, 31),
    keys.segmentKey('t', 2, 31, 1234567890),
  ]).toEqual([
    { pk: 'connector#c', sk: 'CONFIG' },
    { pk: 'connector#c', sk: 'TASK#12' },
    { pk: 'connector#c', sk: 'WAKE#12' },
    { pk: 'connector#c', sk: 'AT#i#OFFSET#{"file":"a"}' },
    { pk: 'connector#c', sk: 'AT#i#OFFSET#sha256:284d2dc027d29e52b5ce04356ab54229bb1324742e703c7306d4eda627ef1aa3' },
    { pk: 'connector#c', sk: 'AT#i#PREPARED#12#p' },
    { pk: 'connector#c', sk: 'AT#i#RESET' },
    { pk: 'connector#c', sk: 'AT#i#LAG' },
    { pk: 'connector#c', sk: 'HISTORY#s' },
    { pk: 'topic#t', sk: 'META' },
    { pk: 'topic#t', sk: 'SUB#c' },
    { pk: 'topic#t', sk: 'KEPT#2#31' },
    { pk: 'connector#c', sk: 'DEPLOYED' },
    { pk: 'log#t#2#31', sk: 'HEAD' },
    { pk: 'log#t#2#31', sk: '00000000001234567890' },
  ]);
});

test("a name can hold no separator, and so no key can be another's beginning", () => {
  for (const name of ['a', 'A.b_c-9', 'x'.repeat(200)]) expect(name).toMatch(namePattern);
  for (const name of ['', 'a#b', 'a/b', 'ä', 'a b', 'a\n', 'x'.repeat(201)]) expect(name).not.toMatch(namePattern);
});

test('segments sort before their head, and by base', () => {
  const bases = [0, 9, 10, 2 ** 40, Number.MAX_SAFE_INTEGER].map(keys.segmentSk);
  expect([...bases].sort()).toEqual(bases);
  expect(bases.every((sk) => sk.length === 20 && sk < 'HEAD')).toBe(true);
});

test('offset, prepared row, cache', async () => {
  const table = memoryTable();
  const owner = { connector: 'c', incarnation: 'i' };
  const commit = { key: '{"file":"a"}', partition: { file: 'a' }, offset: { line: 3 }, seq: 0, writeId: 'w' };
  await commitOffsets(table, owner, [commit], { id: 'p', task: 2, data: { stage: 's' } });
  await offsetsCache(table, { ...owner, incarnation: 'j' }, [])([{ ...commit, seq: 7 }]);
  const common = { pk: 'connector#c', v: 1, partition: '{"file":"a"}', offset: '{"line":3}', writeId: 'w' };
  expect(await table.query('connector#c')).toEqual([
    { ...common, sk: 'AT#i#OFFSET#{"file":"a"}', seq: 1 },
    { pk: 'connector#c', sk: 'AT#i#PREPARED#2#p', v: 1, id: 'p', task: 2, data: '{"stage":"s"}' },
    { ...common, sk: 'AT#j#OFFSET#{"file":"a"}', seq: 7, cache: true },
  ]);
});

test('lag', async () => {
  const table = memoryTable();
  const owner = { connector: 'c', incarnation: 'i' };
  await writeLag(table, owner, { atMs: 5, lag: { bytes: 1, behindMs: 2, retained: { share: 0.5, text: 'told' } } });
  const key = { pk: 'connector#c', sk: 'AT#i#LAG', v: 1 };
  expect(await table.query('connector#c')).toEqual([
    { ...key, measured: '{"atMs":5,"lag":{"bytes":1,"behindMs":2,"retained":{"share":0.5,"text":"told"}}}' },
  ]);
  await writeLag(table, owner, { atMs: 6, error: 'refused' });
  expect(await table.query('connector#c')).toEqual([{ ...key, measured: '{"atMs":6,"error":"refused"}' }]);
});

test('task', async () => {
  const table = memoryTable();
  const acquired = await acquireLease(table, { connector: 'c', task: 1, owner: 'o', expiresAtMs: 9, nowMs: 1 });
  const row = {
    pk: 'connector#c',
    sk: 'TASK#1',
    v: 1,
    task: 1,
    epoch: 1,
    deaths: 0,
    state: 'RUNNING',
    failures: 0,
    records: 0,
    bytes: 0,
    runs: 0,
  };
  expect(await table.get(row)).toEqual({ ...row, owner: 'o', expiresAtMs: 9 });
  if ('refused' in acquired) throw new Error(acquired.refused);
  const all = {
    state: 'FAILED',
    trace: 'X: y',
    retriable: true,
    failures: 2,
    suspect: 's',
    lastRunAtMs: 5,
    lastCommitAtMs: 4,
    more: true,
    records: 3,
    bytes: 4,
    runs: 6,
  } as const;
  await updateHeld(table, 'c', acquired.lease, all);
  expect(await table.get(row)).toEqual({ ...row, owner: 'o', expiresAtMs: 9, ...all });
});

test('connector', async () => {
  const table = memoryTable();
  const spec = ConnectorSpec.parse({
    name: 'c',
    kind: 'source',
    plugin: 'file',
    functionName: 'f',
    config: { a: 1 },
    trigger: 'manual',
    managedBy: 'rest',
  });
  await putConnector(table, spec, { incarnation: 'i' });
  await putConnector(table, { ...spec, tasks: 2 }, { incarnation: 'j' });
  await setHeld(table, 'c', 't');
  const { spec: text, ...row } = (await table.get(keys.configKey('c')))!;
  expect(row).toEqual({
    pk: 'connector#c',
    sk: 'CONFIG',
    kind: 'connector',
    name: 'c',
    v: 1,
    target: 'STARTED',
    generation: 3,
    incarnation: 'i',
    pendingTasks: 2,
    held: 't',
  });
  expect(JSON.parse(String(text))).toMatchObject({ name: 'c', kind: 'source', config: { a: 1 }, tasks: 1 });
});

test('topic, head, segment', async () => {
  const table = memoryTable();
  const objects = memoryObjects();
  const { append } = logAppender({
    table,
    objects,
    owner: { connector: 'c', incarnation: 'i' },
    now: () => 1_000,
    newId: () => 'id',
  });
  await append(batchOf([{ topic: 't', value: 1, timestampMs: 5 }]), []);
  await append(
    batchOf([
      {
        topic: 't',
        value: 'x'.repeat(9_000).replace(/./g, () => String.fromCodePoint(0x4e00 + Math.floor(Math.random() * 20_000))),
      },
    ]),
    [],
  );
  await changeQueues(table, 't', 2);
  const [inline, pointer, head] = (await table.query('log#t#0#0')) as [
    Record<string, unknown>,
    Record<string, unknown>,
    unknown,
  ];
  const retention = 7 * 24 * 3_600;
  const cap = 30 * 24 * 3_600;
  const segment = {
    pk: 'log#t#0#0',
    v: 1,
    count: 1,
    bytes: expect.any(Number),
    rawLength: expect.any(Number),
    crc32: expect.any(Number),
    producer: 'c',
    bytesBefore: 0,
    expires: 1 + retention,
    cap: 1 + retention + cap,
  };
  expect(inline).toEqual({ ...segment, sk: '00000000000000000000', minMs: 5, maxMs: 5, body: expect.any(Uint8Array) });
  expect(pointer).toEqual({
    ...segment,
    sk: '00000000000000000001',
    bytesBefore: inline.rawLength,
    minMs: 1_000,
    maxMs: 1_000,
    object: 'r45/c/1970-01-01/id',
    start: 0,
  });
  const bytes = Number(inline.rawLength) + Number(pointer.rawLength);
  const lastExpires = 1 + retention;
  expect(head).toEqual({ pk: 'log#t#0#0', sk: 'HEAD', v: 1, next: 2, start: 0, sealed: true, bytes, lastExpires });
  const generations = [
    { generation: 0, queues: 1 },
    { generation: 1, queues: 2 },
  ];
  expect(await table.get(keys.metaKey('t'))).toEqual({
    pk: 'topic#t',
    sk: 'META',
    kind: 'topic',
    name: 't',
    v: 1,
    retentionMs: retention * 1_000,
    capMs: cap * 1_000,
    generations,
  });
  await declareTopic(table, 't', { queues: 2, retentionMs: 60_000, capMs: 5, maxBacklogBytes: 6 });
  expect(await table.get(keys.metaKey('t'))).toMatchObject({ retentionMs: 60_000, capMs: 5, maxBacklogBytes: 6 });
  await subscribe(table, 't', 'r', 2_000_000_000);
  expect(await table.get(keys.subscriptionKey('t', 'r'))).toEqual({
    pk: 'topic#t',
    sk: 'SUB#r',
    connector: 'r',
    // Nothing is live any more: it begins at the heads; queues that are not named, at 0.
    starts: { '0#0': 2 },
  });
});

test('an order to move offsets', async () => {
  const table = memoryTable();
  const spec = ConnectorSpec.parse({
    name: 'c',
    kind: 'sink',
    functionName: 'f',
    trigger: 'manual',
    managedBy: 'rest',
  });
  await putConnector(table, spec, { incarnation: 'i', target: 'STOPPED' });
  await changeOffsets(table, 'c', [{ partition: { a: 1 }, offset: null }], 'ann', 1);
  const row = { pk: 'connector#c', sk: 'AT#i#RESET', v: 1, id: expect.any(String) };
  expect(await table.get(keys.resetKey('c', 'i'))).toEqual({
    ...row,
    offsets: '[{"partition":{"a":1},"offset":null}]',
  });
  await resetOffsets(table, 'c', 'ann', 1);
  expect(await table.get(keys.resetKey('c', 'i'))).toEqual({ ...row, all: true, offsets: '[]' });
});

test.each([
  [MysqlCdcOffset, { file: 'binlog.000003', pos: 157, gtids: 'a:1-5' }, { file: 'binlog.000003', pos: 900 }],
  [
    PostgresCdcOffset,
    { xids: '700:702:', lsn: '0/16B3748', timeline: 1 },
    { xids: '710:710:', lsn: '0/16B3800', timeline: 1 },
  ],
])('an order to send rows again, as far as it is carried out', (schema, view, next) => {
  const stored = { repair: [['1'], ['2'], ['7']], passed: 2, views: [{ from: 0, view }] };
  expect(schema.parse(stored)).toEqual(stored);
  const partition = { server: 's', table: 'shop.orders', repair: true };
  const offsets = { get: () => undefined, all: () => [{ partition, offset: stored }] };
  const order = nextRepair<object>({ server: 's' }, offsets, () => true)!;
  expect(order).toEqual({ table: 'shop.orders', partition, offset: stored });
  const fields = [{ name: 'id', schema: { type: 'int32' } } as const];
  const row = { type: 'struct', fields } as const;
  const envelope = envelopeSchema('t', fields, { type: 'struct', fields: [] });
  const rows = { view: next, groups: [], refused: new Set<string>(), topic: 't', source: {} };
  const poll = repairPoll(order, [['7']], { ...rows, keySchema: row, valueSchema: envelope }, budget);
  const after = { ...stored, passed: 3, views: [...stored.views, { from: 2, view: next }] };
  expect(poll.offsets).toEqual([{ partition, offset: after }]);
  expect(schema.parse(after)).toEqual(after);
});

test('a topic, a head, a segment and a subscription of the first release are read, appended to and swept', async () => {
  const table = memoryTable();
  const objects = memoryObjects();
  const body = Buffer.from(firstBody.base64, 'base64');
  const old = { v: 1, count: 3, bytes: body.length, rawLength: firstBody.rawLength, crc32: firstBody.crc32 };
  const expires = 700_000;
  await table.write([
    {
      put: {
        ...keys.metaKey('t'),
        kind: 'topic',
        name: 't',
        v: 1,
        retentionMs: 604_800_000,
        generations: [{ generation: 0, queues: 1 }],
      },
    },
    { put: { ...keys.headKey('t', 0, 0), v: 1, next: 3, start: 0, sealed: false } },
    { put: { ...keys.segmentKey('t', 0, 0, 0), ...old, minMs: 1, maxMs: 1, producer: 'p', expires, body } },
    { put: { ...keys.subscriptionKey('t', 'r'), connector: 'r' } },
  ]);
  const now = () => 1_000;
  const { append } = logAppender({ table, objects, owner: { connector: 'c', incarnation: 'i' }, now });
  await append(batchOf([{ topic: 't', value: 1 }]), []);
  expect(await table.get(keys.headKey('t', 0, 0))).toMatchObject({ next: 4, bytes: expect.any(Number) });
  const source = logSource({ table, objects, topics: ['t'], subscriber: 'r', task: 0, tasks: 1, now });
  const budget = { maxRecords: 10, maxBytes: 1e6, signal: new AbortController().signal };
  expect((await source.poll({ get: () => undefined, all: () => [] }, budget)).batch.count).toBe(4);
  const spec = { name: 'r', kind: 'sink', from: ['t'], functionName: 'f', trigger: 'manual', managedBy: 'rest' };
  await putConnector(table, ConnectorSpec.parse(spec), { incarnation: 'i' });
  await sweep(table, recordedFunctions().functions, expires * 1_000 - 1, (level, message) => {
    if (level === 'error') expect.fail(message);
  });
  const [first, second] = await table.query('log#t#0#0');
  // Its object would not live longer: it ends when it was to.
  expect(first).toMatchObject({ sk: keys.segmentSk(0), expires });
  expect(second).toMatchObject({ sk: keys.segmentSk(3), expires: second!.cap });
});

test('a body that was written by the first release is read', async () => {
  const body = Buffer.from(firstBody.base64, 'base64');
  const read = await decodeBody({ bytes: body, rawLength: firstBody.rawLength, crc32: firstBody.crc32 }, 't', 'pinned');
  expectRecords(read, pinnedRecords);
});

const pinnedRecords: readonly RecordInput[] = [
  {
    topic: 't',
    key: 'é',
    value: {
      i: 1,
      big: 2n ** 60n,
      f: -0.5,
      b: true,
      s: 'text',
      bytes: Uint8Array.of(0, 255),
      d: '12.50',
      list: [1n, 2n],
    },
    valueSchema: {
      type: 'struct' as const,
      fields: [
        { name: 'i', schema: { type: 'int32' as const } },
        { name: 'big', schema: { type: 'int64' as const } },
        { name: 'f', schema: { type: 'float64' as const } },
        { name: 'b', schema: { type: 'boolean' as const } },
        { name: 's', schema: { type: 'string' as const, optional: true } },
        { name: 'bytes', schema: { type: 'bytes' as const } },
        { name: 'd', schema: { type: 'decimal' as const } },
        { name: 'list', schema: { type: 'array' as const, items: { type: 'int64' as const } } },
      ],
    },
    headers: [
      { key: 'h', value: Uint8Array.of(1) },
      { key: 'n', value: 5n },
      { key: 'j', value: { a: null } },
    ],
    timestampMs: 1_234,
  },
  { topic: 't', key: null, value: null },
  { topic: 't', value: { open: [1, 'x'], __missing: null } },
];

const firstBody = {
  base64:
    'KLUv/QBIPQ0AJldJMoApSQczwDHQkUFnaCYDbOJsIiKTQ/beRWg32yQhu91PTLguxp3f2j7p78wBqm+g35oMOgA6ADkAknHcHN/38vDjmIPvXDNJl9yQ8kilS/geF5fvPANsTsuncwP1o3T2+LHIR+kQN/gi6Q2fuDxSqgAeBPJxt+8h5jisZXOOvbYww0huSOGGFH6cTncMxtZN/ErI2MWoKCw6h0PBYGjKzvnEQMO2b0/nx+AjlR4LEITcxGRl81hLfq2/a63p3APT2aM9g6tdVzAatu8X38OrXftGY0GC7x9XSqVLhxnGj+9ci0Sxc82qqqqK0PWGL6JUdQACAQQFmiyiEosCCSKggnYDdwDVgwQKBFQPESYgVFVVdc25ZmLnAW7W8s498DsXbFK2txA3IKACkTHTDQQ9IZ7vRELuIWQwamaNHiR7IOaoDXwM9mhqtLNMMdWIUQZMosLIAcBkDLASzvRx191YBD8ilDy3KM3kZ3kPlGGPFHPXMLIl1jfMe4kjvCB38X+jCXMY6Wv20P+P2OErQQbpy2GjLxshFX13YHYdKtoZrjciAGRR',
  rawLength: 1080,
  crc32: 1279051695,
};

test('versions are checked: older is read, newer is SHAPE_TOO_NEW, none is CORRUPT', () => {
  expect(() => checkShape('head', 1, 'x')).not.toThrow();
  expect(() => checkShape('head', shapes.head + 1, 'the head of t')).toThrow(
    expect.objectContaining({ code: 'SHAPE_TOO_NEW', message: expect.stringContaining('the head of t') }),
  );
  for (const v of [undefined, 0, '1', Number.NaN])
    expect(() => checkShape('head', v, 'x')).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
});

test('deployed', async () => {
  const table = memoryTable();
  const { functions } = recordedFunctions();
  const spec = ConnectorSpec.parse({
    name: 'c',
    kind: 'sink',
    functionName: 'f',
    trigger: 'manual',
    managedBy: 'deploy',
  });
  await putResource(table, functions, { stack: 's', id: 'a' }, spec, {});
  await putResource(table, functions, { stack: 's', id: 'b' }, spec, {});
  const errors = { tolerance: 'none', retryTimeoutMs: 0, retryDelayMaxMs: 60_000 };
  const limits = { maxRecords: 20_000, maxBytes: 8_388_608 };
  const item = await table.get(keys.deployedKey('c'));
  expect({ ...item, deployed: JSON.parse(String(item?.deployed)) }).toEqual({
    pk: 'connector#c',
    sk: 'DEPLOYED',
    v: 1,
    deployed: {
      owner: 's b',
      before: {
        owner: 's a',
        spec: { ...spec, tasks: 1, errors, ...limits },
      },
    },
  });
});

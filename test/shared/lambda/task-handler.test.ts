import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { SourceTask } from '../../../shared/connect/connector.ts';
import type { LambdaContext } from '../../../shared/lambda/deadline.ts';
import { takeUsed } from '../../../shared/lambda/environment.ts';
import { type End, taskHandler } from '../../../shared/lambda/task-handler.ts';
import { applyConnector, removeConnector } from '../../../shared/management/apply.ts';
import { readState } from '../../../shared/management/status.ts';
import { changeTarget } from '../../../shared/management/tasks.ts';
import { dynamoTable } from '../../../shared/state/dynamodb/table.ts';
import { wakeKey } from '../../../shared/state/keys.ts';
import { acquireLease } from '../../../shared/state/lease.ts';
import type { Table } from '../../../shared/state/table.ts';
import { type Dynoxide, startDynoxide } from '../../kit/dynoxide.ts';
import { appendingDestination, askedSource } from '../../kit/memory-connectors.ts';
import { recordedFunctions, specOf } from '../../kit/platform.ts';
import { numbered, upstreamOf } from '../../kit/run-kit.ts';

let dynamodb: Dynoxide;
let table: Table;
const { functions } = recordedFunctions();

beforeAll(async () => {
  dynamodb = await startDynoxide();
  await dynamodb.createTable('handler');
  table = dynamoTable({ client: dynamodb.client, tableName: 'handler' });
  // The handler makes its clients once, from the variables that it finds then.
  vi.stubEnv('AWS_ENDPOINT_URL_DYNAMODB', dynamodb.endpoint);
  vi.stubEnv('AWS_REGION', 'us-east-1');
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'local');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'local');
  vi.stubEnv('SLUICE_TABLE', 'handler');
  vi.stubEnv('SLUICE_OBJECTS', 's3://objects');
});
afterEach(() => vi.stubEnv('SLUICE_DRAIN', undefined));
afterAll(async () => {
  vi.unstubAllEnvs();
  await dynamodb.stop();
});

/** A function of a direct connector of its own, invoked as Lambda does. */
const deployed = async (
  name: string,
  spec: Parameters<typeof specOf>[0] | object = {},
  upstream = upstreamOf({ a: numbered(3) }),
) => {
  const { rows, sink } = appendingDestination();
  const opened: number[] = [];
  const handler = taskHandler({
    source: {
      open: async (_, { taskId }) => {
        opened.push(taskId);
        return askedSource(upstream, 'rows') as SourceTask<unknown>;
      },
    },
    sink: { open: async () => sink() },
  });
  await applyConnector(table, functions, specOf({ name, kind: 'direct', trigger: 'manual', ...spec }));
  vi.stubEnv('SLUICE_CONNECTOR', name);
  let requests = 0;
  const invoke = (event: object, remainingMs = 60_000) => {
    const context: LambdaContext = {
      awsRequestId: `request-${requests++}`,
      getRemainingTimeInMillis: () => remainingMs,
    };
    return handler(event as Parameters<typeof handler>[0], context);
  };
  const wakes = async (task: number) => (await table.get(wakeKey(name, task))) !== undefined;
  return { invoke, rows, opened, wakes };
};

/** As S3 and SQS send them, cut down. */
const objectEvent = {
  Records: [
    {
      eventSource: 'aws:s3',
      eventName: 'ObjectCreated:Put',
      s3: { bucket: { name: 'b' }, object: { key: 'in/a%20b.csv' } },
    },
  ],
};
const messageEvent = {
  Records: [
    { eventSource: 'aws:sqs', messageId: '1', body: '{"connector":"someone else"}', eventSourceARN: 'arn' },
    { eventSource: 'aws:sqs', messageId: '2', body: 'anything', eventSourceARN: 'arn' },
  ],
};

describe('a function that an event wakes', () => {
  it.each([
    ['an object', objectEvent],
    ['messages', messageEvent],
  ])('runs its first task for %s, whatever it says', async (what, event) => {
    const { invoke, rows, opened } = await deployed(`by-${what.replace(' ', '-')}`);
    expect(await invoke(event)).toMatchObject({ outcome: 'drained', records: 3 });
    expect(rows).toHaveLength(3);
    expect(opened).toEqual([0]);
  });

  it('writes nothing where nothing is new', async () => {
    const { invoke, wakes } = await deployed('nothing', {}, upstreamOf({ a: [] }));
    const before = await table.query('connector#nothing');
    expect(await invoke(objectEvent)).toEqual(expect.objectContaining({ outcome: 'idle' }));
    expect(await table.query('connector#nothing')).toEqual(before);
    expect(await wakes(0)).toBe(false);
  });

  it('wakes its other tasks by their WAKE rows', async () => {
    const { invoke, wakes, opened } = await deployed('three', { tasks: 3 });
    await invoke(objectEvent);
    expect([await wakes(0), await wakes(1), await wakes(2)]).toEqual([false, true, true]);
    expect(opened).toEqual([0]);
  });

  it.each([
    ['objects', objectEvent, true],
    ['a schedule, which comes again', { connector: 'held-0', task: 0, reason: 'schedule' }, false],
  ])('leaves word where its task is running already: %s', async (_, event, left) => {
    const name = left ? 'held-1' : 'held-0';
    const { invoke, wakes } = await deployed(name);
    const nowMs = Date.now();
    await acquireLease(table, { connector: name, task: 0, owner: 'other', expiresAtMs: nowMs + 60_000, nowMs });
    expect(await invoke(event)).toMatchObject({ outcome: 'busy' });
    expect(await wakes(0)).toBe(left);
  });

  it('wakes nobody of a connector that is paused', async () => {
    const { invoke, wakes, rows } = await deployed('paused', { tasks: 2 });
    await changeTarget(table, functions, 'paused', 'pause');
    expect(await invoke(messageEvent)).toEqual({ outcome: 'idle' });
    expect(await wakes(1)).toBe(false);
    expect(rows).toEqual([]);
  });

  it('is not woken by the test of S3', async () => {
    const { invoke, opened } = await deployed('tested');
    const test = { Service: 'Amazon S3', Event: 's3:TestEvent', Time: '2026-11-21T00:00:00Z', Bucket: 'b' };
    expect(await invoke(test)).toEqual({ outcome: 'idle' });
    expect(opened).toEqual([]);
  });
});

describe('a trigger that comes after its connector was removed', () => {
  it.each([
    ['a schedule', { connector: 'removed', task: 0, reason: 'schedule' }],
    ['an object', objectEvent],
  ])('does nothing: %s', async (_, event) => {
    const { invoke, opened } = await deployed('removed');
    await removeConnector(table, functions, 'removed');
    expect(await invoke(event)).toEqual({ outcome: 'idle' });
    expect(opened).toEqual([]);
    await expect(invoke({ connector: 'removed', lifecycle: 'check' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('a run', () => {
  it('ends before its function is killed, however much is left, and wakes itself', async () => {
    const endless = upstreamOf({ a: numbered(3) });
    const { invoke, rows, wakes } = await deployed('endless', {}, endless);
    const grow = setInterval(() => endless.get('a')!.push(...numbered(100)), 5);
    const startMs = Date.now();
    expect(await invoke({ connector: 'endless', task: 0, reason: 'manual' }, 1_500)).toMatchObject({ outcome: 'more' });
    clearInterval(grow);
    expect(Date.now() - startMs).toBeLessThan(1_500);
    expect(rows.length).toBeGreaterThan(0);
    expect(await wakes(0)).toBe(true);
  });
});

describe('a continuous connector', () => {
  it('polls until its time is over, and leaves nothing behind', async () => {
    const upstream = upstreamOf({ a: numbered(1) });
    const { invoke, rows, wakes } = await deployed('continuous', { continuous: true }, upstream);
    const timer = setTimeout(() => upstream.get('a')!.push({ key: 'late', n: 1 }), 100);
    // Half of so short a time is for working.
    const startMs = Date.now();
    expect(await invoke({ connector: 'continuous', task: 0, reason: 'schedule' }, 1_500)).toMatchObject({
      outcome: 'drained',
      records: 2,
    });
    clearTimeout(timer);
    expect(Date.now() - startMs).toBeGreaterThanOrEqual(700);
    expect(rows.at(-1)).toEqual({ key: 'late', n: 1 });
    expect(await wakes(0)).toBe(true);
  });

  it('ends when it has caught up where everything is to be drained', async () => {
    vi.stubEnv('SLUICE_DRAIN', '1');
    const { invoke, wakes } = await deployed('drained', { continuous: true });
    const event = { connector: 'drained', task: 0, reason: 'manual' };
    expect(await invoke(event)).toMatchObject({ outcome: 'drained', records: 3 });
    expect(await invoke(event)).toMatchObject({ outcome: 'idle' });
    expect(await wakes(0)).toBe(false);
  });
});

describe('a function that is asked for its lag', () => {
  const asked = async (name: string, lag?: End<SourceTask<unknown>>['lag']) => {
    await applyConnector(table, functions, specOf({ name, kind: 'direct', trigger: 'manual', tasks: 2 }));
    const { sink } = appendingDestination();
    const handler = taskHandler({
      source: {
        open: async () => askedSource(upstreamOf({ a: numbered(3) }), 'rows') as SourceTask<unknown>,
        ...(lag && { lag }),
      },
      sink: { open: async () => sink() },
    });
    const context = { awsRequestId: 'r', getRemainingTimeInMillis: () => 60_000 };
    const invoke = (event: object) => handler(event as Parameters<typeof handler>[0], context);
    const measured = async () => (await readState(table, name, Date.now()))?.progress.lag;
    return { invoke, measured, ask: () => invoke({ connector: name, lifecycle: 'lag' }) };
  };

  it('tells the source its offsets, keeps the answer with the connector, and logs it for metrics', async () => {
    const seen: unknown[] = [];
    const { invoke, ask, measured } = await asked('lagging', async (_, { taskId }, offsets) => {
      seen.push([taskId, [...offsets.all()].length]);
      return { bytes: 5, behindMs: 6, retained: { bytes: 7, share: 0.25, text: 'kept' } };
    });
    const written = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    try {
      await ask();
      await invoke({ connector: 'lagging', task: 0, reason: 'manual' });
      await ask();
      const lines = written.mock.calls
        .map(([line]) => JSON.parse(String(line)))
        .filter(({ message }) => message === 'lag');
      const figures = { bytes: 5, behindMs: 6, retainedBytes: 7, retainedShare: 0.25 };
      expect(lines).toEqual([1, 2].map(() => ({ level: 'info', message: 'lag', connector: 'lagging', ...figures })));
    } finally {
      written.mockRestore();
    }
    expect(seen).toEqual([
      [0, 0],
      [0, 1],
    ]);
    expect(await measured()).toMatchObject({ atMs: expect.any(Number), lag: { bytes: 5, retained: { share: 0.25 } } });
  });

  it('costs what the estimate says: two reads and a write', async () => {
    const { ask } = await asked('lag-costs', async () => ({ bytes: 1 }));
    takeUsed();
    const units: unknown[] = [];
    vi.stubEnv('SLUICE_LOG_LEVEL', 'debug');
    const written = vi.spyOn(process.stdout, 'write').mockImplementation((line) => {
      const { message, read, write } = JSON.parse(String(line));
      if (message === 'units') units.push({ read, write });
      return true;
    });
    await ask().finally(() => written.mockRestore());
    vi.stubEnv('SLUICE_LOG_LEVEL', undefined);
    expect(units).toEqual([{ read: 2, write: 1 }]);
  });

  it('keeps why it has none, writes nothing where its source can not tell, and nothing of a connector that is gone', async () => {
    const failing = await asked('lag-fails', async () => {
      throw new Error('nobody answers');
    });
    await failing.ask();
    expect(await failing.measured()).toEqual({ atMs: expect.any(Number), error: 'nobody answers' });
    const silent = await asked('lag-untold');
    await silent.ask();
    expect(await silent.measured()).toBeUndefined();
    await removeConnector(table, functions, 'lag-fails');
    expect(await failing.ask()).toEqual({ outcome: 'idle' });
    expect(await table.query('connector#lag-fails')).toEqual([]);
  });
});

describe('a check', () => {
  const checked = (found: { problems: string[]; warnings: string[] }) => {
    const lifecycle = { check: async () => found.problems, warnings: async () => found.warnings };
    const open = async () => expect.fail('a check runs no task');
    const handler = taskHandler({ source: { open, lifecycle }, sink: { open } });
    const spec = specOf({ name: 'checked', kind: 'direct', trigger: 'manual' });
    const context = { awsRequestId: 'r', getRemainingTimeInMillis: () => 60_000 };
    const request = () => handler({ connector: 'checked', lifecycle: 'check', spec }, context);
    return { request, spec, functions: { ...functions, request } };
  };

  it('tells warnings where there is no problem, and they fail no deploy', async () => {
    const { request, spec, functions: own } = checked({ problems: [], warnings: ['mind the disk'] });
    expect(await request()).toEqual({ problems: [], warnings: ['mind the disk'] });
    expect((await applyConnector(table, own, spec, { check: 'required' })).problems).toContain('mind the disk');
  });

  it('tells problems first, which do', async () => {
    const { request, spec, functions: own } = checked({ problems: ['no login'], warnings: ['mind the disk'] });
    expect(await request()).toEqual({ problems: ['no login'], warnings: [] });
    const refused = applyConnector(table, own, { ...spec, name: 'refused' }, { check: 'required' });
    await expect(refused).rejects.toMatchObject({ code: 'CHECK_FAILED', message: 'connector refused: no login' });
  });
});

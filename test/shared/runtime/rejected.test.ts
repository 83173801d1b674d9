import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RecordBatch } from '../../../shared/connect/batch.ts';
import { pollOf, type SinkTask, type SourceTask } from '../../../shared/connect/connector.ts';
import { ConnectError, rowError } from '../../../shared/connect/errors.ts';
import type { Value } from '../../../shared/connect/schema.ts';
import { recordTransform, type Stage, type Transform } from '../../../shared/connect/transform.ts';
import type { RunRequest } from '../../../shared/runtime/run.ts';
import { restartTask } from '../../../shared/state/lease.ts';
import { appendingDestination, askedSource, owningDestination, type Row, rowOf } from '../../kit/memory-connectors.ts';
import { createRunKit, identity, numbered, type RunKit, upstreamOf } from '../../kit/run-kit.ts';

const all = { tolerance: 'all', retryTimeoutMs: 0, retryDelayMaxMs: 1, deadLetterTopic: 'dead' } as const;
const none = { ...all, tolerance: 'none' } as const;
const refusal = (n: number) => rowError(`no ${n} here`);

interface Letter {
  readonly topic: string;
  readonly value: Value;
  readonly [header: `__connect.errors.${string}`]: Value;
}

/** A dead letter topic: what was appended, letter by letter. */
const letterBox = (kit: RunKit) => {
  const letters: Letter[] = [];
  const append = async (batch: RecordBatch): Promise<void> => {
    kit.events.push(`letters ${batch.count}`);
    for (const { topic, value, headers } of batch)
      letters.push({ topic, value, ...Object.fromEntries(headers.map((header) => [header.key, header.value])) });
  };
  return { letters, append };
};

/** Refuses rows: by `context.reject`, or by a row error that names none of them. */
const pickySink = (bad: (row: Row) => boolean, how: 'names them' | 'names none', sink: SinkTask): SinkTask => ({
  ...sink,
  async put(batch, context) {
    const rows = [...batch].map(rowOf);
    const refused = rows.flatMap((row, index) => (bad(row) ? [{ index, error: refusal(row.n) }] : []));
    if (refused.length === 0) return sink.put(batch, context);
    if (how === 'names none') throw refusal(rows[refused[0]!.index]!.n);
    await context.reject(refused);
    const good = rows.filter((row) => !bad(row));
    return sink.put(
      pollOf(
        good.map((row) => recordOf(row, 0)),
        { caughtUp: true },
      ).batch,
      context,
    );
  },
});

const recordOf = ({ key, n }: Row, next: number) => ({
  topic: 'rows',
  key,
  value: { key, n },
  partition: { name: 'a' },
  offset: { next },
});

/** A run over rows 0 … count-1 of partition a. */
const bench = (count = 5) => {
  const kit = createRunKit();
  const box = letterBox(kit);
  const { rows, sink } = appendingDestination();
  const upstream = upstreamOf({ a: numbered(count) });
  const ends = (overrides: Partial<RunRequest> = {}): Partial<RunRequest> => ({
    openSource: async () => askedSource(upstream, 'rows') as SourceTask<unknown>,
    openSink: async () => sink(),
    errors: all,
    appendDeadLetters: box.append,
    ...overrides,
  });
  return { kit, rows, sink, ends, ...box };
};

const failOn = (n: number, stage?: Stage): Transform =>
  recordTransform(
    'refuse',
    (record) => {
      if (rowOf(record).n === n) throw new Error(`no ${n} here`);
      return record;
    },
    stage,
  );

describe('a row error that names no record', () => {
  it('is narrowed down by halves: only the bad record is rejected, the others are committed in order', async () => {
    const { kit, rows, sink, letters, ends } = bench();
    const openSink = async () => pickySink(({ n }) => n === 2, 'names none', sink());
    expect(await kit.run(ends({ openSink }))).toMatchObject({ outcome: 'drained', records: 5, rejected: 1 });
    expect(rows.map(({ n }) => n)).toEqual([0, 1, 3, 4]);
    expect(letters.map(({ value }) => value)).toEqual([expect.objectContaining({ n: 2 })]);
    // Prefixes: an offset is committed only after everything before it.
    const commits = kit.events
      .filter((event) => event.startsWith('commit'))
      .map((event) => Number(event.split(' ')[2]));
    expect(commits).toEqual([...commits].sort((a, b) => a - b));
    expect(await kit.committed()).toEqual({ a: [{ next: 5 }, commits.length] });
  });

  it('with errors.tolerance none stops at the bad record: those before it are committed, nothing after it is written', async () => {
    const { kit, rows, sink, ends } = bench();
    const openSink = async () => pickySink(({ n }) => n === 2, 'names none', sink());
    const { outcome, error } = await kit.run(ends({ openSink, errors: none }));
    expect(outcome).toBe('failed');
    expect(error?.message).toContain('partition {"name":"a"}, offset {"next":3}, stage TASK_PUT');
    expect(rows.map(({ n }) => n)).toEqual([0, 1]);
    expect(await kit.committed()).toMatchObject({ a: [{ next: 2 }, expect.anything()] });
  });

  it('finds whatever is bad, wherever it is, and loses nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.boolean(), { maxLength: 24 }),
        fc.constantFrom('names them', 'names none'),
        async (bad, how) => {
          const { kit, rows, sink, letters, ends } = bench(bad.length);
          const openSink = async () => pickySink(({ n }) => bad[n]!, how, sink());
          await kit.run(ends({ openSink }));
          const ns = bad.map((_, n) => n);
          expect(rows.map(({ n }) => n)).toEqual(ns.filter((n) => !bad[n]));
          expect(letters.map(({ value }) => (value as unknown as Row).n)).toEqual(ns.filter((n) => bad[n]));
          if (bad.length > 0) expect((await kit.committed()).a?.[0]).toEqual({ next: bad.length });
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('errors.tolerance none', () => {
  it.each([
    ['a sink', 'TASK_PUT'],
    ['a transform', 'TRANSFORMATION'],
    ['a converter', 'VALUE_CONVERTER'],
    ['a source', 'TASK_POLL'],
  ] as const)('fails the task at a record that %s refuses, and commits nothing of the batch', async (who, stage) => {
    const { kit, rows, sink, letters, ends } = bench();
    const overrides: Partial<RunRequest> = {
      ...(who === 'a sink' ? { openSink: async () => pickySink(({ n }) => n === 2, 'names them', sink()) } : {}),
      ...(who === 'a transform' || who === 'a converter' ? { transforms: [failOn(2, stage)] } : {}),
      ...(who === 'a source' ? { openSource: async () => rejectingSource(2) } : {}),
    };
    const { outcome, error } = await kit.run(ends({ ...overrides, errors: none }));
    expect(outcome).toBe('failed');
    expect(error?.code).toBe('RECORD_REJECTED');
    for (const part of ['no 2 here', 'topic rows', 'partition {"name":"a"}', 'offset {"next":3}', `stage ${stage}`])
      expect(error?.message).toContain(part);
    expect(rows).toEqual([]);
    expect(letters).toEqual([]);
    expect(await kit.committed()).toEqual({});
    // It would be the same again: no restart without an operator.
    expect(await kit.task()).toMatchObject({ state: 'FAILED', retriable: false });
  });
});

/** A source of five rows that itself rejects one: a line that does not parse. */
const rejectingSource = (bad: number): SourceTask<unknown> => ({
  poll: async (offsets) => {
    const from = (offsets.get({ name: 'a' }) as { next: number } | undefined)?.next ?? 0;
    const good = numbered(5).filter(({ n }) => n !== bad && n >= from);
    const rejected = [
      {
        index: bad,
        error: refusal(bad),
        raw: Buffer.from('{"n":'),
        topic: 'rows',
        partition: { name: 'a' },
        offset: { next: bad + 1 },
      },
    ].filter(({ offset }) => offset.next > from);
    return {
      ...pollOf(
        good.map((row) => recordOf(row, row.n + 1)),
        { caughtUp: true },
      ),
      rejected,
    };
  },
  close: async () => {},
});

describe('errors.tolerance all', () => {
  it('makes the letters durable before the offsets are committed', async () => {
    const { kit, sink, ends } = bench();
    const openSink = async () => pickySink(({ n }) => n === 2, 'names them', sink());
    await kit.run(ends({ openSink, transforms: [failOn(0)] }));
    expect(kit.writes()).toEqual(['lease', 'letters 1', 'letters 1', 'commit a 5', 'release RUNNING']);
  });

  it("names each stage, in Kafka Connect's headers, with the record as it was before any transform", async () => {
    const { kit, rows, sink, letters, ends } = bench();
    const shout = recordTransform('shout', (record) => ({ ...record, value: { ...rowOf(record), key: 'LOUD' } }));
    const result = await kit.run(
      ends({
        openSource: async () => rejectingSource(2),
        transforms: [failOn(0, 'KEY_CONVERTER'), failOn(1, 'VALUE_CONVERTER'), shout, failOn(3)],
        openSink: async () => pickySink(({ n }) => n === 4, 'names them', sink()),
      }),
    );
    expect(result).toMatchObject({ outcome: 'drained', rejected: 5, records: 4 });
    expect(rows).toEqual([]);
    const told = letters.map((letter) => [letter['__connect.errors.stage'], letter['__connect.errors.offset']]);
    expect(told.sort()).toEqual([
      ['KEY_CONVERTER', '{"next":1}'],
      ['TASK_POLL', '{"next":3}'],
      ['TASK_PUT', '{"next":5}'],
      ['TRANSFORMATION', '{"next":4}'],
      ['VALUE_CONVERTER', '{"next":2}'],
    ]);
    const put = letters.find((letter) => letter['__connect.errors.stage'] === 'TASK_PUT')!;
    expect(put).toMatchObject({
      topic: 'dead',
      value: { key: 'k4', n: 4 },
      '__connect.errors.topic': 'rows',
      '__connect.errors.partition': '{"name":"a"}',
      '__connect.errors.connector.name': identity.connector,
      '__connect.errors.task.id': '0',
      '__connect.errors.exception.message': 'no 4 here',
    });
    const poll = letters.find((letter) => letter['__connect.errors.stage'] === 'TASK_POLL')!;
    expect(Buffer.from(poll.value as Uint8Array).toString()).toBe('{"n":');
  });

  it('counts and logs them where there is no dead letter topic', async () => {
    const { kit, rows, letters, ends } = bench();
    const { deadLetterTopic, ...errors } = all;
    expect(await kit.run(ends({ errors, transforms: [failOn(1)] }))).toMatchObject({ outcome: 'drained', rejected: 1 });
    expect(rows).toHaveLength(4);
    expect(letters).toEqual([]);
    expect(kit.warnings).toEqual([expect.stringContaining('no 1 here')]);
  });

  it('commits the offset of a batch of which everything was rejected or filtered out', async () => {
    const { kit, rows, ends } = bench();
    const drop = recordTransform('drop', () => null);
    expect(await kit.run(ends({ transforms: [failOn(0), drop] }))).toMatchObject({ outcome: 'drained', records: 5 });
    expect(rows).toEqual([]);
    expect(await kit.committed()).toEqual({ a: [{ next: 5 }, 1] });
    expect(await kit.run(ends())).toMatchObject({ outcome: 'idle' });
  });
});

describe('a crash between the letters and the commit (hazards E2, H12)', () => {
  it('loses no letter, even where the second run rejects another record, and each shows once by its id', async () => {
    const { kit, letters, ends } = bench();
    const { rows, sink } = owningDestination();
    const dying = (): SinkTask => ({
      ...pickySink(({ n }) => n === 1, 'names them', sink()),
      async put(_batch, { reject }) {
        await reject([{ index: 1, error: refusal(1) }]);
        throw new Error('killed');
      },
    });
    const die = () => kit.run(ends({ openSink: async () => dying() }));
    expect(await die()).toMatchObject({ outcome: 'failed' });
    expect(rows).toEqual([]);
    await restartTask(kit.base, 'c', 0, true);
    await die();
    await restartTask(kit.base, 'c', 0, true);
    const openSink = async () => pickySink(({ n }) => n === 3, 'names them', sink());
    expect(await kit.run(ends({ openSink }))).toMatchObject({ outcome: 'drained' });
    const byId = new Map(letters.map((letter) => [letter['__connect.errors.id'], letter.value]));
    expect(letters).toHaveLength(3);
    expect([...byId.values()].map((value) => (value as unknown as Row).n)).toEqual([1, 3]);
  });

  it('gives a letter the same id however the batches are cut (invariant 3)', async () => {
    const idsWith = async (maxRecords: number) => {
      const { kit, letters, ends } = bench();
      await kit.run(ends({ transforms: [failOn(2)], budget: { maxRecords, maxBytes: 1 << 20 } }));
      return letters.map((letter) => letter['__connect.errors.id']);
    };
    const [one] = await idsWith(5);
    expect(one).toMatch(/^[0-9a-f]{32}$/);
    for (const maxRecords of [1, 2, 3]) expect(await idsWith(maxRecords)).toEqual([one]);
  });

  it('is told apart from another record of the same offset', async () => {
    const { kit, letters, ends } = bench();
    const shared = {
      poll: async () =>
        pollOf(
          numbered(2).map((row) => recordOf(row, 1)),
          { caughtUp: true },
        ),
      close: async () => {},
    };
    await kit.run(ends({ openSource: async () => shared, transforms: [failOn(0), failOn(1)] }));
    expect(new Set(letters.map((letter) => letter['__connect.errors.id'])).size).toBe(2);
  });
});

describe('a put that is retried', () => {
  it('sends the letters of a batch once', async () => {
    const { kit, letters, sink, ends } = bench();
    let tries = 0;
    const openSink = async (): Promise<SinkTask> => ({
      ...sink(),
      async put(batch, context) {
        await context.reject([{ index: 0, error: refusal(0) }]);
        if (tries++ === 0) throw new ConnectError('UNAVAILABLE', 'down', { retriable: true });
        return sink().put(batch, context);
      },
    });
    expect(await kit.run(ends({ openSink, errors: { ...all, retryTimeoutMs: 10_000 } }))).toMatchObject({
      rejected: 1,
    });
    expect(letters).toHaveLength(1);
  });
});

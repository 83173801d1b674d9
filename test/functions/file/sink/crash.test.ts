import { rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createFileSink, fileSink } from '../../../../functions/file/file-sink.ts';
import { directoryStore, type FileStore } from '../../../../functions/file/store.ts';
import { batchOf, type RecordInput } from '../../../../shared/connect/build.ts';
import type { Prepared, PutContext, SinkTask } from '../../../../shared/connect/connector.ts';
import { ConnectError } from '../../../../shared/connect/errors.ts';
import { until } from '../../../kit/until.ts';
import { type ConfigInput, openSink } from './put.ts';
import { readRows, stagedFiles, temporaryDirectory, visibleFiles } from './read-files.ts';

type Directory = Awaited<ReturnType<typeof temporaryDirectory>>;
let directory: Directory;
beforeEach(async () => {
  directory = await temporaryDirectory();
});
afterEach(() => directory.remove());

/** Where a run of the store's operations ends, and how much of that one was done. */
type Crash = { readonly at: number; readonly how: 'before' | 'half' | 'after' };

/** A store whose process dies at one of its operations: nothing it is asked for later happens either. */
const dyingStore = (real: FileStore, crash: Crash) => {
  let count = 0;
  const dead = () => new ConnectError('UNEXPECTED', 'the process is dead');
  const step = async <T>(work: () => Promise<T>, half?: () => Promise<unknown>): Promise<T> => {
    const now = count++;
    if (now > crash.at) throw dead();
    if (now < crash.at) return work();
    if (crash.how === 'half') await half?.();
    if (crash.how === 'after') await work();
    throw dead();
  };
  const store: FileStore = {
    write: (path, bytes) =>
      step(
        () => real.write(path, bytes),
        () => real.write(path, bytes.subarray(0, bytes.length >> 1)),
      ),
    move: (from, to) => step(() => real.move(from, to)),
    inspect: (path) => step(() => real.inspect(path)),
    list: (path) => step(() => real.list(path)),
    remove: (path) => step(() => real.remove(path)),
  };
  return { store, died: () => count > crash.at, step };
};

/** The state table of one connector. */
const createState = () => {
  let seq = 0;
  const prepared: Prepared[] = [];
  return {
    seq: () => seq,
    prepared,
    context(overrides: Partial<PutContext> = {}): PutContext {
      const read = seq;
      return {
        offsets: [{ key: '{"p":0}', partition: { p: 0 }, offset: read, seq: read, writeId: `w-${read}` }],
        epoch: 1,
        signal: new AbortController().signal,
        reject: async () => {},
        commit: async (row) => {
          if (seq !== read) throw new ConnectError('FENCED', 'the offset moved');
          seq++;
          prepared.push(JSON.parse(JSON.stringify(row)));
        },
        ...overrides,
      };
    },
  };
};

const rows = (from: number, to: number): RecordInput[] =>
  Array.from({ length: to - from }, (_, i) => ({
    topic: i % 2 === 0 ? 'orders' : 'customers',
    value: { id: from + i, part: i % 4 < 2 ? 'x' : 'y' },
  }));

const seenIds = async () =>
  (await readRows(directory.path))
    .map(({ value }) => Number((value as { id: number | string }).id))
    .sort((a, b) => a - b);
const ids = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

const reopen = async (config: ConfigInput, state: ReturnType<typeof createState>): Promise<SinkTask> => {
  const task = await openSink(config);
  for (const row of state.prepared) await task.promote!(row);
  return task;
};

describe.each(['jsonl', 'parquet'] as const)('%s: a process that dies', (format) => {
  test.each(['before', 'half', 'after'] as const)(
    '%s any store operation loses nothing and doubles nothing',
    async (how) => {
      const seen = new Set<string>();
      for (let at = 0; ; at++) {
        const config = { path: directory.path, format, partitionBy: ['part'] };
        const state = createState();
        const first = await openSink(config);
        await first.put(batchOf(rows(0, 8)), state.context());

        const dying = dyingStore(directoryStore(directory.path), { at, how });
        const task = await openSink(
          config,
          createFileSink(() => dying.store),
        );
        const context = state.context();
        // The commit is a step like the others: it may be done and its answer lost.
        const commit = (row: Prepared) => dying.step(() => context.commit(row));
        const result = await task.put(batchOf(rows(8, 20)), { ...context, commit }).catch((error: Error) => error);
        if (!dying.died()) {
          expect(result).toEqual({ committed: true });
          break;
        }

        // A reader sees whole files of committed batches only, now and at any time after.
        const between = await seenIds();
        const committed = state.seq() === 2;
        expect(between.slice(0, 8)).toEqual(ids(0, 8));
        if (!committed) expect(between).toEqual(ids(0, 8));
        seen.add(`${committed ? 'committed' : 'lost'}, ${between.length - 8} of 12 visible`);

        const next = await reopen(config, state);
        await reopen(config, state);
        expect(await seenIds()).toEqual(committed ? ids(0, 20) : ids(0, 8));
        if (!committed) await next.put(batchOf(rows(8, 20)), state.context());
        expect(await seenIds()).toEqual(ids(0, 20));
        await directory.remove();
        directory = await temporaryDirectory();
      }
      expect([...seen]).toEqual(
        expect.arrayContaining(['lost, 0 of 12 visible', 'committed, 0 of 12 visible', 'committed, 3 of 12 visible']),
      );
    },
  );
});

describe('a put', () => {
  const config = () => ({ path: directory.path });

  test('that is fenced removes its own staged files and nobody else’s', async () => {
    const state = createState();
    const zombie = await openSink(config());
    const stale = state.context();
    // The live run has staged and committed, and not promoted yet, when the zombie learns that it is one.
    const live = await openSink(
      config(),
      createFileSink(() => ({ ...directoryStore(directory.path), move: () => new Promise(() => {}) })),
    );
    void live.put(batchOf(rows(0, 4)), state.context());
    await until(() => state.seq() > 0);
    const staged = await stagedFiles(directory.path);
    await expect(zombie.put(batchOf(rows(0, 4)), stale)).rejects.toMatchObject({ code: 'FENCED' });
    expect(await stagedFiles(directory.path)).toEqual(staged);
    expect(staged).toHaveLength(2);
    expect(await seenIds()).toEqual([]);
    await reopen(config(), state);
    expect(await seenIds()).toEqual(ids(0, 4));
    expect(await stagedFiles(directory.path)).toEqual([]);
  });

  test('whose commit has no answer keeps its staged files: they may be committed', async () => {
    const state = createState();
    const task = await openSink(config());
    const commit = async () => {
      throw new ConnectError('UNAVAILABLE', 'no answer');
    };
    await expect(task.put(batchOf(rows(0, 4)), state.context({ commit }))).rejects.toThrow('no answer');
    expect(await stagedFiles(directory.path)).toHaveLength(2);
    expect(await visibleFiles(directory.path)).toEqual([]);
  });

  test('that is aborted while staging leaves nothing', async () => {
    const state = createState();
    const abort = new AbortController();
    const real = directoryStore(directory.path);
    const store: FileStore = { ...real, write: (path, bytes) => real.write(path, bytes).then(() => abort.abort()) };
    const task = await openSink(
      config(),
      createFileSink(() => store),
    );
    await expect(task.put(batchOf(rows(0, 4)), state.context({ signal: abort.signal }))).rejects.toThrow('aborted');
    expect(await stagedFiles(directory.path)).toEqual([]);
    expect(state.seq()).toBe(0);
  });
});

describe('promote', () => {
  const config = () => ({ path: directory.path });

  /** One batch that is committed and not promoted. */
  const prepare = async (path = directory.path) => {
    const state = createState();
    const stuck = createFileSink(() => ({
      ...directoryStore(path),
      move: async () => {
        throw new ConnectError('UNAVAILABLE', 'not now', { retriable: true });
      },
    }));
    const task = await openSink({ path }, stuck);
    await expect(task.put(batchOf(rows(0, 6)), state.context())).rejects.toThrow('not now');
    return state;
  };

  test('by two runs at a time shows a batch once', async () => {
    const state = await prepare();
    const tasks = await Promise.all([openSink(config()), openSink(config()), openSink(config())]);
    await Promise.all(tasks.map((task) => task.promote!(state.prepared[0]!)));
    expect(await seenIds()).toEqual(ids(0, 6));
  });

  test('after a consumer took the files brings nothing back', async () => {
    const state = await prepare();
    const task = await reopen(config(), state);
    for (const file of await visibleFiles(directory.path)) await rm(join(directory.path, file));
    await task.promote!(state.prepared[0]!);
    expect(await visibleFiles(directory.path)).toEqual([]);
  });

  test('of a batch so old that its staged files may have been swept says so', async () => {
    const state = await prepare();
    for (const file of await stagedFiles(directory.path)) await rm(file);
    const [row] = state.prepared;
    const task = await openSink(config());
    await task.promote!(row!);
    const old = { ...(row!.data as object), stagedAtMs: Date.now() - 6.1 * 86_400_000 };
    await expect(task.promote!({ id: 'old', data: old })).rejects.toMatchObject({
      code: 'CORRUPT',
      message: expect.stringMatching(/orders\/orders-\d{13}-[0-9a-f]{8}\.jsonl, customers\/.*rewind/),
    });
  });

  test('of an old batch that another run promotes in the same moment is no alarm', async () => {
    const state = await prepare();
    const real = directoryStore(directory.path);
    const outrun: FileStore = { ...real, move: (from, to) => real.move(from, to).then(() => real.move(from, to)) };
    const task = await openSink(
      config(),
      createFileSink(() => outrun),
    );
    await task.promote!({ id: 'old', data: { ...(state.prepared[0]!.data as object), stagedAtMs: 0 } });
    expect(await seenIds()).toEqual(ids(0, 6));
  });

  test('does not take another file at a final name for its own', async () => {
    const state = await prepare();
    const task = await reopen(config(), state);
    const [file] = await visibleFiles(directory.path);
    await writeFile(join(directory.path, file!), '{"id":0}\n');
    await expect(task.promote!(state.prepared[0]!)).rejects.toMatchObject({
      code: 'CORRUPT',
      message: expect.stringContaining(file!),
    });
  });

  test('does not take a volume that is not mounted for a promoted batch', async () => {
    const state = await prepare();
    const task = await openSink(config());
    await rename(directory.path, `${directory.path}-elsewhere`);
    await expect(task.promote!(state.prepared[0]!)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('mounted'),
    });
    await rename(`${directory.path}-elsewhere`, directory.path);
    await task.promote!(state.prepared[0]!);
    expect(await seenIds()).toEqual(ids(0, 6));
  });

  test('finishes where the batch was staged, though `path` has changed since', async () => {
    const state = await prepare();
    const other = await temporaryDirectory();
    try {
      await reopen({ path: other.path }, state);
      expect(await seenIds()).toEqual(ids(0, 6));
    } finally {
      await other.remove();
    }
  });

  test('reads the rows of older releases: the stored shape is pinned', async () => {
    const { data } = (await prepare()).prepared[0]!;
    const shape = JSON.stringify(data)
      .replaceAll(directory.path, '/root')
      .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '<id>')
      .replaceAll(/-[0-9a-f]{8}(?=[.-])/g, '-<id8>')
      .replaceAll(/-\d{13}-/g, '-<ms>-')
      .replace(/"stagedAtMs":\d+/, '"stagedAtMs":0');
    // Rows of this shape are in state tables. Change it only with a new version, and keep reading this one.
    expect(JSON.parse(shape)).toEqual({
      version: 1,
      root: '/root',
      stagedAtMs: 0,
      files: [
        {
          stage: '.staging/test/orders/i-1/0/<id>-0',
          final: 'orders/orders-<ms>-<id8>.jsonl',
          bytes: 60,
          crc32: expect.any(Number),
        },
        {
          stage: '.staging/test/orders/i-1/0/<id>-1',
          final: 'customers/customers-<ms>-<id8>-1.jsonl',
          bytes: 60,
          crc32: expect.any(Number),
        },
      ],
    });
  });

  test('stops at a shape that is too new, and at a damaged one', async () => {
    const { data } = (await prepare()).prepared[0]!;
    const task = await openSink(config());
    const promote = (change: object) => task.promote!({ id: 'x', data: { ...(data as object), ...change } });
    await expect(promote({ version: 2, extra: 1 })).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
    await expect(promote({ files: [{}] })).rejects.toMatchObject({ code: 'CORRUPT' });
    expect(await visibleFiles(directory.path)).toEqual([]);
  });
});

test('what a crash left is swept after a week, but never what another connector has staged', async () => {
  const lose = async (connector: string, ageDays: number) => {
    const before = await stagedFiles(directory.path);
    const task = await openSink({ path: directory.path }, fileSink, connector);
    const commit = async () => {
      throw new Error('died');
    };
    await expect(task.put(batchOf(rows(0, 1)), createState().context({ commit }))).rejects.toThrow('died');
    const [left] = (await stagedFiles(directory.path)).filter((file) => !before.includes(file));
    const modified = new Date(Date.now() - ageDays * 86_400_000);
    await utimes(left!, modified, modified);
    return left!;
  };
  const young = await lose('orders', 6.9);
  const other = await lose('orders-2', 30);
  const old = await lose('orders', 7.1);
  const task = await openSink({ path: directory.path });
  expect(await stagedFiles(directory.path)).toContain(old);
  await task.put(batchOf(rows(0, 4)), createState().context());
  expect((await stagedFiles(directory.path)).sort()).toEqual([young, other].sort());
});

test('check finds a path that cannot be written to', async () => {
  const context = (path: string) => ({
    config: fileSink.config.parse({ path }),
    deployment: 'test',
    connector: 'orders',
    incarnation: 'i-1',
    taskId: 0,
    signal: new AbortController().signal,
  });
  expect(await fileSink.check!(context(join(directory.path, 'made', 'new')))).toEqual([]);
  await writeFile(join(directory.path, 'file'), '');
  expect(await fileSink.check!(context(join(directory.path, 'file')))).toEqual([
    expect.stringMatching(/cannot write .*: a part of the path is a file/),
  ]);
  expect(await stagedFiles(directory.path)).toEqual([]);
});

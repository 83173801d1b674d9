import { randomBytes } from 'node:crypto';
import { rename, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createFileSink } from '../../../../functions/file/file-sink.ts';
import { s3Store } from '../../../../functions/file/open-store.ts';
import type { FileWriter } from '../../../../functions/file/store.ts';
import { batchOf, type RecordInput } from '../../../../shared/connect/build.ts';
import type { Prepared, PutContext, SinkTask } from '../../../../shared/connect/connector.ts';
import { ConnectError } from '../../../../shared/connect/errors.ts';
import type { S3 } from '../../../../shared/s3/client.ts';
import { until } from '../../../kit/until.ts';
import { type Bucket, useLocalS3, useMinistackS3 } from '../s3-bucket.ts';
import { directoryPlace, dyingProcess, type Place, s3Place, withWriter } from './places.ts';
import { type ConfigInput, openSink } from './put.ts';

const localS3 = useLocalS3();
const ministackS3 = useMinistackS3();
const makePlace = {
  'a directory': directoryPlace,
  S3: async () => s3Place(await localS3.makeBucket()),
  'the S3 of ministack': async () => s3Place(await ministackS3.makeBucket()),
};
const kinds = Object.keys(makePlace) as (keyof typeof makePlace)[];

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

const ids = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

const seenIds = async (place: Place) =>
  (await place.rows()).map(({ value }) => Number((value as { id: number | string }).id)).sort((a, b) => a - b);

/** A task of the place, or of one whose writer is changed. */
const openAt = (place: Place, config: Partial<ConfigInput> = {}, store = place.store, connector = 'orders') =>
  openSink(
    { path: place.path, ...config },
    createFileSink(() => store),
    connector,
  );

const openWith = (place: Place, change: (real: FileWriter) => Partial<FileWriter>) =>
  openAt(place, {}, withWriter(place.store, change));

const reopen = async (
  place: Place,
  state: ReturnType<typeof createState>,
  config: Partial<ConfigInput> = {},
): Promise<SinkTask> => {
  const task = await openAt(place, config);
  for (const row of state.prepared) await task.promote!(row);
  return task;
};

describe.each(kinds)('on %s, a process that dies', (kind) => {
  test.each(['jsonl', 'parquet'] as const)('at any operation loses nothing and doubles nothing: %s', async (format) => {
    const config = { format, partitionBy: ['part'] };
    const seen = new Set<string>();
    const { hows } = await makePlace[kind]();
    for (const how of hows)
      for (let at = 0; ; at++) {
        const place = await makePlace[kind]();
        const state = createState();
        const first = await openAt(place, config);
        await first.put(batchOf(rows(0, 8)), state.context());

        const process = dyingProcess({ at, how });
        const task = await openAt(place, config, place.dying(process));
        const context = state.context();
        // The commit is a step like the others: it may be done and its answer lost.
        const commit = (row: Prepared) => process.step(() => context.commit(row));
        const result = await task.put(batchOf(rows(8, 20)), { ...context, commit }).catch((error: Error) => error);
        if (!process.died()) {
          expect(result).toEqual({ committed: true });
          await place.remove();
          break;
        }

        // A reader sees whole files of committed batches only, now and at any time after.
        const between = await seenIds(place);
        const committed = state.seq() === 2;
        expect(between.slice(0, 8)).toEqual(ids(0, 8));
        if (!committed) expect(between).toEqual(ids(0, 8));
        seen.add(`${committed ? 'committed' : 'lost'}, ${between.length - 8} of 12 visible`);

        const next = await reopen(place, state, config);
        await reopen(place, state, config);
        expect(await seenIds(place)).toEqual(committed ? ids(0, 20) : ids(0, 8));
        if (!committed) await next.put(batchOf(rows(8, 20)), state.context());
        expect(await seenIds(place)).toEqual(ids(0, 20));
        await place.remove();
      }
    expect([...seen]).toEqual(
      expect.arrayContaining(['lost, 0 of 12 visible', 'committed, 0 of 12 visible', 'committed, 3 of 12 visible']),
    );
  });
});

describe.each(kinds)('on %s', (kind) => {
  let place: Place;
  beforeEach(async () => {
    place = await makePlace[kind]();
  });
  afterEach(() => place.remove());

  /** One batch that is committed and not promoted. */
  const prepare = async () => {
    const state = createState();
    const task = await openWith(place, () => ({
      promote: async () => {
        throw new ConnectError('UNAVAILABLE', 'not now', { retriable: true });
      },
    }));
    await expect(task.put(batchOf(rows(0, 6)), state.context())).rejects.toThrow('not now');
    return state;
  };

  describe('a put', () => {
    test('that is fenced removes its own staged files and nobody else’s', async () => {
      const state = createState();
      const zombie = await openAt(place);
      const stale = state.context();
      // The live run has staged and committed, and not promoted yet, when the zombie learns that it is one.
      const live = await openWith(place, () => ({ promote: () => new Promise(() => {}) }));
      void live.put(batchOf(rows(0, 4)), state.context());
      await until(() => state.seq() > 0);
      const staged = await place.staged();
      await expect(zombie.put(batchOf(rows(0, 4)), stale)).rejects.toMatchObject({ code: 'FENCED' });
      expect(await place.staged()).toEqual(staged);
      expect(staged).toHaveLength(2);
      expect(await seenIds(place)).toEqual([]);
      await reopen(place, state);
      expect(await seenIds(place)).toEqual(ids(0, 4));
      expect(await place.staged()).toEqual([]);
    });

    test('whose commit has no answer keeps its staged files: they may be committed', async () => {
      const state = createState();
      const task = await openAt(place);
      const commit = async () => {
        throw new ConnectError('UNAVAILABLE', 'no answer');
      };
      await expect(task.put(batchOf(rows(0, 4)), state.context({ commit }))).rejects.toThrow('no answer');
      expect(await place.staged()).toHaveLength(2);
      expect(await place.visible()).toEqual([]);
    });

    test('that is aborted while staging leaves nothing', async () => {
      const state = createState();
      const abort = new AbortController();
      const task = await openWith(place, (real) => ({
        width: 1,
        async stage(...args) {
          const staged = await real.stage(...args);
          abort.abort();
          return staged;
        },
      }));
      await expect(task.put(batchOf(rows(0, 4)), state.context({ signal: abort.signal }))).rejects.toThrow('aborted');
      expect(await place.staged()).toEqual([]);
      expect(state.seq()).toBe(0);
    });
  });

  describe('promote', () => {
    test('by two runs at a time shows a batch once', async () => {
      const state = await prepare();
      const tasks = await Promise.all([openAt(place), openAt(place), openAt(place)]);
      await Promise.all(tasks.map((task) => task.promote!(state.prepared[0]!)));
      expect(await seenIds(place)).toEqual(ids(0, 6));
    });

    test('after a consumer took the files brings nothing back', async () => {
      const state = await prepare();
      const task = await reopen(place, state);
      for (const file of await place.visible()) await place.take(file);
      await task.promote!(state.prepared[0]!);
      expect(await place.visible()).toEqual([]);
    });

    test('of a batch so old that its staged files may have been swept says so', async () => {
      const state = await prepare();
      await place.unstage();
      const [row] = state.prepared;
      const task = await openAt(place);
      await task.promote!(row!);
      const trustedMs = kind === 'a directory' ? 6 * 86_400_000 : 20 * 3_600_000;
      const promote = (ageMs: number) =>
        task.promote!({ id: 'old', data: { ...(row!.data as object), stagedAtMs: Date.now() - ageMs } });
      await promote(trustedMs - 600_000);
      const error: Error = await promote(trustedMs + 600_000).then(
        () => expect.fail('no alarm'),
        (thrown) => thrown,
      );
      expect(error).toMatchObject({ code: 'CORRUPT', message: expect.stringContaining('rewind') });
      for (const topic of ['orders', 'customers'])
        expect(error.message).toMatch(new RegExp(`${topic}/${topic}-\\d{13}-[0-9a-f]+(-1)?\\.jsonl`));
    });

    test('of an old batch that another run promotes in the same moment is no alarm', async () => {
      const state = await prepare();
      const task = await openWith(place, (real) => ({
        promote: (file) => real.promote(file).then(() => real.promote(file)),
      }));
      await task.promote!({ id: 'old', data: { ...(state.prepared[0]!.data as object), stagedAtMs: 0 } });
      expect(await seenIds(place)).toEqual(ids(0, 6));
    });

    test.each(['a shorter one', 'one of the same length'])(
      'does not take another file at a final name for its own: %s',
      async (how) => {
        const state = await prepare();
        const task = await reopen(place, state);
        const [file] = await place.visible();
        const { bytes } = (state.prepared[0]!.data as { files: { final: string; bytes: number }[] }).files.find(
          ({ final }) => final === file,
        )!;
        await place.overwrite(file!, 'x'.repeat(how === 'a shorter one' ? 9 : bytes));
        await expect(task.promote!(state.prepared[0]!)).rejects.toMatchObject({
          code: 'CORRUPT',
          message: expect.stringContaining(file!),
        });
      },
    );

    test('of a batch that was never promoted leaves another file at its final name alone', async () => {
      const state = await prepare();
      const [file] = (state.prepared[0]!.data as { files: { final: string }[] }).files;
      await place.overwrite(file!.final, 'mine');
      const task = await openAt(place);
      await expect(task.promote!(state.prepared[0]!)).rejects.toMatchObject({ code: 'CORRUPT' });
      expect(await place.read(file!.final)).toBe('mine');
      await place.take(file!.final);
      await task.promote!(state.prepared[0]!);
      expect(await seenIds(place)).toEqual(ids(0, 6));
    });

    test('finishes where the batch was staged, though `path` has changed since', async () => {
      const state = await prepare();
      const other = await makePlace[kind]();
      await reopen(place, state, { path: other.path });
      expect(await seenIds(place)).toEqual(ids(0, 6));
      await other.remove();
    });

    test('stops at a shape that is too new, and at a damaged one', async () => {
      const { data } = (await prepare()).prepared[0]!;
      const task = await openAt(place);
      const promote = (change: object) => task.promote!({ id: 'x', data: { ...(data as object), ...change } });
      await expect(promote({ version: 3, extra: 1 })).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
      await expect(promote({ files: [{}] })).rejects.toMatchObject({ code: 'CORRUPT' });
      expect(await place.visible()).toEqual([]);
    });

    test('reads the rows of older releases: the stored shape is pinned', async () => {
      const { data } = (await prepare()).prepared[0]!;
      const shape = JSON.stringify(data)
        .replaceAll(place.path, '/root')
        .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '<id>')
        .replaceAll(/-([0-9a-f]{16}|[0-9a-f]{8})(?=[.-])/g, (_, mark) => `-<mark${mark.length}>`)
        .replaceAll(/-\d{13}-/g, '-<ms>-')
        .replace(/"stagedAtMs":\d+/, '"stagedAtMs":0');
      // Rows of these shapes are in state tables. Change them only with a new version, and keep reading these.
      const inDirectory = {
        version: 1,
        of: (name: string, index: number) => ({
          stage: `.staging/test/orders/i-1/0/<id>-${index}`,
          final: `${name}-<ms>-<mark8>${index === 0 ? '' : '-1'}.jsonl`,
          crc32: expect.any(Number),
        }),
      };
      const onS3 = {
        version: 2,
        of: (name: string, index: number) => ({
          upload: expect.any(String),
          final: `${name}-<ms>-<mark16>${index === 0 ? '' : '-1'}.jsonl`,
          parts: [expect.stringMatching(/^[0-9a-f]{32}$/)],
          md5: expect.stringMatching(/^[0-9a-f]{32}$/),
        }),
      };
      const files = kind === 'a directory' ? inDirectory : onS3;
      const expected = ['orders/orders', 'customers/customers'].map((name, i) => ({ bytes: 60, ...files.of(name, i) }));
      const { files: found, ...row } = JSON.parse(shape);
      expect(row).toEqual({ version: files.version, root: '/root', stagedAtMs: 0 });
      expect(found).toHaveLength(2);
      expect(found).toEqual(expect.arrayContaining(expected));
    });
  });
});

describe('a directory', () => {
  let place: Place;
  beforeEach(async () => {
    place = await directoryPlace();
  });
  afterEach(() => place.remove());

  test('whose volume is not mounted is not taken for one whose batch was promoted', async () => {
    const state = createState();
    const stuck = await openWith(place, () => ({ promote: () => Promise.reject(new Error('not now')) }));
    await expect(stuck.put(batchOf(rows(0, 6)), state.context())).rejects.toThrow('not now');
    const task = await openAt(place);
    await rename(place.path, `${place.path}-elsewhere`);
    await expect(task.promote!(state.prepared[0]!)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('mounted'),
    });
    await rename(`${place.path}-elsewhere`, place.path);
    await task.promote!(state.prepared[0]!);
    expect(await seenIds(place)).toEqual(ids(0, 6));
  });

  test('is swept of what a crash left a week ago, but never of what another connector has staged', async () => {
    const lose = async (connector: string, ageDays: number) => {
      const left = await loseOne(place, connector);
      const modified = new Date(Date.now() - ageDays * 86_400_000);
      await utimes(left, modified, modified);
      return left;
    };
    const young = await lose('orders', 6.9);
    const other = await lose('orders-2', 30);
    const old = await lose('orders', 7.1);
    const task = await openAt(place);
    expect(await place.staged()).toContain(old);
    await task.put(batchOf(rows(0, 4)), createState().context());
    expect((await place.staged()).sort()).toEqual([young, other].sort());
  });

  test('that cannot be written to is found by check', async () => {
    expect(await checkAt(place, join(place.path, 'made', 'new'))).toEqual([]);
    await writeFile(join(place.path, 'file'), '');
    expect(await checkAt(place, join(place.path, 'file'))).toEqual([
      expect.stringMatching(/cannot write .*: a part of the path is a file/),
    ]);
    expect(await place.staged()).toEqual([]);
  });
});

describe('a bucket', () => {
  let bucket: Bucket;
  let place: Place;
  beforeEach(async () => {
    bucket = await localS3.makeBucket();
    place = s3Place(bucket);
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test('is swept of what a crash left a week ago, but never of what another connector has staged', async () => {
    const lose = async (connector: string, ageDays: number) => {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - ageDays * 86_400_000 });
      try {
        return await loseOne(place, connector);
      } finally {
        vi.useRealTimers();
      }
    };
    const other = await lose('orders-2', 30);
    const old = await lose('orders', 7.1);
    // A day after it looked at first, a process looks again.
    const young = await lose('orders', 6.9);
    await bucket.s3.createUpload(bucket.name, 'lake/orders/somebody-elses.jsonl');
    const [foreign] = (await place.staged()).filter((upload) => upload.includes('somebody'));
    const task = await openAt(place);
    expect(await place.staged()).toContain(old);
    await task.put(batchOf(rows(0, 4)), createState().context());
    expect((await place.staged()).sort()).toEqual([young, other, foreign].sort());
  });

  test('takes a file of many parts whole', async () => {
    const state = createState();
    const task = await openAt(place);
    const text = randomBytes(15_000_000).toString('base64');
    await task.put(batchOf([{ topic: 'orders', value: { id: 1, text } }]), state.context());
    const [row] = state.prepared;
    expect((row!.data as { files: { parts: string[] }[] }).files[0]!.parts).toHaveLength(3);
    const [seen] = await place.rows();
    expect((seen!.value as { text: string }).text === text).toBe(true);
    await task.promote!(row!);
  });

  test('that is gone is not taken for one whose batch was promoted', async () => {
    const state = createState();
    const stuck = await openWith(place, () => ({ promote: () => Promise.reject(new Error('not now')) }));
    await expect(stuck.put(batchOf(rows(0, 6)), state.context())).rejects.toThrow('not now');
    await localS3.dropBucket(bucket);
    const task = await openAt(place);
    await expect(task.promote!(state.prepared[0]!)).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining(`the bucket ${bucket.name} does not exist`),
    });
  });

  test('that refuses a part keeps nothing of it', async () => {
    const failing: S3 = { ...bucket.s3, uploadPart: () => Promise.reject(new ConnectError('UNAVAILABLE', 'busy')) };
    const task = await openAt(place, {}, s3Store(failing));
    await expect(task.put(batchOf(rows(0, 4)), createState().context())).rejects.toThrow('busy');
    expect(await place.staged()).toEqual([]);
  });

  test('is checked for each right that a sink needs, and left as it was', async () => {
    expect(await checkAt(place)).toEqual([]);
    expect(await place.staged()).toEqual([]);
    const denied = (...actions: string[]) => checkAt(place, place.path, s3Store(localS3.without(actions)));
    expect(await denied('s3:PutObject')).toEqual([expect.stringContaining('s3:PutObject')]);
    expect(await denied('s3:GetObject')).toEqual([expect.stringContaining('s3:GetObject')]);
    expect(await denied('s3:AbortMultipartUpload', 's3:ListBucketMultipartUploads')).toEqual([
      expect.stringContaining('s3:AbortMultipartUpload'),
      expect.stringContaining('s3:ListBucketMultipartUploads'),
    ]);
    const absent = `s3://absent-${bucket.name}/`;
    expect(await checkAt(place, absent)).toEqual([expect.stringContaining('does not exist')]);
  });
});

/** What a process leaves that dies before it commits. */
const loseOne = async (place: Place, connector: string): Promise<string> => {
  const before = await place.staged();
  const task = await openAt(place, {}, place.store, connector);
  const commit = async () => {
    throw new Error('died');
  };
  await expect(task.put(batchOf(rows(0, 1)), createState().context({ commit }))).rejects.toThrow('died');
  const [left] = (await place.staged()).filter((file) => !before.includes(file));
  return left!;
};

const checkAt = (place: Place, path = place.path, store = place.store) => {
  const sink = createFileSink(() => store);
  return sink.check!({
    config: sink.config.parse({ path }),
    deployment: 'test',
    connector: 'orders',
    incarnation: 'i-1',
    taskId: 0,
    tasks: 1,
    signal: new AbortController().signal,
  });
};

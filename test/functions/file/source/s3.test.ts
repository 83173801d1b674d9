import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { createFileSource } from '../../../../functions/file/file-source.ts';
import { s3Store } from '../../../../functions/file/open-store.ts';
import type { S3 } from '../../../../shared/s3/client.ts';
import { until } from '../../../kit/until.ts';
import { type Bucket, useLocalS3 } from '../s3-bucket.ts';
import { advance, type Config, checkSource, offsetsOf, openSource, readAll, type Stands } from './kit.ts';

const localS3 = useLocalS3();
let bucket: Bucket;
beforeEach(async () => {
  bucket = await localS3.makeBucket();
});

const lines = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `line ${from + i}\n`).join('');
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `line ${from + i}`);

const put = (key: string, text: string | Uint8Array) => bucket.s3.put(bucket.name, key, Buffer.from(text));
const at = (path: string, more: Partial<Config> = {}): Config => ({
  path: `s3://${bucket.name}/${path}`,
  topic: 't',
  ...more,
});
const sourceOf = (s3: S3) => createFileSource(() => s3Store(s3));

/** In a new task over what the last one committed. */
const read = async (path: string, stands: Stands = new Map(), s3 = bucket.s3) =>
  (await readAll(at(path), {}, stands, sourceOf(s3))).values;

interface Call {
  readonly name: keyof S3;
  readonly key: string;
  readonly options: { start?: number; length?: number; ifMatch?: string };
}

/** The bucket to a client whose calls are written down; `before` is called with each. */
const watched = (before: (call: Call) => unknown = () => {}) => {
  const calls: Call[] = [];
  const note = async (call: Call) => {
    calls.push(call);
    await before(call);
  };
  const { s3 } = bucket;
  const watching: S3 = {
    ...s3,
    async get(name, key, options = {}) {
      await note({ name: 'get', key, options: options as Call['options'] });
      return s3.get(name, key, options);
    },
    async head(name, key, options) {
      await note({ name: 'head', key, options: {} });
      return s3.head(name, key, options);
    },
    async *list(name, prefix, options) {
      for await (const page of s3.list(name, prefix, options)) {
        await note({ name: 'list', key: prefix, options: {} });
        yield page;
      }
    },
  };
  return { s3: watching, calls, count: (name: keyof S3) => calls.filter((call) => call.name === name).length };
};

/** One poll of so many records; the offsets are committed. */
const pollOnce = async (task: Awaited<ReturnType<typeof openSource>>, stands: Stands, maxRecords: number) => {
  const signal = new AbortController().signal;
  const poll = await task.poll(offsetsOf(stands), { maxRecords, maxBytes: 1 << 20, signal });
  const values = [...poll.batch].map(({ value }) => value);
  advance(stands, poll);
  return { values, poll };
};

/** Reads a part of an object, in a task that is closed then. */
const readSome = async (path: string, count: number): Promise<Stands> => {
  const stands: Stands = new Map();
  const task = await openSource(at(path), sourceOf(bucket.s3));
  expect((await pollOnce(task, stands, count)).values).toHaveLength(count);
  await task.close();
  return stands;
};

const name = (key: string) => `s3://${bucket.name}/${key}`;

describe('an object', () => {
  test('that arrives late under a smaller name is read', async () => {
    const stands: Stands = new Map();
    await put('in/b.log', lines(0, 5));
    expect(await read('in/', stands)).toEqual(numbers(0, 5));
    await put('in/a.log', lines(5, 7));
    expect(await read('in/', stands)).toEqual(numbers(5, 7));
    expect(await read('in/', stands)).toEqual([]);
    expect([...stands.values()].map(({ offset }) => offset.end)).toEqual([{ size: 35 }, { size: 14 }]);
  });

  test('that was read whole and is replaced then is a new one; the same bytes again are not', async () => {
    const stands: Stands = new Map();
    await put('in/a.log', lines(0, 5));
    await read('in/', stands);
    await put('in/a.log', lines(0, 5));
    expect(await read('in/', stands)).toEqual([]);
    await put('in/a.log', lines(0, 8));
    expect(await read('in/', stands)).toEqual(numbers(0, 8));
    await put('in/a.log', '');
    expect(await read('in/', stands)).toEqual([]);
    await put('in/a.log', lines(20, 21));
    expect(await read('in/', stands)).toEqual(numbers(20, 21));
  });

  test.each(['in/', 'in/*', 'in/a.log'])(
    'of %s that is replaced between two runs that read it is LOST_POSITION',
    async (path) => {
      await put('in/a.log', lines(0, 10));
      const stands = await readSome(path, 4);
      await put('in/a.log', lines(0, 11));
      const lost = {
        code: 'LOST_POSITION',
        retriable: false,
        message: expect.stringMatching(
          new RegExp(`${name('in/a.log')} was read up to byte 28 .line 4.*another object`),
        ),
      };
      await expect(read(path, stands)).rejects.toMatchObject(lost);
      await put('in/a.log', '');
      await expect(read(path, stands)).rejects.toMatchObject(lost);
      await put('in/a.log', lines(0, 10));
      expect(await read(path, stands)).toEqual(numbers(4, 10));
    },
  );

  test.each([
    ['the first range', 0],
    ['a later one', 900_000],
  ])('that is replaced behind %s is never put together with the one before', async (_, from) => {
    const [old, next] = [lines(100_000, 400_000), lines(500_000, 900_000)];
    await put('in/a.log', old);
    let isReplaced = false;
    const { s3, calls } = watched(async ({ name, options }) => {
      if (isReplaced || name !== 'get' || (options.start ?? 0) <= from) return;
      isReplaced = true;
      await put('in/a.log', next);
    });
    const stands: Stands = new Map();
    const task = await openSource(at('in/'), sourceOf(s3));
    const values: unknown[] = [];
    const readOn = async () => {
      for (;;) values.push(...(await pollOnce(task, stands, 3_000)).values);
    };
    await expect(readOn()).rejects.toMatchObject({ code: 'LOST_POSITION' });
    expect(values.length).toBeGreaterThan(3_000);
    expect(values).toEqual(numbers(100_000, 100_000 + values.length));
    await task.close();
    const behind = calls.filter(({ name, options }) => name === 'get' && options.start !== 0);
    expect(new Set(behind.map(({ options }) => options.ifMatch)).size).toBe(1);
    await expect(read('in/', stands)).rejects.toMatchObject({ code: 'LOST_POSITION', retriable: false });
  });

  test('that is replaced after it was listed is read as what it is then', async () => {
    await put('in/a.log', lines(0, 3));
    const { s3 } = watched(async ({ name }) => {
      if (name === 'get') await put('in/a.log', lines(7, 9));
    });
    const stands: Stands = new Map();
    expect(await read('in/', stands, s3)).toEqual(numbers(7, 9));
    expect(await read('in/', stands)).toEqual([]);
  });

  test('that is deleted after a part of it was read is asked for until it is back, or given up by name', async () => {
    await put('in/a.log', lines(0, 10));
    await put('in/b.log', lines(20, 22));
    const stands = await readSome('in/', 4);
    await bucket.s3.delete(bucket.name, 'in/a.log');
    const error: Error = await read('in/', stands).then(
      () => expect.fail('not told'),
      (thrown) => thrown,
    );
    expect(error).toMatchObject({ code: 'NOT_FOUND', retriable: true });
    expect(error.message).toContain(`${name('in/a.log')} was read up to byte 28 (line 4) and is there no more`);
    expect(error.message).toContain(`sluice offsets set <connector> '{"file":"${name('in/a.log')}"}' null`);
    // The others did not wait for it.
    expect(stands.get(name('in/b.log'))).toBeDefined();
    await expect(read('in/', stands)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await put('in/a.log', lines(0, 10));
    expect(await read('in/', stands)).toEqual(numbers(4, 10));

    const given = await readSome('in/', 4);
    await bucket.s3.delete(bucket.name, 'in/a.log');
    given.delete(name('in/a.log'));
    expect(await read('in/', given)).toEqual(numbers(20, 22));
  });

  test('that is deleted while it is read is told, and what was there is kept', async () => {
    await put('in/a.log', lines(100_000, 400_000));
    const { s3 } = watched(async ({ name, options }) => {
      if (name === 'get' && (options.start ?? 0) > 900_000) await bucket.s3.delete(bucket.name, 'in/a.log');
    });
    const stands: Stands = new Map();
    const values: unknown[] = [];
    const task = await openSource(at('in/'), sourceOf(s3));
    const readOn = async () => {
      for (;;) values.push(...(await pollOnce(task, stands, 3_000)).values);
    };
    await expect(readOn()).rejects.toMatchObject({
      code: 'NOT_FOUND',
      retriable: true,
      message: expect.stringContaining(name('in/a.log')),
    });
    await task.close();
    expect(values.length).toBeGreaterThan(3_000);
    expect(values).toEqual(numbers(100_000, 100_000 + values.length));
  });

  test('of which a range comes short is CORRUPT, and not taken for its end', async () => {
    await put('in/a.log', lines(100_000, 400_000));
    const short: S3 = {
      ...bucket.s3,
      async get(bucketName, key, options = {}) {
        const found = await bucket.s3.get(bucketName, key, options);
        return found && (options.start ?? 0) > 0 ? { ...found, bytes: found.bytes.subarray(0, 1000) } : found;
      },
    };
    const read = readAll(at('in/'), { maxRecords: 100_000 }, new Map(), sourceOf(short));
    await expect(read).rejects.toMatchObject({ code: 'CORRUPT', message: expect.stringContaining('gave 1000 bytes') });
  });

  test('that is deleted or read whole before anything of it was read is nothing', async () => {
    await put('in/a.log', lines(0, 3));
    await put('in/b.log', lines(3, 6));
    const { s3 } = watched(async ({ name, key }) => {
      if (name === 'get' && key === 'in/a.log') await bucket.s3.delete(bucket.name, key);
    });
    const stands: Stands = new Map();
    expect(await read('in/', stands, s3)).toEqual(numbers(3, 6));
    await bucket.s3.delete(bucket.name, 'in/b.log');
    expect(await read('in/', stands)).toEqual([]);
  });

  test('of another path than the config’s, from before it was changed, is nobody’s any more', async () => {
    await put('in/a.log', lines(0, 10));
    await put('other/b.log', lines(0, 1));
    const stands = await readSome('in/', 4);
    await bucket.s3.delete(bucket.name, 'in/a.log');
    expect(await read('other/', stands)).toEqual(numbers(0, 1));
  });

  test('by itself, and one that is not there', async () => {
    await put('in/a.log', lines(0, 3));
    expect(await read('in/a.log')).toEqual(numbers(0, 3));
    await expect(read('in')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      retriable: true,
      message: expect.stringContaining(`for every object below it: ${name('in')}/`),
    });
  });
});

test('a prefix gives what is below it, at any depth, without what is hidden or empty; a glob what it matches', async () => {
  for (const key of [
    'in/a.log',
    'in/day=2024-02-29/b.log',
    'in/.c.log',
    'in/.staging/d.log',
    'in/ä +%&?.log',
    'inside/e.log',
  ])
    await put(key, `${key}\n`);
  await put('in/empty.log', '');
  await put('in/folder.log/x', 'in/folder.log/x\n');
  expect(await read('in/')).toEqual(['in/a.log', 'in/day=2024-02-29/b.log', 'in/folder.log/x', 'in/ä +%&?.log']);
  expect(await read('')).toHaveLength(5);
  expect(await read('in/*.log')).toEqual(['in/a.log', 'in/ä +%&?.log']);
  expect(await read('**/*.log')).toEqual(['in/a.log', 'in/day=2024-02-29/b.log', 'in/ä +%&?.log', 'inside/e.log']);
  expect(await read('in/{a,day=2024-02-29/b}.log')).toEqual(['in/a.log', 'in/day=2024-02-29/b.log']);
});

describe('requests', () => {
  const count = 2_500;
  const key = (i: number) => `in/${String(i).padStart(5, '0')}.log`;

  test('2,500 objects: each is opened once, and looking costs three lists and nothing else', async () => {
    for (let at = 0; at < count; at += 50)
      await Promise.all(Array.from({ length: 50 }, (_, i) => put(key(at + i), lines(at + i, at + i + 1))));
    const { s3, calls } = watched();
    const stands: Stands = new Map();
    const asked: string[] = [];
    const offsets = offsetsOf(stands);
    const counting = {
      ...offsets,
      get: (partition: { file?: unknown }) => {
        asked.push(String(partition.file));
        return offsets.get(partition as never);
      },
    };
    const task = await openSource(at('in/'), sourceOf(s3));
    const values: unknown[] = [];
    for (let caughtUp = false; !caughtUp; ) {
      const signal = new AbortController().signal;
      const poll = await task.poll(counting, { maxRecords: 1_000, maxBytes: 1 << 20, signal });
      for (const { value } of poll.batch) values.push(value);
      advance(stands, poll);
      ({ caughtUp } = poll);
    }
    await task.close();
    expect(values).toEqual(numbers(0, count));
    const counted = Map.groupBy(calls, ({ name }) => name);
    expect(counted.get('get')).toHaveLength(count);
    // While it reads, and once more to see that nothing came meanwhile.
    expect(counted.get('list')).toHaveLength(6);
    expect(asked.length).toBeLessThan(count * 8);

    const idle = watched();
    const again = await openSource(at('in/'), sourceOf(idle.s3));
    expect(await again.more!(offsetsOf(stands))).toBe(false);
    await again.close();
    expect(idle.calls.map((call) => call.name)).toEqual(['list', 'list', 'list']);

    await put(key(1_234), 'new\n');
    const more = watched();
    const third = await openSource(at('in/'), sourceOf(more.s3));
    expect(await third.more!(offsetsOf(stands))).toBe(true);
    expect(more.calls.map((call) => call.name)).toEqual(['list', 'list', 'get']);
    await third.close();
  });

  test('a large object: ranges that follow each other, the next one on its way while one is parsed, two in memory', async () => {
    const text = `${randomBytes(9_000_000)
      .toString('base64')
      .replaceAll(/.{100}/g, '$&\n')}\n`;
    await put('in/a.log', text);
    const { s3, calls } = watched();
    const task = await openSource(at('in/'), sourceOf(s3));
    const stands: Stands = new Map();
    const gets = () => calls.filter((call) => call.name === 'get').map(({ options }) => options);
    let seen = '';
    let position = 0;
    for (let caughtUp = false; !caughtUp; ) {
      const { poll, values } = await pollOnce(task, stands, 2_000);
      for (const value of values) seen += `${value}\n`;
      position = Math.max(position, ...poll.offsets.map(({ offset }) => offset.position));
      const { start = 0, length = 0 } = gets().at(-1)!;
      if (!poll.caughtUp && start + length < text.length && position > 300_000) {
        expect(start + length).toBeGreaterThan(position);
        expect(start - position).toBeLessThan(8 * 1024 * 1024);
      }
      ({ caughtUp } = poll);
    }
    await task.close();
    expect(seen === text).toBe(true);
    let end = 0;
    for (const { start, length } of gets()) {
      expect(start).toBe(end);
      end = start! + length!;
    }
    expect(gets().length).toBeLessThan(8);
  });

  test('going on in the middle of an object takes its first bytes and what comes from there on', async () => {
    await put('in/a.log', lines(100_000, 400_000));
    const stands = await readSome('in/', 50_000);
    const position = [...stands.values()][0]!.offset.position;
    const { s3, calls } = watched();
    const task = await openSource(at('in/'), sourceOf(s3));
    expect((await pollOnce(task, stands, 10)).values).toEqual(numbers(150_000, 150_010));
    await task.close();
    expect(calls.slice(0, 3).map((call) => [call.name, call.options.start])).toEqual([
      ['list', undefined],
      ['get', 0],
      ['get', position - 1],
    ]);
  });

  test('a stop ends a request on its way, and closing leaves none behind', async () => {
    await put('in/a.log', lines(100_000, 900_000));
    const stopping = new AbortController();
    let open = 0;
    const { s3 } = bucket;
    const slow: S3 = {
      ...s3,
      async get(name, key, options = {}) {
        if (options.start === 0) return s3.get(name, key, options);
        open++;
        try {
          // Answers only when it is given up.
          return await new Promise((_, reject) => {
            options.signal!.addEventListener('abort', () => reject(options.signal!.reason));
          });
        } finally {
          open--;
        }
      },
    };
    const task = await openSource(at('in/'), sourceOf(slow));
    const poll = task.poll(offsetsOf(new Map()), { maxRecords: 1e6, maxBytes: 1e9, signal: stopping.signal });
    await until(() => open > 0);
    stopping.abort();
    expect((await poll).batch.count).toBeGreaterThan(1_000);
    await task.close();
    expect(open).toBe(0);
  });
});

test('a gzip object is decompressed as it comes, and its end is committed once it was found', async () => {
  await put('in/a.log.gz', gzipSync(lines(0, 300_000)));
  const stands: Stands = new Map();
  const { values } = await readAll(at('in/'), { maxRecords: 100_000 }, stands, sourceOf(bucket.s3));
  expect(values).toHaveLength(300_000);
  expect([...stands.values()][0]!.offset.end).toBeDefined();
  // The batch ended where the object did: to find that again would be a request for every look.
  const task = await openSource(at('in/'), sourceOf(bucket.s3));
  const partial: Stands = new Map();
  for (let i = 0; i < 15; i++) expect((await pollOnce(task, partial, 20_000)).values).toHaveLength(20_000);
  const { poll } = await pollOnce(task, partial, 20_000);
  expect(poll).toMatchObject({ batch: { count: 0 }, caughtUp: true, offsets: [{ offset: { end: {} } }] });
  expect(poll.moved).toBeGreaterThanOrEqual(64 * 1024 * 1024);
  await task.close();
});

describe('check', () => {
  const check = (path: string, s3: S3, more: Partial<Config> = {}) => checkSource(at(path, more), sourceOf(s3));

  test('names each right that is missing, and a bucket that is not there', async () => {
    await put('in/a.log', lines(0, 1));
    expect(await check('in/', bucket.s3)).toEqual([]);
    expect(await check('in/a.log', localS3.without(['s3:ListBucket']))).toEqual([]);
    // Without it S3 does not say that an object is missing, so that the other right can't be known.
    expect(await check('in/', localS3.without(['s3:ListBucket']))).toEqual([
      expect.stringContaining('denied s3:ListBucket'),
      expect.stringContaining('Without s3:ListBucket'),
    ]);
    expect(await check('in/', localS3.without(['s3:GetObject']))).toEqual([expect.stringContaining('s3:GetObject')]);
    expect(await check('in/', localS3.without(['s3:GetObject', 's3:ListBucket']))).toEqual([
      expect.stringContaining('s3:ListBucket'),
      expect.stringContaining('s3:GetObject'),
    ]);
    expect(await checkSource({ path: `s3://absent-${bucket.name}/`, topic: 't' }, sourceOf(bucket.s3))).toEqual([
      expect.stringContaining(`the bucket absent-${bucket.name} does not exist`),
    ]);
  });

  test('names what is wrong with the objects', async () => {
    await put('in/a.csv', 'x\n1\n');
    await put('in/b.csv', 'x,x\n1,2\n');
    expect(await check('in/', bucket.s3, { format: 'csv', fields: { id: 'int32' } })).toEqual([
      expect.stringContaining('a.csv has no column "id"'),
      expect.stringContaining('b.csv: the column "x" is there twice'),
    ]);
  });
});

test('a right that is missing at run time is named', async () => {
  await put('in/a.log', lines(0, 1));
  for (const action of ['s3:ListBucket', 's3:GetObject'])
    await expect(read('in/', new Map(), localS3.without([action]))).rejects.toMatchObject({
      code: 'ACCESS_DENIED',
      message: expect.stringContaining(action),
    });
});

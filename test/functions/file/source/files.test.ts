import { randomUUID } from 'node:crypto';
import { appendFile, copyFile, mkdir, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { openContent } from '../../../../functions/file/content.ts';
import { openLocal } from '../../../../functions/file/local-file.ts';
import { fillWindow, openWindow } from '../../../../functions/file/window.ts';
import { batchBytes } from '../../../../shared/connect/batch.ts';
import {
  advance,
  type Config,
  checkSource,
  inDirectory,
  offsetsOf,
  openSource,
  readAll,
  readContent,
  type Stands,
} from './kit.ts';

const lines = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `line ${from + i}\n`).join('');
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `line ${from + i}`);

const inLog = (
  use: (path: string, read: (config?: Partial<Config>) => Promise<unknown[]>, stands: Stands) => Promise<void>,
) =>
  inDirectory(async (directory) => {
    const path = join(directory, 'app.log');
    const stands: Stands = new Map();
    // A new task each time, over what the last one committed.
    const read = async (config: Partial<Config> = {}) => (await readAll({ path, ...config }, {}, stands)).values;
    await use(path, read, stands);
  });

const lost = (...parts: string[]) => ({
  code: 'LOST_POSITION',
  blame: 'system',
  message: expect.stringMatching(new RegExp(['', ...parts, ''].join('.*'), 's')),
});

test('a file that grows is read on, line by whole line', () =>
  inLog(async (path, read) => {
    await writeFile(path, `${lines(0, 3)}half`);
    expect(await read({ follow: true })).toEqual(numbers(0, 3));
    expect(await read({ follow: true })).toEqual([]);
    await appendFile(path, ' and half\n');
    expect(await read({ follow: true })).toEqual(['half and half']);
  }));

test('a last line that counted as whole and then grows is not passed over silently', () =>
  inLog(async (path, read) => {
    await writeFile(path, `${lines(0, 3)}half`);
    expect(await read()).toEqual([...numbers(0, 3), 'half']);
    expect(await read()).toEqual([]);
    await appendFile(path, ' and half\n');
    await expect(read()).rejects.toMatchObject(lost('line 4 had no newline', 'follow: true'));
    await expect(read({ follow: true })).rejects.toMatchObject(lost('follow: true'));
  }));

test('a replaced file, of any size and inode, is LOST_POSITION, with what was found and the choices', () =>
  inLog(async (path, read) => {
    await writeFile(path, lines(0, 10));
    await read();
    for (const content of [lines(50, 60), lines(50, 90), lines(5, 6)]) {
      await writeFile(path, content);
      await expect(read()).rejects.toMatchObject(
        lost(path, 'byte 70 .line 10.', 'begins with other bytes', 'sluice offsets reset'),
      );
      await rm(path);
      await writeFile(path, content);
      await expect(read()).rejects.toMatchObject(lost(path));
    }
    await writeFile(path, lines(0, 12));
    expect(await read()).toEqual(numbers(10, 12));
  }));

test('a truncated file is LOST_POSITION, even when its beginning is the same', () =>
  inLog(async (path, read) => {
    await writeFile(path, lines(100, 500));
    await read();
    await truncate(path, 2_000);
    await expect(read()).rejects.toMatchObject(lost('byte 3600', 'it now ends before that'));
    await writeFile(`${path}.gz`, gzipSync(lines(100, 500)));
    const stands: Stands = new Map();
    await readAll({ path: `${path}.gz` }, {}, stands);
    await writeFile(`${path}.gz`, gzipSync(lines(100, 400)));
    await expect(readAll({ path: `${path}.gz` }, {}, stands)).rejects.toMatchObject(lost('it now ends before that'));
  }));

test('a copy that was put back under another inode is the same file', () =>
  inLog(async (path, read) => {
    await writeFile(path, lines(0, 10));
    await read();
    await copyFile(path, `${path}.copy`);
    await rm(path);
    await rename(`${path}.copy`, path);
    expect(await read()).toEqual([]);
    await appendFile(path, lines(10, 12));
    expect(await read()).toEqual(numbers(10, 12));
  }));

test('a rotated file is read to its end under its new name, then the new one from its start', () =>
  inLog(async (path, read, stands) => {
    await writeFile(path, lines(0, 5));
    expect(await read({ follow: true })).toEqual(numbers(0, 5));
    await appendFile(path, lines(5, 8));
    await rename(path, `${path}.1`);
    await expect(read({ follow: true })).rejects.toMatchObject({ code: 'NOT_FOUND', retriable: true });
    await writeFile(path, '');
    expect(await read({ follow: true })).toEqual(numbers(5, 8));
    // Whoever writes has the old file open until the new one has a line.
    await appendFile(`${path}.1`, `${lines(8, 9)}no end`);
    expect(await read({ follow: true })).toEqual(numbers(8, 9));
    await appendFile(path, lines(20, 22));
    expect(await read({ follow: true })).toEqual(['no end', ...numbers(20, 22)]);
    expect(await read({ follow: true })).toEqual([]);
    expect([...stands.keys()]).toEqual([path]);
  }));

test('a file that is rotated while it is read is finished first', () =>
  inLog(async (path, read, stands) => {
    await writeFile(path, lines(0, 10));
    const task = await openSource({ path });
    const signal = new AbortController().signal;
    const first = await task.poll(offsetsOf(stands), { maxRecords: 4, maxBytes: 1e6, signal });
    advance(stands, first);
    await rename(path, `${path}.1`);
    await writeFile(path, lines(10, 12));
    const rest = await task.poll(offsetsOf(stands), { maxRecords: 100, maxBytes: 1e6, signal });
    expect([...first.batch, ...rest.batch].map(({ value }) => value)).toEqual(numbers(0, 12));
    advance(stands, rest);
    await task.close();
    expect(await read()).toEqual([]);
  }));

test('rotation to names that the glob matches reads no line twice', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'app.log');
    const stands: Stands = new Map();
    const read = async (limits = {}) =>
      (await readAll({ path: `${path}*`, topic: 't', follow: true }, limits, stands)).values;
    let next = 0;
    const grow = async (count: number) => {
      await appendFile(path, lines(next, next + count));
      next += count;
    };
    await grow(5);
    expect(await read()).toEqual(numbers(0, 5));
    for (let round = 1; round <= 4; round++) {
      const from = next;
      await grow(3);
      for (let i = round; i > 1; i--) await rename(`${path}.${i - 1}`, `${path}.${i}`);
      await rename(path, `${path}.1`);
      await grow(2);
      expect(await read(round % 2 === 0 ? {} : { maxRecords: 1 })).toEqual(numbers(from, next));
      expect(await read()).toEqual([]);
    }
    expect(stands.size).toBe(5);
  }));

test('a name that goes on with another name’s offset is committed before that one starts over', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'app.log');
    const config = { path: `${path}*`, topic: 't' };
    await writeFile(path, lines(0, 2));
    const { stands } = await readAll(config);
    await rename(path, `${path}.1`);
    await writeFile(path, lines(2, 4));
    const task = await openSource(config);
    const poll = () =>
      task.poll(offsetsOf(stands), { maxRecords: 9, maxBytes: 1e6, signal: new AbortController().signal });
    const first = await poll();
    expect(first).toMatchObject({ batch: { count: 0 }, caughtUp: false });
    expect(first.offsets.map(({ partition, offset }) => [partition.file, offset.position])).toEqual([
      [`${path}.1`, 14],
    ]);
    advance(stands, first);
    expect([...(await poll()).batch].map(({ value }) => value)).toEqual(numbers(2, 4));
    await task.close();
  }));

test('offsets of a short file that grows while it is open are those of the grown file', () =>
  inLog(async (path, read) => {
    await writeFile(path, lines(0, 5));
    const task = await openSource({ path });
    const stands: Stands = new Map();
    const offsets: unknown[] = [];
    const poll = async (maxRecords: number) => {
      const one = await task.poll(offsetsOf(stands), {
        maxRecords,
        maxBytes: 1e6,
        signal: new AbortController().signal,
      });
      for (let i = 0; i < one.batch.count; i++) offsets.push(one.position(i));
      advance(stands, one);
    };
    await poll(2);
    await appendFile(path, lines(5, 400));
    await poll(1_000);
    await task.close();
    const again = await openSource({ path });
    const whole = await again.poll(offsetsOf(new Map()), {
      maxRecords: 1_000,
      maxBytes: 1e6,
      signal: new AbortController().signal,
    });
    expect(offsets).toEqual(Array.from({ length: 400 }, (_, i) => whole.position(i)));
    await again.close();
    expect(await read()).toHaveLength(400);
  }));

describe('while it is read in bounded batches, in one task', () => {
  /** A task and its committed offsets, and one batch of it. */
  const openBounded = async (config: Config) => {
    const task = await openSource(config);
    const stands: Stands = new Map();
    const poll = async (maxRecords: number) => {
      const signal = new AbortController().signal;
      const one = await task.poll(offsetsOf(stands), { maxRecords, maxBytes: 1e6, signal });
      const values = [...one.batch].map(({ value }) => value);
      advance(stands, one);
      return { values, caughtUp: one.caughtUp };
    };
    const drain = async (maxRecords: number) => {
      const all: unknown[] = [];
      for (;;) {
        const { values, caughtUp } = await poll(maxRecords);
        all.push(...values);
        if (caughtUp) return all;
      }
    };
    return { poll, drain, close: () => task.close(), stands };
  };

  test('a file that grows gives each line once, also those that come in pieces', () =>
    inDirectory(async (directory) => {
      const path = join(directory, 'app.log');
      await writeFile(path, '');
      const { poll, drain, close } = await openBounded({ path, follow: true });
      const text = lines(0, 200);
      const seen: unknown[] = [];
      for (let at = 0; at < text.length; at += 37) {
        await appendFile(path, text.slice(at, at + 37));
        seen.push(...(await poll(3)).values);
        expect(seen).toEqual(numbers(0, seen.length));
      }
      seen.push(...(await drain(3)));
      expect(seen).toEqual(numbers(0, 200));
      await close();
    }));

  test.each(['app.log', 'app.log*'])(
    'a file that is rotated again and again gives each line once, in order: %s',
    (pattern) =>
      inDirectory(async (directory) => {
        const path = join(directory, 'app.log');
        await writeFile(path, '');
        const { poll, drain, close } = await openBounded({ path: join(directory, pattern), topic: 't', follow: true });
        const seen: unknown[] = [];
        let next = 0;
        const grow = async (count: number) => {
          await appendFile(path, lines(next, next + count));
          next += count;
        };
        for (let round = 1; round <= 5; round++) {
          await grow(6);
          seen.push(...(await poll(4)).values);
          await grow(3);
          for (let i = round; i > 1; i--) await rename(`${path}.${i - 1}`, `${path}.${i}`);
          await rename(path, `${path}.1`);
          await grow(2);
          seen.push(...(await poll(1)).values, ...(await drain(4)));
          expect(seen).toEqual(numbers(0, next));
        }
        await close();
      }),
  );

  test.each([
    ['truncated', async (path: string) => truncate(path, 14)],
    ['truncated and written anew beyond the place', async (path: string) => writeFile(path, lines(50, 90))],
    [
      'replaced by a longer one',
      async (path: string) => {
        await writeFile(`${path}.new`, lines(50, 90));
        await rename(`${path}.new`, path);
      },
    ],
    [
      'replaced by a shorter one',
      async (path: string) => {
        await writeFile(`${path}.new`, lines(50, 52));
        await rename(`${path}.new`, path);
      },
    ],
  ])('a file that is %s is LOST_POSITION, and no line that was not there before is given', (_, change) =>
    inDirectory(async (directory) => {
      for (const follow of [false, true]) {
        const path = join(directory, `app-${follow}.log`);
        await writeFile(path, lines(0, 30));
        const { poll, drain, close, stands } = await openBounded({ path, follow });
        expect((await poll(4)).values).toEqual(numbers(0, 4));
        await change(path);
        const seen: unknown[] = [];
        const readOn = async () => {
          for (;;) {
            const { values, caughtUp } = await poll(4);
            seen.push(...values);
            if (caughtUp) throw new Error('passed over in silence');
          }
        };
        await expect(readOn()).rejects.toMatchObject({ code: 'LOST_POSITION' });
        expect(seen).toEqual(numbers(4, 4 + seen.length));
        await expect(drain(4)).rejects.toMatchObject({ code: 'LOST_POSITION' });
        await close();
        await expect(readAll({ path, follow }, {}, stands)).rejects.toMatchObject({ code: 'LOST_POSITION' });
      }
    }),
  );
});

test('whatever is written, rotated and read in whatever order, every line comes once', async () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant('grow' as const), count: fc.integer({ min: 1, max: 6 }) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('poll' as const), count: fc.integer({ min: 1, max: 5 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rotate' as const), count: fc.constant(1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('expire' as const), count: fc.constant(1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('reopen' as const), count: fc.constant(1) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), (steps) =>
      inDirectory(async (directory) => {
        const path = join(directory, 'app.log');
        const gone = join(directory, 'gone');
        await mkdir(gone);
        const config = { path: `${path}*`, topic: 't', follow: true };
        const stands: Stands = new Map();
        const signal = new AbortController().signal;
        const seen: unknown[] = [];
        let [task, next, rotated] = [await openSource(config), 0, 0];
        await writeFile(path, '');
        const poll = async (maxRecords: number) => {
          const one = await task.poll(offsetsOf(stands), { maxRecords, maxBytes: 1e6, signal });
          seen.push(...[...one.batch].map(({ value }) => value));
          advance(stands, one);
          return one.caughtUp;
        };
        const rotate = async () => {
          for (let i = rotated++; i > 0; i--) await rename(`${path}.${i}`, `${path}.${i + 1}`);
          await rename(path, `${path}.1`);
          await writeFile(path, '');
        };
        for (const { do: what, count } of steps)
          if (what === 'grow') {
            await appendFile(path, lines(next, next + count));
            next += count;
          } else if (what === 'poll') await poll(count);
          else if (what === 'rotate') await rotate();
          else if (what === 'expire') {
            // What was read may go. Not to the grave: an inode that comes back with another file is another story.
            while (!(await poll(3)));
            if (rotated > 1) await rename(`${path}.${rotated--}`, join(gone, randomUUID()));
            await rotate();
            while (!(await poll(3)));
          } else {
            await task.close();
            task = await openSource(config);
          }
        while (!(await poll(3)));
        await task.close();
        expect(seen.map((line) => Number(String(line).slice(5))).sort((a, b) => a - b)).toEqual(
          Array.from({ length: next }, (_, i) => i),
        );
      }),
    ),
  );
});

test('a directory gives every file below it, in name order, without what is hidden', () =>
  inDirectory(async (directory) => {
    const data = join(directory, 'data');
    await expect(readAll({ path: `${data}/` })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await mkdir(join(data, 'b', '.staging'), { recursive: true });
    expect((await readAll({ path: data })).values).toEqual([]);
    for (const name of ['c.jsonl', 'a.txt', '.hidden.txt', 'b/x.txt', 'b/.staging/y.txt'])
      await writeFile(join(data, name), name.endsWith('.jsonl') ? '{"a":1}\n' : `${name}\n`);
    for (const path of [data, `${data}/`]) {
      const { values, stands } = await readAll({ path });
      expect(values).toEqual(['a.txt', 'b/x.txt', { a: 1 }]);
      expect([...stands.keys()]).toEqual(['a.txt', 'b/x.txt', 'c.jsonl'].map((name) => join(data, name)));
      await writeFile(join(data, 'b', 'new.txt'), 'new\n');
      expect((await readAll({ path }, {}, stands)).values).toEqual(['new']);
      await rm(join(data, 'b', 'new.txt'));
    }
  }));

test('a local path is refused where the function runs on AWS', async () => {
  vi.stubEnv('AWS_LAMBDA_FUNCTION_NAME', 'orders');
  const config = { path: '/data/in.jsonl' };
  const refused = expect.stringMatching(/^\/data\/in\.jsonl is a local path.*s3:\/\/bucket\/prefix\/$/);
  await expect(readAll(config)).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: refused });
  expect(await checkSource(config)).toEqual([refused]);
  vi.stubEnv('SLUICE_LOCAL', '1');
  await expect(readAll(config)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  vi.unstubAllEnvs();
});

test('two names that were exchanged are LOST_POSITION', () =>
  inDirectory(async (directory) => {
    const [a, b, c] = ['a.log', 'b.log', 'c'].map((name) => join(directory, name)) as [string, string, string];
    await writeFile(a, lines(0, 2));
    await writeFile(b, lines(5, 7));
    const config = { path: join(directory, '*.log'), topic: 't' };
    const { stands } = await readAll(config);
    await rename(a, c);
    await rename(b, a);
    await rename(c, b);
    await expect(readAll(config, {}, stands)).rejects.toMatchObject(lost('changed names'));
  }));

test('a truncated or broken gzip file gives what is before that, then CORRUPT', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'in.txt.gz');
    const content = Array.from({ length: 20_000 }, (_, i) => `${i} ${Math.sin(i)}\n`).join('');
    const whole = gzipSync(content);
    const broken = Buffer.from(whole);
    broken.fill(0x55, whole.length / 2, whole.length / 2 + 100);
    for (const bytes of [whole.subarray(0, whole.length / 2), broken]) {
      await writeFile(path, bytes);
      const task = await openSource({ path });
      const signal = new AbortController().signal;
      const stands: Stands = new Map();
      let values = '';
      const readOn = async () => {
        for (;;) {
          const poll = await task.poll(offsetsOf(stands), { maxRecords: 3_000, maxBytes: 1e6, signal });
          expect(poll.caughtUp).toBe(false);
          for (const { value } of poll.batch) values += `${value}\n`;
          advance(stands, poll);
        }
      };
      await expect(readOn()).rejects.toMatchObject({
        code: 'CORRUPT',
        blame: 'system',
        message: expect.stringContaining(path),
      });
      await task.close();
      expect(values.length).toBeGreaterThan(content.length * 0.4);
      expect(content.startsWith(values.slice(0, content.length * 0.4))).toBe(true);
      // Damaged bytes decompress to others before they stop making sense; a file cut short does not.
      if (bytes === broken) continue;
      expect(content.startsWith(values)).toBe(true);
      await writeFile(path, whole);
      for (const value of (await readAll({ path }, {}, stands)).values) values += `${value}\n`;
      expect(values === content).toBe(true);
    }
  }));

test('a gzip file is known by its bytes, of several members, and by its name', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'in.jsonl');
    await writeFile(path, Buffer.concat([gzipSync('{"a":1}\n{"a"'), gzipSync(':2}\n')]));
    expect((await readAll({ path })).values).toEqual([{ a: 1 }, { a: 2 }]);
    await writeFile(`${path}.gz`, 'plain text');
    await expect(readAll({ path: `${path}.gz` })).rejects.toMatchObject({ code: 'CORRUPT' });
    await writeFile(`${path}.gz`, '');
    expect((await readAll({ path: `${path}.gz` })).values).toEqual([]);
  }));

test('a gzip file that was read is not decompressed again to find that nothing came', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'in.txt.gz');
    await writeFile(path, gzipSync(lines(0, 10)));
    const { stands } = await readAll({ path }, { maxRecords: 10 });
    const offset = [...stands.values()][0]!.offset;
    expect(offset.end).toBeDefined();
    // Bytes that would not decompress, and an offset that says it was read when it had their size and time.
    await writeFile(path, Buffer.alloc(offset.end!.size));
    await expect(readAll({ path }, {}, new Map(stands))).rejects.toThrow();
    const { size, mtimeMs } = await stat(path);
    stands.set(path, { partition: { file: path }, offset: { ...offset, end: { size, mtimeMs } } });
    expect((await readAll({ path }, {}, stands)).values).toEqual([]);
  }));

test('a path that is not there', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'absent.jsonl');
    await expect(readAll({ path })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      retriable: true,
      message: expect.stringContaining(`${path} does not exist; create it`),
    });
    expect(await checkSource({ path })).toEqual([expect.stringContaining('does not exist')]);
    expect((await readAll({ path: join(directory, '*.jsonl'), topic: 't' })).values).toEqual([]);
    expect(await checkSource({ path: join(directory, '*.jsonl'), topic: 't' })).toEqual([]);
  }));

test('check names every problem at once', () =>
  inDirectory(async (directory) => {
    await writeFile(join(directory, 'a.csv'), 'x\n1\n');
    await writeFile(join(directory, 'b.csv'), 'x,x\n1,2\n');
    await writeFile(join(directory, 'c.csv'), 'id\n1\n');
    expect(await checkSource({ path: join(directory, '*.csv'), topic: 't', fields: { id: 'int32' } })).toEqual([
      expect.stringContaining('a.csv has no column "id"'),
      expect.stringContaining('b.csv: the column "x" is there twice'),
    ]);
  }));

test('files are read in name order, at most 32 partitions a poll, and a broken one does not hold back what is before it', () =>
  inDirectory(async (directory) => {
    for (let i = 0; i < 40; i++) await writeFile(join(directory, `${String(i).padStart(2, '0')}.json`), `[${i}]`);
    await writeFile(join(directory, '35.json'), 'no json');
    const config = { path: join(directory, '*.json'), topic: 't' };
    const task = await openSource(config);
    const stands: Stands = new Map();
    const poll = async () => {
      const one = await task.poll(offsetsOf(stands), {
        maxRecords: 100,
        maxBytes: 1e6,
        signal: new AbortController().signal,
      });
      advance(stands, one);
      return [...one.batch].map(({ value }) => value);
    };
    expect(await poll()).toEqual(Array.from({ length: 32 }, (_, i) => i));
    expect(await poll()).toEqual([32, 33, 34]);
    await expect(poll()).rejects.toMatchObject({ code: 'CORRUPT' });
    await writeFile(join(directory, '35.json'), '[35]');
    expect(await poll()).toEqual([35, 36, 37, 38, 39]);
    await task.close();
  }));

test('rows across the borders of chunks, in every format', async () => {
  const rows = Array.from({ length: 30_000 }, (_, i) => ({ n: i * 7_919, t: `"${'é'.repeat(i % 17)}\n,${i}` }));
  const limits = { maxRecords: 9_999 };
  const texts = rows.map(({ n }) => `${n} text`);
  const quoted = rows.map(({ n, t }) => `${n},"${t.replaceAll('"', '""')}"\n`);
  const contents: [string, string, unknown[]][] = [
    ['in.jsonl', rows.map((row) => JSON.stringify(row)).join('\n'), rows],
    ['in.json', JSON.stringify(rows), rows],
    ['in.json', JSON.stringify(rows.map(({ n }) => n)), rows.map(({ n }) => n)],
    ['in.csv', `n,t\n${quoted.join('')}`, rows.map(({ n, t }) => ({ n: String(n), t }))],
    ['in.txt', texts.join('\r\n'), texts],
  ];
  for (const [name, content, expected] of contents)
    for (const bytes of [content, gzipSync(content)]) {
      const { values, errors } = await readContent(name, bytes, {}, limits);
      expect(errors).toEqual([]);
      expect(JSON.stringify(values) === JSON.stringify(expected), name).toBe(true);
    }
});

test('what was read ends with a zero byte, where scanners stop', () =>
  inLog(async (path) => {
    await writeFile(path, lines(0, 20_000));
    const content = await openContent(await openLocal(path), new AbortController().signal);
    const window = openWindow(0, Buffer.from('lin'), 0);
    while (!window.atEnd) {
      window.data.fill(0x61, window.length);
      await fillWindow(window, content, path, new AbortController().signal);
      expect(window.data[window.length]).toBe(0);
    }
    await content.close();
    expect(window.length).toBe(lines(0, 20_000).length);
  }));

test('an aborted signal ends the way to a place deep in a gzip file', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'in.txt.gz');
    await writeFile(path, gzipSync(Buffer.alloc(200_000_000, `${'x'.repeat(999)}\n`), { level: 1 }));
    const stands: Stands = new Map();
    const { partition, offset } = await firstPosition(path);
    stands.set(path, { partition, offset: { ...offset, position: 199_000_000, line: 199_000 } });
    const pollMs = async (signal: AbortSignal, count: number) => {
      const task = await openSource({ path });
      const start = performance.now();
      const poll = await task.poll(offsetsOf(stands), { maxRecords: 5, maxBytes: 1e6, signal });
      expect(poll.batch.count).toBe(count);
      await task.close();
      return performance.now() - start;
    };
    const wholeMs = await pollMs(new AbortController().signal, 5);
    const aborting = new AbortController();
    setImmediate(() => aborting.abort());
    expect(await pollMs(aborting.signal, 0)).toBeLessThan(wholeMs / 2);
  }));

const firstPosition = async (path: string) => {
  const task = await openSource({ path });
  const signal = new AbortController().signal;
  const poll = await task.poll(offsetsOf(new Map()), { maxRecords: 2, maxBytes: 1e6, signal });
  await task.close();
  return poll.position(1);
};

test.each([
  { format: 'text', config: {} },
  { format: 'jsonl', config: { fields: { id: 'int64', text: 'string' } } },
  { format: 'json', config: {} },
  { format: 'csv', config: {} },
] as const)(
  'a batch of $format takes no more of a file than its bytes, though it is read in many chunks',
  async ({ format, config }) => {
    await inDirectory(async (directory) => {
      const rows = Array.from({ length: 5_000 }, (_, id) => ({ id, text: 'x'.repeat(190) }));
      const lines = rows.map((row) => (format === 'csv' ? `${row.id},${row.text}` : JSON.stringify(row)));
      const content = format === 'json' ? `[${lines.join(',\n')}]` : lines.join('\n');
      const path = join(directory, 'rows');
      await writeFile(path, format === 'csv' ? `id,text\n${content}` : content);
      const task = await openSource({ path, format, ...config });
      const maxBytes = 300_000;
      const budget = { maxRecords: 1e6, maxBytes, signal: new AbortController().signal };
      // The second one knows how much to expect.
      const stands: Stands = new Map();
      for (let i = 0; i < 2; i++) {
        const poll = await task.poll(offsetsOf(stands), budget);
        expect(batchBytes(poll.batch)).toBeGreaterThan(maxBytes * 0.8);
        expect(batchBytes(poll.batch)).toBeLessThan(maxBytes + 300);
        advance(stands, poll);
      }
      await task.close();
    });
  },
);

test('a record that is larger than a function has room for is refused, and one just below is read', async () => {
  await inDirectory(async (directory) => {
    const mebibyte = 1024 * 1024;
    const path = join(directory, 'rows.txt');
    await writeFile(path, `${'x'.repeat(31 * mebibyte)}\n`);
    const { values } = await readAll({ path, format: 'text' });
    expect(values.map((value) => (value as string).length)).toEqual([31 * mebibyte]);
    await writeFile(path, `${'x'.repeat(40 * mebibyte)}\n`);
    await expect(readAll({ path, format: 'text' })).rejects.toMatchObject({ code: 'TOO_LARGE' });
  });
});

test('a record far beyond what is read at once waits for a poll of its own', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'rows.txt');
    const lengths = [10, 20, 3_000_000, 30];
    await writeFile(path, `${lengths.map((length) => 'x'.repeat(length)).join('\n')}\n`);
    const task = await openSource({ path, format: 'text' });
    const stands: Stands = new Map();
    const { signal } = new AbortController();
    const polls: number[][] = [];
    for (let n = 0; n < 2; n++) {
      const poll = await task.poll(offsetsOf(stands), { maxRecords: 1e6, maxBytes: 8 * 1024 * 1024, signal });
      polls.push(Array.from(poll.batch, ({ value }) => (value as string).length));
      advance(stands, poll);
    }
    await task.close();
    expect(polls).toEqual([
      [10, 20],
      [3_000_000, 30],
    ]);
  });
});

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { directoryObjects } from '../../../shared/log/directory-objects.ts';
import { memoryObjects, type ObjectStore } from '../../../shared/log/objects.ts';
import { noise } from '../../kit/log-kit.ts';

const newDirectory = async (): Promise<string> => {
  const directory = await mkdtemp(join(tmpdir(), 'sluice-objects-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
};
const filesOf = async (directory: string) =>
  (await readdir(directory, { recursive: true, withFileTypes: true }))
    .filter((one) => one.isFile())
    .map(({ name }) => name);

const stores: Record<string, () => Promise<ObjectStore>> = {
  memory: async () => memoryObjects(),
  directory: async () => directoryObjects(await newDirectory()),
};

test.each(Object.keys(stores))('%s: any range of an object is read as it was put', async (name) => {
  const store = await stores[name]!();
  const bytes = Buffer.from(noise(100_000));
  await store.put('r14/orders/2026-01-01/a', bytes);
  await store.put('r14/orders/2026-01-01/empty', new Uint8Array(0));
  for (const [start, length] of [
    [0, bytes.length],
    [0, 1],
    [777, 50_000],
    [bytes.length - 1, 1],
    [5, 0],
  ] as const)
    expect(Buffer.from((await store.get('r14/orders/2026-01-01/a', start, length))!)).toEqual(
      bytes.subarray(start, start + length),
    );
  expect(await store.get('r14/orders/2026-01-01/a', bytes.length - 2, 9)).toHaveLength(2);
  expect(await store.get('r14/orders/2026-01-01/empty', 0, 9)).toHaveLength(0);
  expect(await store.get('r14/orders/2026-01-01/b', 0, 1)).toBeUndefined();
  expect(await store.get('r15/none', 0, 1)).toBeUndefined();
});

test.each(Object.keys(stores))('%s: a name is written once, and the first bytes stay', async (name) => {
  const store = await stores[name]!();
  await store.put('a/b', Buffer.from('first'));
  await expect(store.put('a/b', Buffer.from('second'))).rejects.toMatchObject({ code: 'UNEXPECTED', retriable: false });
  const many = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => store.put('a/c', Buffer.from(`${i}`))));
  const winner = many.findIndex(({ status }) => status === 'fulfilled');
  expect(many.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  expect(Buffer.from((await store.get('a/b', 0, 9))!).toString()).toBe('first');
  expect(Buffer.from((await store.get('a/c', 0, 9))!).toString()).toBe(`${winner}`);
});

test('what is put is a copy', async () => {
  const store = memoryObjects();
  const bytes = Buffer.of(1);
  await store.put('a', bytes);
  bytes[0] = 2;
  expect(await store.get('a', 0, 1)).toEqual(Uint8Array.of(1));
});

test('nothing but whole objects is left, also after a refused put', async () => {
  const directory = await newDirectory();
  const store = directoryObjects(directory);
  await store.put('x/y/a', Buffer.from('a'));
  await store.put('x/y/a', Buffer.from('b')).catch(() => {});
  await writeFile(join(directory, 'file'), '');
  await expect(store.put('file/a', Buffer.from('a'))).rejects.toMatchObject({ code: 'UNAVAILABLE', retriable: true });
  await expect(store.get('x/y', 0, 1)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect((await filesOf(directory)).sort()).toEqual(['a', 'file']);
});

test('an object that somebody cut is shorter than what is asked for', async () => {
  const directory = await newDirectory();
  const store = directoryObjects(directory);
  await store.put('a', Buffer.from('0123456789'));
  await truncate(join(directory, 'a'), 4);
  expect(await store.get('a', 2, 8)).toHaveLength(2);
});

const objectsModule = new URL('../../../shared/log/directory-objects.ts', import.meta.url).href;
const child = (code: string, args: readonly string[]) => [
  '--input-type=module',
  '-e',
  `const { directoryObjects } = await import(${JSON.stringify(objectsModule)});\n${code}`,
  ...args,
];

test('a process that is killed while it puts leaves each name whole or not there', async () => {
  const directory = await newDirectory();
  const putting = spawn(
    process.execPath,
    child(
      `const store = directoryObjects(process.argv[1]);
       for (let n = 0; ; n++) {
         await Promise.all([0, 1, 2, 3].map((i) => store.put('d/' + n + '-' + i, Buffer.alloc(300_000, 'x'))));
         process.stdout.write('x');
       }`,
      [directory],
    ),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let acknowledged = 0;
  await new Promise<void>((resolve) => {
    putting.stdout.on('data', (chunk: Buffer) => {
      acknowledged += chunk.length;
      if (acknowledged >= 5) resolve();
    });
  });
  putting.kill('SIGKILL');
  await once(putting, 'close');
  const store = directoryObjects(directory);
  const names = (await filesOf(directory)).filter((name) => !name.endsWith('.tmp'));
  expect(names.length).toBeGreaterThanOrEqual(4 * acknowledged);
  for (const name of names) expect(await store.get(`d/${name}`, 0, 400_000)).toHaveLength(300_000);
});

/** A file system of 1 MB in a namespace of its own, where the machine lets us make one. */
const mountFull = ['-rm', 'sh', '-c', 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'];
const canMount = spawnSync('unshare', [...mountFull, tmpdir(), 'true']).status === 0;

test.runIf(canMount)('a full disk is UNAVAILABLE and says so; what was there stays, nothing half is left', async () => {
  const directory = await newDirectory();
  const { stdout, stderr } = spawnSync(
    'unshare',
    [
      ...mountFull,
      directory,
      process.execPath,
      ...child(
        `const { readdirSync } = await import('node:fs');
         const store = directoryObjects(process.argv[1]);
         await store.put('small', Buffer.alloc(1000));
         const error = await store.put('large', Buffer.alloc(2_000_000)).catch((thrown) => thrown);
         const { code, retriable, message } = error;
         await store.put('again', Buffer.alloc(500_000));
         console.log(JSON.stringify({ code, retriable, message, files: readdirSync(process.argv[1]).sort() }));`,
        [directory],
      ),
    ],
    { encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({
    code: 'UNAVAILABLE',
    retriable: true,
    message: expect.stringContaining('the disk is full'),
    files: ['again', 'small'],
  });
});

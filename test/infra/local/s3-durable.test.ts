import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startS3 } from '../../../infra/local/s3.ts';
import { s3Client } from '../../../shared/s3/client.ts';
import { temporaryDirectory } from './app.ts';

const address = (path: string): string => JSON.stringify(new URL(`../../../${path}`, import.meta.url).href);

/** Code in a process of its own, with a server over the directory that it is given and a client of it. */
const child = (code: string, directory: string): readonly string[] => [
  '--input-type=module',
  '-e',
  `const { startS3 } = await import(${address('infra/local/s3.ts')});
   const { s3Client } = await import(${address('shared/s3/client.ts')});
   const { endpoint } = await startS3({ root: process.argv[1] });
   const s3 = s3Client({ endpoint, region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }, firstDelayMs: 1 });
   ${code}`,
  directory,
];

test('a host that is killed while objects are put leaves each key whole or not there', async () => {
  const root = await temporaryDirectory();
  await mkdir(join(root, 'bucket'));
  const putting = spawn(
    process.execPath,
    child(
      `for (let n = 0; ; n++) {
         await Promise.all([0, 1, 2, 3].map((i) => s3.put('bucket', 'd/' + n + '-' + i, Buffer.alloc(300_000, 'x'), { ifAbsent: i % 2 === 0 })));
         process.stdout.write('x');
       }`,
      root,
    ),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  onTestFinished(() => void putting.kill('SIGKILL'));
  let acknowledged = 0;
  await new Promise<void>((resolve) => {
    putting.stdout.on('data', (chunk: Buffer) => {
      acknowledged += chunk.length;
      if (acknowledged >= 5) resolve();
    });
  });
  putting.kill('SIGKILL');
  await once(putting, 'close');

  const server = await startS3({ root });
  onTestFinished(() => server.stop());
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const s3 = s3Client({ endpoint: server.endpoint, region: 'us-east-1', credentials });
  let objects = 0;
  for await (const page of s3.list('bucket', '')) {
    objects += page.length;
    for (const { size } of page) expect(size).toBe(300_000);
  }
  expect(objects).toBeGreaterThanOrEqual(4 * acknowledged);
  expect(await readdir(join(root, 'bucket'))).toEqual(['d']);
});

/** A file system of 1 MB in a namespace of its own, where the machine lets us make one. */
const mountFull = ['-rm', 'sh', '-c', 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'];
const canMount = spawnSync('unshare', [...mountFull, tmpdir(), 'true']).status === 0;

test.runIf(canMount)('a full disk is UNAVAILABLE and says so; what was there stays, nothing half is left', async () => {
  const root = await temporaryDirectory();
  const { stdout, stderr } = spawnSync(
    'unshare',
    [
      ...mountFull,
      root,
      process.execPath,
      ...child(
        `const { mkdirSync, readdirSync } = await import('node:fs');
         mkdirSync(process.argv[1] + '/bucket');
         await s3.put('bucket', 'small', Buffer.alloc(1000));
         const error = await s3.put('bucket', 'large', Buffer.alloc(2_000_000)).catch((thrown) => thrown);
         const { code, retriable, message } = error;
         await s3.put('bucket', 'again', Buffer.alloc(500_000));
         const [objects, staged] = ['bucket', '.staging'].map((name) => readdirSync(process.argv[1] + '/' + name).sort());
         console.log(JSON.stringify({ code, retriable, message, objects, staged }));
         process.exit();`,
        root,
      ),
    ],
    { encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({
    code: 'UNAVAILABLE',
    retriable: true,
    message: expect.stringContaining('the disk is full'),
    objects: ['again', 'small'],
    staged: [],
  });
});

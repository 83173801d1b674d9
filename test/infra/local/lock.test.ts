import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { link, open, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { acquireLock } from '../../../infra/local/lock.ts';
import { temporaryDirectory } from './app.ts';

const MODULE = new URL('../../../infra/local/lock.ts', import.meta.url).href;

/** A process that holds the lock until it is killed. */
async function holder(stateDir: string) {
  const code = `import { acquireLock } from '${MODULE}'; await acquireLock(process.argv[1]); console.log('held'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code, stateDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return child;
}

test('a second run is refused while the first lives, and takes over when it was killed', async () => {
  const stateDir = await temporaryDirectory();
  const first = await holder(stateDir);
  await expect(acquireLock(stateDir)).rejects.toThrow(
    `another run (pid ${first.pid}) uses ${stateDir}; stop it or pass --state DIR`,
  );
  first.kill('SIGKILL');
  await once(first, 'exit');
  const lock = await acquireLock(stateDir);
  await lock.release();
});

test('a released lock is free, and old files do not pile up', async () => {
  const stateDir = await temporaryDirectory();
  for (let round = 0; round < 3; round += 1) {
    const lock = await acquireLock(stateDir);
    await expect(acquireLock(stateDir)).rejects.toThrow(`another run (pid ${process.pid})`);
    await lock.release();
  }
  expect(await readdir(stateDir)).toEqual(['lock.3']);
});

test.each([
  ['of an earlier boot', { pid: process.pid, bootId: 'another', startTime: '1' }],
  ['whose pid was reused', { pid: process.pid, startTime: '1' }],
])('a lock %s is taken over', async (_name, recorded) => {
  const stateDir = await temporaryDirectory();
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  await writeFile(join(stateDir, 'lock.7'), JSON.stringify({ bootId, ...recorded }));
  await acquireLock(stateDir);
  expect(await readdir(stateDir)).toEqual(['lock.8']);
});

test('of many that find the same stale lock, one gets it', async () => {
  const stateDir = await temporaryDirectory();
  await writeFile(join(stateDir, 'lock.1'), JSON.stringify({ pid: 1, bootId: 'another', startTime: '1' }));
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => acquireLock(stateDir)));
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
});

test('one that was suspended while it looked, and sleeps through two takeovers, does not get it', async () => {
  const stateDir = await temporaryDirectory();
  // Reading the lock file blocks until somebody writes to the pipe: the contender stands still between its look and its claim.
  const pipe = join(stateDir, 'pipe');
  execFileSync('/bin/sh', ['-c', 'mkfifo "$0"', pipe]);
  await link(pipe, join(stateDir, 'lock.1'));
  const suspended = acquireLock(stateDir);
  const writer = await open(pipe, 'w');
  await writeFile(join(stateDir, 'lock.2'), JSON.stringify({ released: true }));
  await acquireLock(stateDir);
  await writer.writeFile(JSON.stringify({ released: true }));
  await writer.close();
  await expect(suspended).rejects.toThrow(`another run (pid ${process.pid})`);
  expect((await readdir(stateDir)).filter((name) => name.startsWith('lock.'))).toEqual(['lock.3']);
});

import { execFileSync } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { batchOf } from '../../../../shared/connect/build.ts';
import type { Prepared } from '../../../../shared/connect/connector.ts';
import { openSink } from './put.ts';
import { readRows, stagedFiles, temporaryDirectory, visibleFiles } from './read-files.ts';

/** Mounting takes root, which only a CI container may lack; there the skip is shown in the report. */
const canMount = process.getuid?.() === 0;
if (!canMount && process.env.CI === undefined)
  throw new Error('this test mounts a tmpfs to fill a disk: run it as root, or set CI to skip it');

const run = (command: string, ...args: string[]) => execFileSync(command, args);

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
beforeAll(async () => {
  if (!canMount) return;
  directory = await temporaryDirectory();
  run('mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', directory.path);
});
afterAll(async () => {
  if (!canMount) return;
  run('umount', directory.path);
  await directory.remove();
});

const context = (prepared: Prepared[]) => ({
  offsets: [],
  epoch: 1,
  signal: new AbortController().signal,
  reject: async () => {},
  commit: async (row: Prepared) => void prepared.push(row),
});

test.runIf(canMount)('a full disk commits nothing, shows nothing, leaves nothing, and may be tried again', async () => {
  const { path } = directory;
  await writeFile(join(path, 'ballast'), Buffer.alloc(10 * 1024 * 1024));
  const records = ['small', 'large'].flatMap((topic) =>
    Array.from({ length: 1000 }, (_, id) => ({
      topic,
      value: { id, text: 'x'.repeat(topic === 'small' ? 10 : 8000) },
    })),
  );
  const task = await openSink({ path });
  const prepared: Prepared[] = [];
  await expect(task.put(batchOf(records), context(prepared))).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    blame: 'system',
    retriable: true,
    message: expect.stringMatching(/cannot write .*\.staging.*: no space is left on the device; free some \(ENOSPC\)/),
  });
  expect(prepared).toEqual([]);
  expect(await stagedFiles(path)).toEqual([]);
  expect(await visibleFiles(path)).toEqual(['ballast']);

  await rm(join(path, 'ballast'));
  expect(await task.put(batchOf(records), context(prepared))).toEqual({ committed: true });
  expect(await readRows(path)).toHaveLength(2000);
});

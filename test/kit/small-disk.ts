import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Mounting takes root, which only a CI container may lack; there the skip is shown in the report. */
export const canMount = process.getuid?.() === 0;
if (!canMount && process.env.CI === undefined)
  throw new Error('this test mounts a tmpfs to fill a disk: run it as root, or set CI to skip it');

export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
  /** Leaves so many bytes free. */
  fill(freeBytes: number): Promise<void>;
  empty(): Promise<void>;
}

/** A disk of 16 MB. */
export const smallDisk = async (): Promise<SmallDisk> => {
  const path = await mkdtemp(join(tmpdir(), 'sluice-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m,mode=755', 'tmpfs', path]);
  const ballast = join(path, 'ballast');
  return {
    path,
    async fill(freeBytes) {
      const { bavail, bsize } = await statfs(path);
      await writeFile(ballast, Buffer.alloc(bavail * bsize - freeBytes));
    },
    empty: () => rm(ballast, { force: true }),
    async [Symbol.asyncDispose]() {
      execFileSync('umount', [path]);
      await rm(path, { recursive: true });
    },
  };
};

import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { link, mkdir, readdir, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConnectError } from '../../shared/connect/errors.ts';
import { isAlive, type ProcessIdentity, processIdentity } from './process-identity.ts';
import { readStateFile, writeStateFile } from './state-file.ts';

export interface Lock {
  release(): Promise<void>;
}

interface LockFile extends Partial<ProcessIdentity> {
  released?: true;
}

/**
 * One run per state directory. Lock files are numbered and the highest is the lock; it is never removed, only outnumbered. So of two
 * processes that find the same stale lock n, one creates n+1 and the other fails, and one that was suspended in between finds a higher number.
 */
export async function acquireLock(stateDir: string): Promise<Lock> {
  await mkdir(stateDir, { recursive: true });
  const self = processIdentity(process.pid);
  if (!self) throw new Error(`cannot lock ${stateDir}: this process (pid ${process.pid}) is not visible in /proc`);
  for (;;) {
    const highest = (await lockNumbers(stateDir)).at(-1);
    if (highest !== undefined) await refuseLiveHolder(stateDir, highest);
    const mine = (highest ?? 0) + 1;
    if (!(await createLockFile(stateDir, mine, self))) continue;
    const numbers = await lockNumbers(stateDir);
    if (numbers.at(-1) !== mine) {
      await unlink(lockPath(stateDir, mine));
      continue;
    }
    for (const number of numbers) if (number < mine) await removeIfPresent(lockPath(stateDir, number));
    return { release: () => writeStateFile(lockPath(stateDir, mine), { released: true }) };
  }
}

/** Throws where another run uses the directory. Only the lock itself keeps one from starting right after. */
export async function requireUnlocked(stateDir: string): Promise<void> {
  if (!existsSync(stateDir)) return;
  const highest = (await lockNumbers(stateDir)).at(-1);
  if (highest !== undefined) await refuseLiveHolder(stateDir, highest);
}

async function refuseLiveHolder(stateDir: string, number: number): Promise<void> {
  const holder = (await readStateFile(lockPath(stateDir, number))) as LockFile | undefined;
  if (!holder || holder.released) return;
  const { pid, bootId, startTime } = holder;
  if (pid === undefined || bootId === undefined || startTime === undefined) {
    throw new Error(`${lockPath(stateDir, number)} is not a lock of this program; remove it or pass --state DIR`);
  }
  if (isAlive({ pid, bootId, startTime })) {
    throw new ConnectError('STATE_CONFLICT', `another run (pid ${pid}) uses ${stateDir}; stop it or pass --state DIR`);
  }
}

/** Created with its content in one step (link is exclusive), so nobody ever reads a half-written lock. */
async function createLockFile(stateDir: string, number: number, self: ProcessIdentity): Promise<boolean> {
  const temporary = join(stateDir, `lock-${randomUUID()}`);
  await writeFile(temporary, JSON.stringify(self));
  try {
    await link(temporary, lockPath(stateDir, number));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await unlink(temporary);
  }
}

async function lockNumbers(stateDir: string): Promise<number[]> {
  const names = await readdir(stateDir);
  return names
    .map((name) => /^lock\.(\d+)$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

function lockPath(stateDir: string, number: number): string {
  return join(stateDir, `lock.${number}`);
}

async function removeIfPresent(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

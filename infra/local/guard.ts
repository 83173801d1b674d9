import { type ChildProcess, spawn } from 'node:child_process';

/**
 * Waits on a pipe that closes when this process ends in any way, SIGKILL included, and then kills the other one. To be killed itself
 * once the other one has ended.
 */
export const guardAgainstOurDeath = (pid: number | undefined): ChildProcess => {
  const guard = spawn('/bin/sh', ['-c', 'read -r _; kill -9 "$0"', String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  // Without a shell the server is on its own.
  guard.once('error', () => {});
  guard.unref();
  return guard;
};

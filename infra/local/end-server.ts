import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** Ends a server by the signal, or kills it when it takes too long; then its guard has nothing left to guard. */
export const endServer = async (
  server: ChildProcess,
  guard: ChildProcess,
  signal: NodeJS.Signals,
  timeoutMs: number,
): Promise<void> => {
  if (server.pid !== undefined && server.exitCode === null && server.signalCode === null) {
    const exited = once(server, 'exit');
    server.kill(signal);
    const timer = setTimeout(() => server.kill('SIGKILL'), timeoutMs);
    await exited;
    clearTimeout(timer);
  }
  guard.kill('SIGKILL');
};

import { AsyncLocalStorage, createHook } from 'node:async_hooks';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { Process } from './faults.ts';

/** What may go wrong with one operation of a scheduled process; duplicates, sleep and reordering are what the schedule itself does. */
export const operationFaults = ['crash before', 'crash after', 'lost answer', 'unavailable'] as const;
export type OperationFault = (typeof operationFaults)[number];

export interface Scheduled extends Process {
  readonly name: string;
  /** Gone without another line run: whatever it waits for never comes. */
  kill(): void;
}

/** An operation that waits for its turn. */
export interface Waiting {
  readonly process: Scheduled;
  readonly name: string;
  /** Lets it happen, and waits until every process waits again or has ended. */
  go(fault?: OperationFault): Promise<void>;
}

/**
 * Several processes at once in one, a step at a time: each stops before each of its operations until it is let go. What happens is
 * decided by nothing but the order of the `go`s, so the same order replays a run exactly.
 */
export const createScheduler = () => {
  const waiting: Waiting[] = [];
  const trace: string[] = [];
  const alive = new Set<Scheduled>();
  const failures: unknown[] = [];
  const outside = trackOutside();

  const spawn = (name: string, main: (process: Scheduled) => Promise<unknown>): Promise<void> => {
    const gone = new AbortController();
    const process: Scheduled = {
      name,
      op: (operation, call) =>
        new Promise((resolve, reject) => {
          if (gone.signal.aborted) return;
          const turn: Waiting = {
            process,
            name: operation,
            go: (fault) => {
              waiting.splice(waiting.indexOf(turn), 1);
              return go(fault, operation, call, resolve, reject);
            },
          };
          waiting.push(turn);
        }),
      kill() {
        gone.abort();
        alive.delete(process);
        for (let i = waiting.length; i-- > 0; ) if (waiting[i]!.process === process) waiting.splice(i, 1);
      },
    };
    const go = async <T>(
      fault: OperationFault | undefined,
      operation: string,
      call: () => Promise<T>,
      resolve: (value: T) => void,
      reject: (error: unknown) => void,
    ): Promise<void> => {
      trace.push(`${name}: ${operation}${fault === undefined ? '' : ` (${fault})`}`);
      const unanswered = () =>
        reject(new ConnectError('UNAVAILABLE', `no answer to ${operation}`, { retriable: true }));
      if (fault === 'crash before') process.kill();
      else if (fault === 'unavailable') unanswered();
      else if (fault === 'crash after') outside.run(() => void call().then(process.kill, process.kill));
      else if (fault === 'lost answer') outside.run(() => void call().then(unanswered, reject));
      else outside.run(() => void call().then(resolve, reject));
      await outside.settled();
    };
    alive.add(process);
    outside.run(() => {
      main(process).then(
        (result) => {
          alive.delete(process);
          trace.push(`${name} ended: ${JSON.stringify((result as { outcome?: string } | undefined)?.outcome)}`);
        },
        (error: unknown) => {
          alive.delete(process);
          trace.push(`${name} threw: ${(error as Error).message}`);
          // The store did not answer a process that holds nothing: its trigger is lost, that is all.
          if (!(error instanceof ConnectError && error.retriable)) failures.push(error);
        },
      );
    });
    return outside.settled();
  };

  return { spawn, waiting, alive, trace, failures, stop: outside.stop };
};

/**
 * Work that no gate holds: the thread pool's compression, and short timers. Its number is what tells a process that computes from one
 * that waits; without it a step would end sooner or later by chance.
 */
const trackOutside = () => {
  const running = new AsyncLocalStorage<boolean>();
  /** What is left of each until it is done: small bodies, as the tests have, come back as a chunk and as an end. */
  const inFlight = new Map<number, number>();
  const hook = createHook({
    init(id, type) {
      if (running.getStore() !== true) return;
      if (type === 'ZLIB') inFlight.set(id, 2);
      if (type === 'Timeout') inFlight.set(id, 1);
    },
    before(id) {
      const left = inFlight.get(id);
      if (left === 1) inFlight.delete(id);
      else if (left !== undefined) inFlight.set(id, left - 1);
    },
    destroy: (id) => void inFlight.delete(id),
  });
  hook.enable();
  const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
  const settled = async (): Promise<void> => {
    while (inFlight.size > 0) await turn();
    // A stream hands on its last chunk some turns after its work is done, and what comes next may compute again.
    for (let i = 0; i < 3; i++) await turn();
    if (inFlight.size > 0) await settled();
  };
  return { run: (start: () => void) => running.run(true, start), settled, stop: () => void hook.disable() };
};

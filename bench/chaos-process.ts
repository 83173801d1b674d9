import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

/** What a host says of itself while it is up. */
interface Up {
  readonly dynamodbPid: number;
  readonly s3: string;
}

export interface HostProcessOptions {
  /** Of the next host: see `chaos-host.ts`. */
  readonly args: () => readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Told at the end of each host how often chaos did what. */
  readonly onChaos: (what: string, times: number) => void;
}

export interface HostProcess {
  readonly up: Up | undefined;
  /** Resolves when it is up, or has ended before. */
  start(): Promise<void>;
  /** Started again where it does not start, because something was killed under it. */
  startUp(): Promise<void>;
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>;
}

const mostTries = 5;

/** A host in a process that can be killed, one at a time. */
export const createHostProcess = ({ args, env, onChaos }: HostProcessOptions): HostProcess => {
  let child: ChildProcess | undefined;
  let up: Up | undefined;
  const isAlive = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null;

  const start = async (): Promise<void> => {
    const script = join(import.meta.dirname, 'chaos-host.ts');
    const started = spawn(process.execPath, [script, ...args()], { env, stdio: ['pipe', 'pipe', 'inherit'] });
    child = started;
    let chaos = '';
    createInterface({ input: started.stdout }).on('line', (line) => {
      ({ up, chaos } = JSON.parse(line) as { up: Up; chaos: string });
    });
    started.once('close', () => {
      up = undefined;
      const [, list = ''] = /^chaos with seed \d+: (.*)/.exec(chaos) ?? [];
      for (const [, times, what] of list.matchAll(/(\d+) ([^,]+)/g)) onChaos(what!, Number(times));
    });
    while (up === undefined && isAlive()) await delay(50);
  };

  return {
    get up() {
      return up;
    },
    start,
    async startUp() {
      for (let tries = 0; up === undefined; tries++) {
        if (tries === mostTries) throw new Error(`the host did not start ${mostTries} times`);
        await start();
      }
    },
    async end(signal) {
      if (!isAlive()) return;
      const closed = once(child!, 'close');
      child!.kill(signal);
      await closed;
    },
  };
};

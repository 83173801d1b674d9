import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DynamoDBClient, ListTablesCommand } from '@aws-sdk/client-dynamodb';
import { guardAgainstOurDeath } from './guard.ts';
import { freePort } from './listen.ts';
import { commandLineOf } from './process-identity.ts';
import { readStateFile, writeStateFile } from './state-file.ts';

export interface Dynamodb {
  endpoint: string;
  kind: 'embedded' | 'external';
  /** The embedded process that serves now; another after a restart. */
  readonly pid: number | undefined;
  stop(): Promise<void>;
}

export interface DynamodbOptions {
  stateDir: string;
  onLog: (line: string) => void;
}

const START_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 2_000;
const RESTART_DELAY_MS = { first: 50, longest: 2_000 };

/** What a client needs to reach the endpoint: an emulator wants credentials but never checks them. */
export function clientConfig(endpoint: string, region: string) {
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local' };
  return { endpoint, region, ...(process.env.AWS_ACCESS_KEY_ID ? {} : { credentials }) };
}

export async function startDynamodb(options: DynamodbOptions): Promise<Dynamodb> {
  const external = process.env.AWS_ENDPOINT_URL_DYNAMODB;
  if (external) {
    await requireAnswer(external);
    return { endpoint: external, kind: 'external', pid: undefined, stop: async () => {} };
  }
  return startEmbedded(options);
}

async function requireAnswer(endpoint: string): Promise<void> {
  const client = new DynamoDBClient(clientConfig(endpoint, process.env.AWS_REGION ?? 'us-east-1'));
  try {
    await client.send(new ListTablesCommand({ Limit: 1 }), { abortSignal: AbortSignal.timeout(START_TIMEOUT_MS) });
  } catch (cause) {
    throw new Error(
      `no DynamoDB answers at AWS_ENDPOINT_URL_DYNAMODB=${endpoint}; start it, or unset the variable to use the embedded one`,
      { cause },
    );
  } finally {
    client.destroy();
  }
}

async function startEmbedded({ stateDir, onLog }: DynamodbOptions): Promise<Dynamodb> {
  const binary = embeddedBinary();
  const file = join(stateDir, 'dynamodb.db');
  const record = join(stateDir, 'dynamodb.json');
  await killOrphan(record, file);
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  let stopping = false;
  let running: EmbeddedProcess;
  let supervision: Promise<void>;

  const start = async (): Promise<EmbeddedProcess> => {
    const started = spawnEmbedded(binary, ['serve', '--host', '127.0.0.1', '-p', String(port), '--db-path', file]);
    try {
      await writeStateFile(record, { pid: started.pid });
      await started.answers(endpoint);
    } catch (error) {
      await started.stop();
      throw error;
    }
    return started;
  };

  // Every acknowledged write was fsynced, so another process on the same file goes on where the dead one stopped.
  const supervise = async (): Promise<void> => {
    let delayMs = RESTART_DELAY_MS.first;
    for (;;) {
      const reason = await running.exited;
      if (stopping) return;
      onLog(`dynoxide ended (${reason}) and is started again on ${file}`);
      await delay(delayMs);
      if (stopping) return;
      try {
        running = await start();
        delayMs = RESTART_DELAY_MS.first;
      } catch (error) {
        onLog((error as Error).message);
        delayMs = Math.min(delayMs * 2, RESTART_DELAY_MS.longest);
      }
    }
  };

  running = await start();
  supervision = supervise();
  return {
    endpoint,
    kind: 'embedded',
    get pid() {
      return running.pid;
    },
    async stop() {
      stopping = true;
      await running.stop();
      await supervision;
      await running.stop();
    },
  };
}

interface EmbeddedProcess {
  pid: number;
  exited: Promise<string>;
  answers(endpoint: string): Promise<void>;
  stop(): Promise<void>;
}

function spawnEmbedded(binary: string, args: string[]): EmbeddedProcess {
  // Detached: the terminal's Ctrl-C goes to the host alone, which still needs its tables to end well.
  const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-2_000);
  });
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  const guard = child.pid === undefined ? undefined : guardAgainstOurDeath(child.pid);
  void exited.then(() => guard?.kill('SIGKILL'));
  return {
    pid: child.pid ?? 0,
    exited,
    async answers(endpoint) {
      const ended = exited.then((reason) => {
        throw new Error(`dynoxide did not start (${reason}): ${output.trim() || `${binary} ${args.join(' ')}`}`);
      });
      await Promise.race([untilHealthy(endpoint), ended]);
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await exited;
      clearTimeout(timer);
    },
  };
}

async function untilHealthy(endpoint: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline) {
    try {
      const answer = await fetch(endpoint, { signal: AbortSignal.timeout(1_000) });
      await answer.body?.cancel();
      if (answer.ok) return;
    } catch {
      // Not listening yet: the deadline decides.
    }
    await delay(5);
  }
  throw new Error(
    `dynoxide did not answer at ${endpoint} within ${START_TIMEOUT_MS / 1000} s; stop what slows the machine and start again`,
  );
}

/** An embedded process of a run that was killed together with its guard holds the file: it is ended, if it really is ours. */
async function killOrphan(record: string, file: string): Promise<void> {
  const { pid } = ((await readStateFile(record)) ?? {}) as { pid?: number };
  if (!pid || !commandLineOf(pid).includes(file)) return;
  process.kill(pid, 'SIGKILL');
  while (commandLineOf(pid).includes(file)) await delay(5);
}

function embeddedBinary(): string {
  try {
    const require = createRequire(import.meta.url);
    return join(dirname(require.resolve('@dynoxide/linux-x64/package.json')), 'dynoxide');
  } catch (cause) {
    throw new Error(
      `there is no embedded DynamoDB for ${process.platform} ${process.arch}: set AWS_ENDPOINT_URL_DYNAMODB to any DynamoDB endpoint, or install on linux x64`,
      { cause },
    );
  }
}

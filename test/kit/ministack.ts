import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort } from '../../infra/local/listen.ts';
import { until } from './until.ts';

/** An emulator of AWS: CloudFormation, Lambda with real node processes, S3, DynamoDB with streams, EventBridge. */
export interface Ministack {
  readonly endpoint: string;
  /** For programs that use an AWS SDK or the CDK. */
  readonly env: { readonly [name: string]: string };
  stop(): Promise<void>;
}

/** Beside it what Lambda's Python has: a function of the CDK that connects buckets to functions asks for boto3. */
const packages = ['ministack==1.5.33', 'boto3==1.43.106', 'botocore==1.43.106'];
/** Outside of the repository, and kept: it is 90 MB. */
const installed = join(tmpdir(), `sluice-${packages.join('-').replaceAll('==', '-')}`);
const modules = fileURLToPath(new URL('../../node_modules', import.meta.url));
const run = promisify(execFile);

/** Of its own: random port, own directory, nothing in it. */
export const startMinistack = async (): Promise<Ministack> => {
  await install();
  const directory = await mkdtemp(join(tmpdir(), 'sluice-aws-'));
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const server = await serve(directory, port);
  let output = '';
  for (const stream of [server.stdout!, server.stderr!])
    stream.on('data', (chunk: Buffer) => {
      output = `${output}${chunk}`.slice(-4_000);
    });
  const orphan = () => killGroup(server);
  process.once('exit', orphan);
  const stop = async () => {
    const ended = server.exitCode === null && server.signalCode === null ? once(server, 'exit') : undefined;
    server.kill('SIGTERM');
    await Promise.race([ended, delay(10_000, undefined, { ref: false })]);
    killGroup(server);
    process.off('exit', orphan);
    await ended;
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await until(
      async () => {
        if (server.exitCode !== null) throw new Error(`ministack ended with ${server.exitCode}: ${output}`);
        return fetch(`${endpoint}/_ministack/health`).then(
          (answer) => answer.ok,
          () => false,
        );
      },
      { timeoutMs: 60_000 },
    );
  } catch (cause) {
    await stop();
    throw cause;
  }
  const env = {
    AWS_ENDPOINT_URL: endpoint,
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
  };
  return { endpoint, env, stop };
};

const serve = async (directory: string, port: number): Promise<ChildProcess> => {
  for (const name of ['s3', 'state']) await mkdir(join(directory, name));
  const server = spawn(join(installed, 'bin', 'python'), ['-m', 'ministack'], {
    cwd: directory,
    // A group of its own: what its functions started ends with it.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      // Functions run by the project's own Node; the CDK's own find the SDK as they would on AWS.
      PATH: [join(modules, '.bin'), process.env.PATH].join(delimiter),
      NODE_PATH: modules,
      HOME: directory,
      TMPDIR: directory,
      BIND_HOST: '127.0.0.1',
      GATEWAY_PORT: String(port),
      MINISTACK_HOST: '127.0.0.1',
      MINISTACK_REGION: 'us-east-1',
      LAMBDA_EXECUTOR: 'local',
      S3_DATA_DIR: join(directory, 's3'),
      STATE_DIR: join(directory, 'state'),
    },
  });
  await once(server, 'spawn');
  return server;
};

const killGroup = ({ pid }: ChildProcess): void => {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ESRCH') throw thrown;
  }
};

/** Whole or not there, so that tests that start at the same time do not meet in a half of it. */
const install = async (): Promise<void> => {
  if (existsSync(installed)) return;
  const own = `${installed}.${randomUUID()}`;
  try {
    await run('python3', ['-m', 'venv', own]);
    await run(join(own, 'bin', 'python'), ['-m', 'pip', 'install', '--quiet', ...packages]);
    await rename(own, installed);
  } catch (cause) {
    await rm(own, { recursive: true, force: true });
    // Another test was quicker.
    if (existsSync(installed)) return;
    const { stderr, message } = cause as Error & { readonly stderr?: string };
    throw new Error(`ministack could not be installed, which needs python3 with venv, and PyPI: ${stderr || message}`, {
      cause,
    });
  }
};

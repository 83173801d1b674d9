import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { until } from './until.ts';

const program = fileURLToPath(new URL('../../infra/cli/sluice.js', import.meta.url));
export const repository = fileURLToPath(new URL('../..', import.meta.url));

/** How a command ended. */
export interface Ended {
  /** Undefined where a signal ended it. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** The one line that `--json` prints. */
export interface Envelope {
  readonly command: string;
  readonly ok: boolean;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
}

/** A command that runs. */
export interface Running {
  readonly pid: number;
  readonly ended: Promise<Ended>;
  /** Everything that it has written by now. */
  output(): string;
  kill(signal: NodeJS.Signals): void;
}

/** A directory that a test runs the command line in: relative paths start here, and all its processes are found by it. */
export interface Workplace extends AsyncDisposable {
  readonly directory: string;
  path(name: string): string;
  file(name: string, content: string): Promise<string>;
  start(args: readonly string[], env?: Readonly<Record<string, string>>): Running;
  sluice(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Ended>;
  /** Every process that was started here and runs: functions, databases, guards. */
  processes(): readonly number[];
}

const stateOption = ['--state', 'state'];

/** `parent` is another place than the temporary directory, such as a small disk. */
export const makeWorkplace = async (parent = tmpdir()): Promise<Workplace> => {
  const directory = await mkdtemp(join(parent, 'sluice-e2e-'));
  // As root, an embedded PostgreSQL runs as nobody, who has to get in.
  await chmod(directory, 0o755);
  const start = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Running => {
    const [PATH, HOME, TMPDIR] = ['PATH', 'HOME', 'TMPDIR'].map((name) => process.env[name]);
    const child = spawn(process.execPath, [program, ...args, ...(args.includes('--state') ? [] : stateOption)], {
      cwd: directory,
      // Its name in the environment is how what it starts is found again, whoever is its parent by then.
      env: { PATH, HOME, TMPDIR, SLUICE_TEST_DIRECTORY: directory, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // A test that runs out of time leaves nothing running either.
    const orphan = () => void child.kill('SIGKILL');
    process.once('exit', orphan);
    child.once('exit', () => process.off('exit', orphan));
    const text = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      child[name].setEncoding('utf8').on('data', (chunk: string) => {
        text[name] += chunk;
      });
    const ended = once(child, 'close').then(([code]) => ({ code: code ?? undefined, ...text }) as Ended);
    return {
      pid: child.pid!,
      ended,
      output: () => text.stdout + text.stderr,
      kill: (signal) => void child.kill(signal),
    };
  };
  const processes = () => processesOf(directory);
  return {
    directory,
    path: (name) => join(directory, name),
    async file(name, content) {
      await writeFile(join(directory, name), content);
      return join(directory, name);
    },
    start,
    sluice: (args, env) => start(args, env).ended,
    processes,
    async [Symbol.asyncDispose]() {
      for (const pid of processes()) killIfThere(pid);
      await until(() => processes().length === 0);
      await rm(directory, { recursive: true, force: true });
    },
  };
};

/** The processes that have the directory in their command line, environment or working directory. */
const processesOf = (directory: string): readonly number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && isOf(pid, directory));

const isOf = (pid: number, directory: string): boolean => {
  try {
    const read = (name: string) => readFileSync(`/proc/${pid}/${name}`, 'utf8');
    // A process that has ended and that nobody has collected yet does not run.
    if (/^State:\s+Z/m.test(read('status'))) return false;
    return [read('cmdline'), read('environ'), readlinkSync(`/proc/${pid}/cwd`)].some((text) =>
      text.includes(directory),
    );
  } catch {
    return false;
  }
};

export const killIfThere = (pid: number, signal: NodeJS.Signals = 'SIGKILL'): void => {
  try {
    process.kill(pid, signal);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ESRCH') throw thrown;
  }
};

export const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
};

/** The answer of a command with `--json`: one line, always of one shape. */
export const envelopeOf = ({ stdout, stderr }: Ended): Envelope => {
  const lines = stdout.trimEnd().split('\n');
  expect(lines, stderr).toHaveLength(1);
  const envelope = JSON.parse(lines[0]!) as Envelope;
  expect(Object.keys(envelope)).toEqual([
    'command',
    'ok',
    envelope.ok || envelope.error === undefined ? 'result' : 'error',
  ]);
  return envelope;
};

/** What a person reads when it went wrong: never a stack trace. */
export const messageOf = ({ stdout, stderr }: Ended): string => {
  const text = stdout + stderr;
  expect(text).not.toMatch(/^\s+at .*(:\d+|\))$/m);
  return text;
};

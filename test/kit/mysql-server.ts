import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guardAgainstOurDeath } from '../../infra/local/guard.ts';
import { freePort } from '../../infra/local/listen.ts';
import { type Flavour, type Installed, installMysql } from './install-mysql.ts';

/** A MySQL or MariaDB server of a test, with one account that may do everything. */
export interface MysqlServer {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
  /** It dies at once, without a goodbye to anybody. */
  kill9(): Promise<void>;
  /** Starts it again with the same data on the same port, whether it was killed or still runs. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;
/** The password holds what SQL and a shell trip over. */
const login = { host: '127.0.0.1', database: 'sluice', user: 'sluice', password: "p'w\\ d/%" };

/** The row format of change capture; what a test writes must outlive a killed process, not a power cut. */
const settings = {
  common: [
    ...['--server-id=1', '--log-bin=binlog', '--binlog-format=ROW', '--binlog-row-image=FULL'],
    ...['--binlog-row-metadata=FULL', '--sync-binlog=0', '--innodb-flush-log-at-trx-commit=2'],
    ...['--local-infile=1', '--character-set-server=utf8mb4', '--skip-name-resolve', '--bind-address=127.0.0.1'],
    ...['--innodb-buffer-pool-size=32M', '--innodb-log-file-size=8M', '--performance-schema=OFF'],
  ],
  mariadb: ['--gtid-strict-mode=ON', '--innodb-log-buffer-size=4M'],
  mysql: ['--gtid-mode=ON', '--enforce-gtid-consistency=ON', '--mysqlx=0', '--table-open-cache=400'],
};

/** What MariaDB's own script feeds its server, which needs programs of the client to do it. */
const systemTables = ['system_tables', 'performance_tables', 'system_tables_data'];

/** Starts a server: its own data in the temporary directory, any free port; both are gone after `stop`. `more` wins over the settings. */
export const startMysql = async (flavour: Flavour, more: readonly string[] = []): Promise<MysqlServer> => {
  const installed = await installMysql(flavour);
  const directory = await mkdtemp(join(tmpdir(), `sluice-${flavour}-`));
  const remove = () => rm(directory, { recursive: true, force: true });
  try {
    const port = await freePort();
    const accounts = join(directory, 'accounts.sql');
    await writeFile(accounts, accountsSql());
    const data = [
      ...['--no-defaults', `--lc-messages-dir=${installed.share}`, `--datadir=${join(directory, 'data')}`],
      // Its own: MariaDB removes all temporary tables that it finds there when it starts, those of other servers too.
      `--tmpdir=${directory}`,
      ...(process.getuid?.() === 0 ? ['--user=root'] : []),
    ];
    const args = [
      ...[...data, `--port=${port}`, `--socket=${join(directory, 'socket')}`, `--init-file=${accounts}`],
      ...[...settings.common, ...settings[flavour], ...more],
    ];
    await initialize(flavour, installed, directory, data);
    let running = await spawnServer(installed, args);
    return {
      ...login,
      port,
      kill9: () => running.end('SIGKILL'),
      async restart() {
        await running.end('SIGKILL');
        running = await spawnServer(installed, args);
      },
      stop: () => running.end('SIGTERM').then(remove),
    };
  } catch (error) {
    await remove();
    throw error;
  }
};

/** Run at each start, one statement a line. None of it belongs in the log that change capture reads. */
const accountsSql = (): string => {
  const account = `'${login.user}'@'%'`;
  const password = login.password.replaceAll(/['\\]/g, '\\$&');
  return [
    'SET sql_log_bin = 0;',
    `CREATE DATABASE IF NOT EXISTS ${login.database};`,
    `CREATE USER IF NOT EXISTS ${account} IDENTIFIED BY '${password}';`,
    `GRANT ALL ON *.* TO ${account} WITH GRANT OPTION;\n`,
  ].join('\n');
};

const initialize = async (flavour: Flavour, installed: Installed, directory: string, data: readonly string[]) => {
  await mkdir(join(directory, 'data'));
  // The server's log files keep the size that they are made with.
  const args = [...data, '--innodb-buffer-pool-size=32M', '--innodb-log-file-size=8M'];
  if (flavour === 'mysql') return run(installed, [...args, '--initialize-insecure'], '');
  const files = await readdir(installed.share);
  const texts = systemTables.map((name) => {
    const file = files.find((one) => one === `mysql_${name}.sql` || one === `mariadb_${name}.sql`);
    return readFile(join(installed.share, file!), 'utf8');
  });
  const before = ['CREATE DATABASE mysql;', 'USE mysql;', 'SET @auth_root_socket = NULL;'];
  await run(installed, [...args, '--bootstrap'], [...before, ...(await Promise.all(texts))].join('\n'));
};

/** Runs the server's program to its end. */
const run = async ({ program, env }: Installed, args: readonly string[], input: string): Promise<void> => {
  const child = spawn(program, args, { env, stdio: ['pipe', 'ignore', 'pipe'] });
  const log = logOf(child);
  const ended = once(child, 'close');
  child.stdin.end(input);
  const [code] = await ended;
  if (code !== 0) throw new Error(`${program} did not make its data: ${log()}`);
};

interface Running {
  end(signal: NodeJS.Signals): Promise<void>;
}

/** Resolves when the server takes connections. */
const spawnServer = async ({ program, env }: Installed, args: readonly string[]): Promise<Running> => {
  const server = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const guard = guardAgainstOurDeath(server.pid);
  const problem = await untilReady(server);
  if (problem === undefined) return { end: (signal) => end(server, guard, signal) };
  await end(server, guard, 'SIGKILL');
  throw new Error(`${program} did not start: ${problem}`);
};

/** Why the server did not come up; undefined once it did. Afterwards the log is read and dropped. */
const untilReady = (server: ChildProcess): Promise<string | undefined> =>
  new Promise((resolve) => {
    const log = logOf(server);
    const timer = setTimeout(() => settle(`no answer within ${START_TIMEOUT_MS} ms: ${log()}`), START_TIMEOUT_MS);
    const settle = (outcome: string | undefined) => {
      clearTimeout(timer);
      resolve(outcome);
    };
    server.once('error', (error) => settle(error.message));
    server.once('close', () => settle(log()));
    server.stderr!.on('data', () => {
      if (log().includes('ready for connections')) settle(undefined);
    });
  });

const logOf = (server: ChildProcess): (() => string) => {
  let log = '';
  server.stderr!.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-4_000);
  });
  return () => log;
};

const end = async (server: ChildProcess, guard: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
  if (server.pid !== undefined && server.exitCode === null && server.signalCode === null) {
    const exited = once(server, 'exit');
    server.kill(signal);
    const timer = setTimeout(() => server.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }
  guard.kill('SIGKILL');
};

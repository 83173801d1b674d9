import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PostgresServer, runPostgres } from '../../infra/local/embedded-postgres.ts';

export type { PostgresServer };

/** A server for a test: its own data in the temporary directory, any free port; both are gone after `stop`. */
export const startPostgres = async (
  settings: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<PostgresServer> => {
  const directory = await mkdtemp(join(tmpdir(), 'sluice-postgres-'));
  const remove = () => rm(directory, { recursive: true, force: true });
  try {
    // What a test writes must outlive a killed process, not a power cut. The password holds what a URL and a shell trip over.
    const server = await runPostgres({ directory, password: "p'w\\ d/%", settings: ['fsync=off', ...settings], env });
    return { ...server, stop: () => server.stop().then(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
};

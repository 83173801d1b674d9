import { join } from 'node:path';
import { runPostgres } from '../local/embedded-postgres.ts';
import type { PipelineModel } from '../pipeline-model.ts';

/** What a pipeline needs beside the platform, for the time of a run. */
export interface Services {
  readonly env: Record<string, string>;
  readonly notes: readonly string[];
  stop(): Promise<void>;
}

const postgresVariable = 'SLUICE_POSTGRES_URL';

/**
 * A pipeline that names `${env:SLUICE_POSTGRES_URL}` gets an embedded PostgreSQL where the variable is not set: the examples run with
 * nothing else installed.
 */
export const startServices = async (pipelines: readonly PipelineModel[], stateDir: string): Promise<Services> => {
  const wanted = JSON.stringify(pipelines).includes(`\${env:${postgresVariable}}`);
  const given = process.env[postgresVariable];
  if (!wanted || given !== undefined)
    return { env: given === undefined ? {} : { [postgresVariable]: given }, notes: [], stop: async () => {} };
  const server = await runPostgres({ directory: join(stateDir, 'postgres') });
  return {
    env: { [postgresVariable]: server.url },
    notes: [`postgres: embedded, at ${server.url} while this runs; set ${postgresVariable} to use your own`],
    stop: () => server.stop(),
  };
};

import { once } from 'node:events';
import { type Answer, exitCodes, writeLine } from './output.ts';
import { type RunOptions, startLocal } from './run.ts';

/** Runs pipelines until they are stopped: schedules fire, sinks are woken by data, the coordinator sweeps. */
export const dev = async (files: readonly string[], options: RunOptions, interrupted: AbortSignal): Promise<Answer> => {
  await using local = await startLocal(files, options.state, writeLine, { fireAtStart: true, print: true });
  writeLine(`functions at ${local.host.lambdaEndpoint}; \`sluice status\` in another terminal, Ctrl-C to stop`);
  if (!interrupted.aborted) await once(interrupted, 'abort');
  return { lines: ['stopped: the next start goes on from here'], exitCode: exitCodes.interrupted };
};

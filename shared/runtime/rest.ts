import type { SourceTask } from '../connect/connector.ts';
import type { RunRequest } from './run.ts';

/** Between two polls that find nothing: doubled from one to the next. */
const restMs = { first: 50, longest: 1_000 };
/** How often a run that has nothing to write looks whether its connector was paused, stopped or changed. */
const lookMs = 5_000;

/**
 * What a continuous run does between two polls: nothing after one that found something, else it waits, as the source knows to. `stop`: its time is over.
 * `superseded`: the connector is no more as it was.
 */
export const restBetweenPolls = (
  { clock, stop, stillCurrent }: Pick<RunRequest, 'clock' | 'stop' | 'stillCurrent'>,
  source: Pick<SourceTask<unknown>, 'wait'>,
) => {
  let waitMs = restMs.first;
  let lookedAtMs = clock.now();
  return async (found: boolean): Promise<'poll' | 'stop' | 'superseded'> => {
    if (stop.aborted) return 'stop';
    if (clock.now() - lookedAtMs >= lookMs) {
      lookedAtMs = clock.now();
      if (!(await stillCurrent())) return 'superseded';
    }
    if (found) {
      waitMs = restMs.first;
      return 'poll';
    }
    const waited = source.wait?.(restMs.longest, stop) ?? clock.delay(waitMs, stop);
    await waited.catch((thrown: unknown) => {
      if (!stop.aborted) throw thrown;
    });
    waitMs = Math.min(waitMs * 2, restMs.longest);
    return stop.aborted ? 'stop' : 'poll';
  };
};

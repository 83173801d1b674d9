import { delay } from '../connect/backoff.ts';

/** Time as the runner sees it; a simulation brings its own. */
export interface Clock {
  now(): number;
  /** Rejects with the signal's reason when it aborts. */
  delay(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = { now: Date.now, delay };

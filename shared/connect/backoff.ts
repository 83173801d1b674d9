/** Full-jitter exponential backoff: a random time up to `baseMs · 2^(attempt-1)`, at most `maxMs`. `attempt` counts from 1. */
export const backoffMs = (attempt: number, baseMs: number, maxMs: number, random: () => number = Math.random): number =>
  Math.min(maxMs, baseMs * 2 ** (attempt - 1)) * (0.5 + random() / 2);

/** Waits; rejects with the signal's reason at once when it aborts. */
export const delay = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });

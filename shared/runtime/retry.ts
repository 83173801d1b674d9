import { backoffMs } from '../connect/backoff.ts';
import { type ConnectError, toConnectError } from '../connect/errors.ts';
import type { ErrorPolicy } from '../connect/spec.ts';
import type { Clock } from './clock.ts';

const firstDelayMs = 300;

/**
 * Retries what is retriable, with backoff, up to `errors.retry.timeout` (Kafka Connect's rule) and never past the stop signal.
 * Throws the last error. `onRetry` is called before each wait; what it throws ends the retrying.
 */
export const withRetry = async <T>(
  call: () => Promise<T>,
  policy: ErrorPolicy,
  clock: Clock,
  stop: AbortSignal,
  onRetry: (error: ConnectError, attempt: number) => void,
): Promise<T> => {
  const startMs = clock.now();
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (thrown) {
      const error = toConnectError(thrown);
      const waitMs = backoffMs(attempt, firstDelayMs, policy.retryDelayMaxMs);
      const inTime = clock.now() - startMs + waitMs <= policy.retryTimeoutMs;
      const worthIt = error.retriable || error.blame === 'order';
      if (!worthIt || !inTime || stop.aborted) throw error;
      onRetry(error, attempt);
      // A stop during the wait ends it; the error that was being retried is what is reported.
      await clock.delay(waitMs, stop).catch(() => {
        throw error;
      });
    }
  }
};

import { setTimeout as delay } from 'node:timers/promises';

/** Waits for a condition instead of a time: resolves with the first value that is neither false nor undefined. */
export async function until<T>(
  check: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 15_000 }: { timeoutMs?: number } = {},
): Promise<T> {
  const deadlineMs = Date.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadlineMs) throw new Error(`not reached within ${timeoutMs} ms: ${check.toString()}`);
    await delay(5);
  }
}

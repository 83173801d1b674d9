/** The part of Lambda's context that the handlers read. */
export interface LambdaContext {
  readonly awsRequestId: string;
  getRemainingTimeInMillis(): number;
}

/** Before the deadline, the time that a put in progress and its commit may still take. */
const stopMarginMs = 10_000;
/** Before the deadline, when a put in progress is given up, so that the lease is still released. */
const abortMarginMs = 2_000;
/** After the deadline the function is dead; what it sent may be on its way this long, and clocks differ. */
export const leaseGraceMs = 10_000 + 5_000;

export interface Deadline extends Disposable {
  readonly stop: AbortSignal;
  readonly abort: AbortSignal;
  readonly leaseExpiresAtMs: number;
}

/** The run's signals. Disposing clears the timers: no timer outlives the handler (invariant 6). */
export const deadlineOf = (context: LambdaContext): Deadline => {
  const remainingMs = context.getRemainingTimeInMillis();
  const stop = new AbortController();
  const abort = new AbortController();
  const after = (marginMs: number, controller: AbortController) =>
    setTimeout(
      () => controller.abort(new Error('the time of this invocation is over')),
      Math.max(remainingMs - marginMs, 0),
    );
  // A function with a short timeout still works half of it.
  const timers = [
    after(Math.min(stopMarginMs, remainingMs / 2), stop),
    after(Math.min(abortMarginMs, remainingMs / 4), abort),
  ];
  return {
    stop: stop.signal,
    abort: abort.signal,
    leaseExpiresAtMs: Date.now() + remainingMs + leaseGraceMs,
    [Symbol.dispose]() {
      for (const timer of timers) clearTimeout(timer);
    },
  };
};
